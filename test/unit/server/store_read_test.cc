// Reads: runs of data and holes, and files that change meanwhile.

#include "store_fixture.h"

#include <atomic>
#include <chrono>
#include <fcntl.h>
#include <thread>
#include <unistd.h>

namespace slipway {

TEST_CASE("holes, data and a short tail come as runs of whole units") {
  const ExportFixture f;
  const std::string path = f.root + "/sparse";
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  const std::uint64_t size = 100 * kUnitSize + 5000;
  REQUIRE(::ftruncate(fd.get(), static_cast<off_t>(size)) == 0);
  // One byte makes its whole unit data, whatever the file system's blocks are.
  const std::byte one[1] = {std::byte{7}};
  REQUIRE(pwrite_full(fd.get(), one, 10 * kUnitSize + 9000).has_value());
  REQUIRE(pwrite_full(fd.get(), one, size - 1).has_value());
  const auto file = f.store->open({"sparse", {}}).value();
  Bytes data;
  const ImageChunk chunk = read(*file, {0, 200 * kUnitSize}, data);
  CHECK(chunk.end == size);
  REQUIRE(chunk.runs.size() == 4);
  CHECK(chunk.runs[0].kind == ImageRunKind::kHole);
  CHECK(chunk.runs[0].range == ByteRange{0, 10 * kUnitSize});
  CHECK(chunk.runs[1].kind == ImageRunKind::kData);
  CHECK(chunk.runs[1].range == ByteRange{10 * kUnitSize, kUnitSize});
  CHECK(chunk.runs[2].range == ByteRange{11 * kUnitSize, 89 * kUnitSize});
  CHECK(chunk.runs[3].range == ByteRange{100 * kUnitSize, 5000});
  REQUIRE(data.size() == kUnitSize + 5000);
  CHECK(data[9000] == std::byte{7});
  CHECK(data.back() == std::byte{7});

  const ImageChunk limited = read(*file, {0, 200 * kUnitSize}, data, kUnitSize);
  CHECK(limited.end == 100 * kUnitSize);  // through the second hole, up to data that has no room
  CHECK(data.size() == kUnitSize);
  const ImageChunk behind = read(*file, {300 * kUnitSize, kUnitSize}, data);
  CHECK(behind.runs.empty());
  CHECK(data.empty());
}

TEST_CASE(
    "a file that changes while it is read gives one version, marked young, or says that it "
    "changes") {
  const ExportFixture f;
  const std::string path = f.root + "/moving";
  write_file(path, std::string(256 * 1024, 'a'));
  const auto file = f.store->open({"moving", {}}).value();
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    for (int i = 0; !stop; ++i) {
      const Bytes content(256 * 1024, static_cast<std::byte>('b' + i % 20));
      (void)pwrite_full(fd.get(), content, 0);
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  });
  int whole = 0;
  for (int i = 0; i < 300; ++i) {
    Bytes data;
    const auto chunk = file->read({{0, 256 * 1024}, 256 * 1024}, data);
    if (!chunk) {
      CHECK(chunk.error().code == ErrorCode::kChanging);
      CHECK(data.empty());
      continue;
    }
    CHECK(chunk->young);  // so that the client fetches it again
    ++whole;
  }
  stop = true;
  writer.join();
  CHECK(whole > 0);
}

TEST_CASE("a file that shrinks while it is read is reported with the size that was read") {
  const ExportFixture f;
  const std::string path = f.root + "/shrinking";
  write_file(path, std::string(8 * kUnitSize, 'x'));
  const auto file = f.store->open({"shrinking", {}}).value();
  REQUIRE(::truncate(path.c_str(), kUnitSize + 1) == 0);
  Bytes data;
  const ImageChunk chunk = read(*file, {0, 8 * kUnitSize}, data);
  CHECK(chunk.version.size == kUnitSize + 1);
  CHECK(chunk.end == kUnitSize + 1);
  CHECK(data.size() == kUnitSize + 1);
}

TEST_CASE("what a read returns fits the version that it names, while the file shrinks and grows") {
  const ExportFixture f;
  const std::string path = f.root + "/breathing";
  write_file(path, std::string(64 * kUnitSize, 'x'));
  const auto file = f.store->open({"breathing", {}}).value();
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    const Bytes content(64 * kUnitSize, std::byte{'x'});
    while (!stop) {
      if (::ftruncate(fd.get(), kUnitSize) == 0)
        (void)pwrite_full(fd.get(), content, 0);
    }
  });
  for (int i = 0; i < 2000; ++i) {
    Bytes data;
    const auto chunk = file->read({{0, 64 * kUnitSize}, 64 * kUnitSize}, data);
    if (!chunk)
      continue;
    std::uint64_t at = 0;
    std::uint64_t data_size = 0;
    for (const ImageRun& run : chunk->runs) {
      REQUIRE(run.range.offset == at);
      at = run.range.end();
      data_size += run.kind == ImageRunKind::kData ? run.range.length : 0;
    }
    REQUIRE(at == chunk->version.size);
    REQUIRE(chunk->end == at);
    REQUIRE(data.size() == data_size);
  }
  stop = true;
  writer.join();
}

}  // namespace slipway
