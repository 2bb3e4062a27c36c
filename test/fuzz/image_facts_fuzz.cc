#include "fuzz_target.h"
#include "manifest/image_facts.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <string_view>

using namespace slipway;

namespace {

// The first byte of an input chooses the name, and with it which readers see the rest.
constexpr std::array<std::string_view, 10> kNames = {
    "image",   "disk.img", "disk.qcow2", "disk.vmdk", "vm.vmx",
    "vm.vmsd", "vm.vmss",  "vm.vmsn",    "memory",    "snapshot_file"};

class FuzzImage final : public ImageBytes {
 public:
  explicit FuzzImage(ByteView content) : content_(content) {}

  std::uint64_t size() const noexcept override { return content_.size(); }

  Status read(std::uint64_t offset, MutableBytes to) override {
    assert(offset <= content_.size() && to.size() <= content_.size() - offset);
    read_ += to.size();
    assert(read_ <= kFactsBytesMax);
    std::copy_n(content_.begin() + static_cast<std::ptrdiff_t>(offset), to.size(), to.begin());
    return {};
  }

 private:
  ByteView content_;
  std::uint64_t read_ = 0;
};

void check_names(const ImageFacts& facts) {
  assert(facts.names.size() <= kNamedFilesMax);
  for (const std::string& name : facts.names) {
    assert(!name.empty() && name.size() <= 4095);
    assert(name.find('\0') == name.npos && name.find('\n') == name.npos);
  }
}

void check_metadata(const ImageFacts& facts, std::uint64_t size) {
  assert(facts.metadata.size() <= kMetadataRangesMax);
  std::uint64_t last = 0;
  for (const ByteRange& range : facts.metadata) {
    assert(!range.empty() && range.end() <= size);
    assert(&range == &facts.metadata.front() || range.offset > last);
    last = range.end();
  }
}

}  // namespace

/// A name and an image's whole content.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteView input = fuzz_input(data, size);
  if (input.empty())
    return 0;
  const std::string_view name = kNames[std::to_integer<std::size_t>(input[0]) % kNames.size()];
  FuzzImage image(input.subspan(1));
  const ImageFacts facts = read_image_facts(name, image);
  check_names(facts);
  check_metadata(facts, image.size());
  assert(!facts.format.empty());
  assert(facts.complaint.find('\n') == facts.complaint.npos);
  return 0;
}
