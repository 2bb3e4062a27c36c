#include "mounted.h"
#include "support/catch.h"

#include <cstring>
#include <sys/mman.h>

using namespace slipway;

namespace {

struct Mapping {
  Mapping(int fd, std::size_t length, int flags)
      : size(length), at(::mmap(nullptr, length, PROT_READ, flags, fd, 0)) {}

  ~Mapping() { ::munmap(at, size); }

  std::string bytes() const { return std::string(static_cast<const char*>(at), size); }

  std::size_t size;
  void* at;
};

}  // namespace

TEST_CASE("a file can be mapped shared and private") {
  Mounted mount;
  const std::string content = pattern(3 * kMiB, 3);
  mount.tree.add("vm.mem", FileType::kRegular, content);
  const UniqueFd fd = open_file(mount / "vm.mem");
  for (const int flags : {MAP_SHARED, MAP_PRIVATE}) {
    const Mapping mapping(fd.get(), content.size(), flags);
    REQUIRE(mapping.at != MAP_FAILED);
    CHECK(difference(mapping.bytes(), content) == "");
  }
}

TEST_CASE("a file can be read with O_DIRECT") {
  Mounted mount;
  const std::string content = pattern(2 * kMiB + 512, 4);
  mount.tree.add("disk", FileType::kRegular, content);
  const UniqueFd fd = open_file(mount / "disk", O_RDONLY | O_DIRECT);
  REQUIRE(fd);
  void* memory = nullptr;
  REQUIRE(::posix_memalign(&memory, 4096, 4 * kMiB) == 0);
  const ssize_t n = ::pread(fd.get(), memory, 4 * kMiB, 4096);
  CHECK(n == static_cast<ssize_t>(content.size() - 4096));
  CHECK(std::memcmp(memory, content.data() + 4096, content.size() - 4096) == 0);
  std::free(memory);
}

TEST_CASE("SEEK_HOLE and SEEK_DATA find the holes of the server's file, exactly") {
  Mounted mount;
  std::string content = pattern(40 * kMiB + 100, 5);
  mount.tree.add("sparse", FileType::kRegular, content);
  // A hole of two units, and a long one over several steps.
  const std::uint64_t hole = 3 * kMiB;
  const std::uint64_t long_hole = 5 * kMiB;
  const std::uint64_t long_end = 39 * kMiB;
  mount.tree.punch("sparse", hole, hole + 2 * kUnitSize);
  mount.tree.punch("sparse", long_hole, long_end);
  const UniqueFd fd = open_file(mount / "sparse");
  const auto seek = [&](std::uint64_t at, int whence) {
    return ::lseek(fd.get(), static_cast<off_t>(at), whence);
  };
  CHECK(seek(0, SEEK_DATA) == 0);
  CHECK(seek(77, SEEK_DATA) == 77);
  CHECK(seek(0, SEEK_HOLE) == static_cast<off_t>(hole));
  CHECK(seek(hole + 5, SEEK_HOLE) == static_cast<off_t>(hole + 5));
  CHECK(seek(hole + 5, SEEK_DATA) == static_cast<off_t>(hole + 2 * kUnitSize));
  CHECK(seek(long_hole, SEEK_DATA) == static_cast<off_t>(long_end));
  CHECK(seek(long_hole - 1, SEEK_HOLE) == static_cast<off_t>(long_hole));
  CHECK(seek(long_end, SEEK_HOLE) == static_cast<off_t>(content.size()));
  CHECK(seek(content.size(), SEEK_HOLE) == -1);
  CHECK(errno == ENXIO);
  CHECK(errno_of(seek(content.size() + 1, SEEK_DATA)) == ENXIO);
  // A hole reads as zeros between data.
  const std::string around = read_at(fd.get(), 64 * 1024, static_cast<off_t>(hole - 16 * 1024));
  std::string expected = content.substr(hole - 16 * 1024, 16 * 1024);
  expected += std::string(2 * kUnitSize, '\0');
  expected += content.substr(hole + 2 * kUnitSize, 16 * 1024);
  CHECK(difference(around, expected) == "");
}

TEST_CASE("content with a gap is an error, never a short or shifted read") {
  Mounted mount;
  mount.tree.add("disk", FileType::kRegular, pattern(2 * kMiB, 6));
  const UniqueFd fd = open_file(mount / "disk", O_RDONLY | O_DIRECT);
  alignas(4096) static char memory[131072];
  mount.source.lose_a_piece = true;
  CHECK(errno_of(::pread(fd.get(), memory, sizeof memory, 0)) == EIO);
  mount.source.lose_a_piece = false;
  CHECK(::pread(fd.get(), memory, sizeof memory, 0) == sizeof memory);
}

TEST_CASE("pages stay in the kernel over close and open while the file is the same") {
  Mounted mount;
  const std::string content = pattern(kMiB + 1, 7);
  mount.tree.add("disk", FileType::kRegular, content);
  CHECK(difference(read_all(mount / "disk"), content) == "");
  const auto reads = mount.fs().stats().reads;
  CHECK(difference(read_all(mount / "disk"), content) == "");
  CHECK(mount.fs().stats().reads == reads);
}
