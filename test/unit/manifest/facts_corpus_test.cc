#include "base/unique_fd.h"
#include "facts_support.h"

#include <cstdlib>

using namespace slipway;

namespace {

struct Seed {
  std::string file;
  char name;  // which of the names in test/fuzz/image_facts_fuzz.cc
  std::string content;
};

std::vector<Seed> seeds() {
  return {{"qcow2.bin", 2, qcow2_sample().str()},
          {"vmdk_sparse.bin", 3, vmdk_sample().str()},
          {"vmdk_descriptor.bin", 3, std::string(kDescriptor)},
          {"vmx.bin", 4, std::string(kVmx)},
          {"libvirt_save.bin", 0, libvirt_sample().str()},
          {"firecracker.bin", 9, Content(64).little<std::uint64_t>(0, 0x0710198486640000).str()},
          {"vmss.bin", 6, Content(64).little<std::uint32_t>(0, 0xbed2bed2).str()}};
}

}  // namespace

// SLIPWAY_ACCEPT_GOLDEN=1 writes them anew.
TEST_CASE("the fuzzer starts from images that the readers understand") {
  for (const Seed& seed : seeds()) {
    CAPTURE(seed.file);
    const std::string path = std::string(SLIPWAY_FUZZ_SEEDS) + "/" + seed.file;
    const std::string content = seed.name + seed.content;
    if (std::getenv("SLIPWAY_ACCEPT_GOLDEN") != nullptr)
      REQUIRE(replace_file(path, content, 0644).has_value());
    CHECK(read_small_file(path, 1 << 20).value_or("") == content);
  }
}
