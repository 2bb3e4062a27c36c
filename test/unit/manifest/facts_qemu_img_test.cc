#include "base/unique_fd.h"
#include "facts_support.h"
#include "support/temp_dir.h"

#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <numeric>
#include <unistd.h>

// Images as QEMU makes them, so that what the other tests make by hand is not our own reading of
// the formats only. qemu-img is installed for the long tests; without it there is a warning.

using namespace slipway;

namespace {

using Names = std::vector<std::string>;

constexpr std::uint64_t kCluster = 64 * 1024;  // bytes; QEMU's default for qcow2

class FileImage final : public ImageBytes {
 public:
  explicit FileImage(const std::string& path)
      : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)), size_(std::filesystem::file_size(path)) {
    REQUIRE(fd_.get() >= 0);
  }

  std::uint64_t size() const noexcept override { return size_; }

  Status read(std::uint64_t offset, MutableBytes to) override {
    REQUIRE(::pread(fd_.get(), to.data(), to.size(), static_cast<off_t>(offset)) ==
            static_cast<ssize_t>(to.size()));
    return {};
  }

 private:
  UniqueFd fd_;
  std::uint64_t size_;
};

/// A directory in which QEMU's tools run.
class QemuImages {
 public:
  bool has_tools() const {
    if (std::system("qemu-img --version >/dev/null 2>&1 && qemu-io --version >/dev/null 2>&1") == 0)
      return true;
    WARN("no qemu-img and qemu-io: images made by QEMU were not checked");
    return false;
  }

  void run(const std::string& command) {
    CAPTURE(command);
    REQUIRE(std::system(("cd '" + dir_.path() + "' && " + command + " >/dev/null").c_str()) == 0);
  }

  ImageFacts facts(const std::string& name) {
    FileImage image(dir_ / name);
    const ImageFacts facts = read_image_facts(name, image);
    CHECK(facts.complaint == "");
    for (const ByteRange& range : facts.metadata)
      CHECK(range.end() <= image.size());
    return facts;
  }

 private:
  TempDir dir_;
};

std::uint64_t total(const std::vector<ByteRange>& ranges) {
  return std::accumulate(ranges.begin(), ranges.end(), std::uint64_t{0},
                         [](std::uint64_t sum, const ByteRange& r) { return sum + r.length; });
}

}  // namespace

TEST_CASE("QEMU's qcow2: header, L1, refcount table and the L2 tables in use are the metadata") {
  QemuImages images;
  if (!images.has_tools())
    return;
  images.run("qemu-img create -f raw base.raw 8G");
  const std::string compat = GENERATE("0.10", "1.1");
  images.run("qemu-img create -f qcow2 -o compat=" + compat + " -b base.raw -F raw disk.qcow2");
  // An L2 table covers 512 MiB: two of the 16 come into use.
  images.run("qemu-io -c 'write 0 64k' -c 'write 3G 64k' disk.qcow2");
  const ImageFacts facts = images.facts("disk.qcow2");
  CHECK(facts.format == "qcow2");
  CHECK(facts.names == Names{"base.raw"});
  constexpr std::uint64_t kL1 = 16 * 8;
  CHECK(total(facts.metadata) == kCluster + kL1 + kCluster + 2 * kCluster);
}

TEST_CASE("QEMU's qcow2 with extended L2 entries and a data file of its own") {
  QemuImages images;
  if (!images.has_tools())
    return;
  images.run("qemu-img create -f qcow2 -o data_file=disk.data,extended_l2=on disk.qcow2 1G");
  images.run("qemu-io -c 'write 0 64k' disk.qcow2");
  const ImageFacts facts = images.facts("disk.qcow2");
  CHECK(facts.names == Names{"disk.data"});
  CHECK(total(facts.metadata) == kCluster + 4 * 8 + kCluster + kCluster);
}

TEST_CASE("QEMU's sparse vmdk: directory and tables are the metadata, the parent is named") {
  QemuImages images;
  if (!images.has_tools())
    return;
  images.run("qemu-img create -f vmdk base.vmdk 1G");
  images.run("qemu-img create -f vmdk -b base.vmdk -F vmdk disk.vmdk");
  images.run("qemu-io -c 'write 0 64k' -c 'write 800M 64k' disk.vmdk");
  const ImageFacts facts = images.facts("disk.vmdk");
  CHECK(facts.format == "vmdk-sparse");
  CHECK(facts.names == Names{"base.vmdk"});
  // Header, 20 sectors of descriptor, 32 entries, as many tables of 2 KiB.
  CHECK(total(facts.metadata) == 512 + 20 * 512 + 32 * 4 + 32 * 2048);
  CHECK(images.facts("base.vmdk").names.empty());
}

TEST_CASE("QEMU's split and flat vmdk name their extents") {
  QemuImages images;
  if (!images.has_tools())
    return;
  images.run("qemu-img create -f vmdk -o subformat=twoGbMaxExtentSparse split.vmdk 3G");
  const ImageFacts split = images.facts("split.vmdk");
  CHECK(split.format == "vmdk-descriptor");
  CHECK(split.names == Names{"split-s001.vmdk", "split-s002.vmdk"});
  CHECK(images.facts("split-s001.vmdk").format == "vmdk-sparse");
  images.run("qemu-img create -f vmdk -o subformat=monolithicFlat flat.vmdk 64M");
  CHECK(images.facts("flat.vmdk").names == Names{"flat-flat.vmdk"});
  CHECK(images.facts("flat-flat.vmdk").format == "vmdk-flat");
}

TEST_CASE("QEMU's other formats are disks") {
  QemuImages images;
  if (!images.has_tools())
    return;
  images.run("qemu-img create -f raw a.raw 64M");
  images.run("qemu-io -f raw -c 'write 0 1M' a.raw");
  images.run("qemu-img convert -O vmdk -o subformat=streamOptimized a.raw stream.vmdk");
  CHECK(images.facts("stream.vmdk").format == "vmdk-stream");
  CHECK(images.facts("stream.vmdk").metadata.size() > 1);
  for (const std::string format : {"vdi", "vhdx", "qcow"}) {
    images.run("qemu-img create -f " + format + " unnamed-" + format + " 64M");
    CHECK(images.facts("unnamed-" + format).format == format);
  }
  images.run("qemu-img create -f vpc unnamed-vpc 64M");
  CHECK(images.facts("unnamed-vpc").format == "vhd");
}
