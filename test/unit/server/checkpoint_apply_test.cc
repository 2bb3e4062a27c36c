// What a checkpoint does to the files.

#include "checkpoint_fixture.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

namespace slipway {
namespace {

std::uint64_t allocated(const std::string& path) {
  struct stat info {};

  REQUIRE(::stat(path.c_str(), &info) == 0);
  return static_cast<std::uint64_t>(info.st_blocks) * 512;
}

}  // namespace

TEST_CASE("a checkpoint writes data of every kind, in any order of parts") {
  CheckpointFixture f;
  constexpr std::size_t kPiece = 64 * 1024;
  std::string expected(8 * kPiece, 'o');
  write_file(f.path_of("vm/disk"), expected);
  const std::string text(kPiece, 'z');
  REQUIRE(f.stage(1, 1, Part().zstd(0, kPiece, text).range(0, StageKind::kZero, 2 * kPiece, kPiece))
              .has_value());
  REQUIRE(f.stage(1, 0,
                  Part()
                      .data(0, 3, "abc")
                      .range(0, StageKind::kHole, 4 * kPiece, 2 * kPiece)
                      .range(0, StageKind::kAllocate, 8 * kPiece, kPiece))
              .has_value());
  CHECK(content_of(f.path_of("vm/disk")) == expected);  // nothing before the commit
  const CommitFile file = f.file_of("vm/disk", expected.size());
  const CommitReply reply = f.commit_well(1, 2, {file});
  expected.replace(3, 3, "abc");
  expected.replace(kPiece, kPiece, text);
  expected.replace(2 * kPiece, kPiece, kPiece, '\0');
  expected.replace(4 * kPiece, 2 * kPiece, 2 * kPiece, '\0');
  CHECK(content_of(f.path_of("vm/disk")) == expected);
  REQUIRE(reply.files.size() == 1);
  CHECK(reply.files[0].status == 0);
  CHECK(reply.files[0].attributes.version == f.store->getattr({"vm/disk", {}}).value().version);
  CHECK(reply.files[0].attributes.version.mtime == file.mtime);
  CHECK(reply.files[0].attributes.version.size == expected.size());
  CHECK(!fs::exists(f.group_directory() + "/commit-1"));
  CHECK(!fs::exists(f.group_directory() + "/stage-1"));
}

TEST_CASE("a hole gives space back and an allocation reserves it without changing the size") {
  CheckpointFixture f;
  constexpr std::size_t kMegabyte = 1024 * 1024;
  write_file(f.path_of("vm/disk"), std::string(4 * kMegabyte, 'x'));
  const std::uint64_t before = allocated(f.path_of("vm/disk"));
  REQUIRE(f.stage(1, 0, Part().range(0, StageKind::kHole, kMegabyte, 2 * kMegabyte)).has_value());
  f.commit_well(1, 1, {f.file_of("vm/disk", 4 * kMegabyte)});
  CHECK(allocated(f.path_of("vm/disk")) <= before - 2 * kMegabyte);
  REQUIRE(f.stage(2, 0, Part().range(0, StageKind::kAllocate, 0, 6 * kMegabyte)).has_value());
  f.commit_well(2, 1, {f.file_of("vm/disk", 4 * kMegabyte)});
  CHECK(allocated(f.path_of("vm/disk")) >= 6 * kMegabyte);
  CHECK(fs::file_size(f.path_of("vm/disk")) == 4 * kMegabyte);
}

TEST_CASE("files become shorter and longer, and what a truncation took reads as zeros") {
  CheckpointFixture f;
  write_file(f.path_of("vm/disk"), "0123456789");
  f.commit_well(1, 0, {f.file_of("vm/disk", 4)});
  CHECK(content_of(f.path_of("vm/disk")) == "0123");
  f.commit_well(2, 0, {f.file_of("vm/disk", 6)});
  CHECK(content_of(f.path_of("vm/disk")) == std::string("0123\0\0", 6));
  // Cut to 2 bytes, made 8 long, written at 5: 2 to 5 are zeros.
  CommitFile file = f.file_of("vm/disk", 8);
  file.keep = 2;
  REQUIRE(f.stage(3, 0, Part().data(0, 5, "ab")).has_value());
  f.commit_well(3, 1, {file});
  CHECK(content_of(f.path_of("vm/disk")) == std::string("01\0\0\0ab\0", 8));
}

TEST_CASE("nothing is written past the size that a file shall have") {
  CheckpointFixture f;
  REQUIRE(
      f.stage(1, 0,
              Part().data(0, 2, "abcdef").data(0, 100, "gone").range(0, StageKind::kZero, 50, 9))
          .has_value());
  f.commit_well(1, 1, {f.file_of("vm/disk", 5)});
  CHECK(content_of(f.path_of("vm/disk")) == "diabc");
}

TEST_CASE("a checkpoint may come again in whole or in part, and is applied once") {
  CheckpointFixture f;
  const CommitFile file = f.file_of("vm/disk", 4);
  REQUIRE(f.stage(5, 0, Part().data(0, 0, "A")).has_value());
  REQUIRE(f.stage(5, 0, Part().data(0, 0, "A")).has_value());  // is there already
  const CommitReply first = f.commit_well(5, 1, {file});
  CHECK(content_of(f.path_of("vm/disk")) == "Aisk");
  write_file(f.path_of("vm/disk"), "else");
  REQUIRE(f.stage(5, 0, Part().data(0, 0, "C")).has_value());
  const CommitReply again = f.commit_well(5, 1, {file});
  CHECK(again.files[0].attributes == first.files[0].attributes);
  f.reopen();
  CHECK(f.commit_well(5, 1, {file}).files[0].attributes == first.files[0].attributes);
  CHECK(content_of(f.path_of("vm/disk")) == "else");
  CHECK(f.commit(4, 0, {file}).error().code == ErrorCode::kInvalid);
  CHECK(f.stage(4, 0, Part().data(0, 0, "D")).has_value());
  CHECK(!fs::exists(f.group_directory() + "/stage-4"));
}

TEST_CASE("a commit needs all its parts") {
  CheckpointFixture f;
  const CommitFile file = f.file_of("vm/disk", 4);
  CHECK(f.commit(1, 1, {file}).error().code == ErrorCode::kInvalid);
  REQUIRE(f.stage(1, 1, Part().data(0, 0, "A")).has_value());
  CHECK(f.commit(1, 2, {file}).error().code == ErrorCode::kInvalid);
  f.reopen();  // what was staged stays for this client
  REQUIRE(f.stage(1, 0, Part().data(0, 1, "B")).has_value());
  CHECK(f.commit(1, 2, {}).error().code == ErrorCode::kInvalid);  // of a file that is not there
  CHECK(f.commit(1, 2, {file, file}).error().code == ErrorCode::kInvalid);
  CHECK(content_of(f.path_of("vm/disk")) == "disk");
  f.commit_well(1, 2, {file});
  CHECK(content_of(f.path_of("vm/disk")) == "ABsk");
}

TEST_CASE("two checkpoints may be staged at once; newer ones take the place of older ones") {
  CheckpointFixture f;
  for (std::uint64_t checkpoint = 2; checkpoint <= 4; ++checkpoint) {
    REQUIRE(
        f.stage(checkpoint, 0, Part().data(0, checkpoint - 2, "ABC").data(0, 9, "x")).has_value());
    CHECK(fs::exists(f.group_directory() + "/stage-2") == (checkpoint < 4));
  }
  CHECK(f.stage(2, 1, Part().data(0, 0, "C")).error().code == ErrorCode::kInvalid);
  f.commit_well(3, 1, {f.file_of("vm/disk", 4)});
  CHECK(content_of(f.path_of("vm/disk")) == "dABC");
  REQUIRE(f.stage(5, 0, Part().data(0, 0, "E")).has_value());
  f.commit_well(5, 1, {f.file_of("vm/disk", 4)});
  CHECK(content_of(f.path_of("vm/disk")) == "EABC");
  CHECK(!fs::exists(f.group_directory() + "/stage-4"));
  CHECK(f.commit(4, 1, {f.file_of("vm/disk", 4)}).error().code == ErrorCode::kInvalid);
}

TEST_CASE("parts of the next checkpoint come while one is committed") {
  CheckpointFixture f;
  write_file(f.path_of("vm/disk"), std::string(64, '0'));
  for (std::uint64_t checkpoint = 1; checkpoint <= 20; ++checkpoint) {
    const std::string text(64, static_cast<char>('a' + checkpoint));
    if (checkpoint == 1)
      REQUIRE(f.stage(checkpoint, 0, Part().data(0, 0, text)).has_value());
    const CommitFile file = f.file_of("vm/disk", 64);
    bool is_staged = false;
    std::thread next([&] {
      const std::string following(64, static_cast<char>('a' + checkpoint + 1));
      StageRequest request;
      request.group = kGroup;
      request.checkpoint = checkpoint + 1;
      const Bytes bytes(as_bytes(following).begin(), as_bytes(following).end());
      request.extents = {{0, StageKind::kData, 0, 64, 64}};
      request.data = bytes;
      is_staged = f.checkpoints->stage(request).has_value();
    });
    const auto reply = f.commit(checkpoint, 1, {file});
    next.join();
    REQUIRE(is_staged);
    REQUIRE(reply.has_value());
    REQUIRE(content_of(f.path_of("vm/disk")) == text);
  }
}

TEST_CASE("a file without a name is written to through the handle that is open on it") {
  CheckpointFixture f;
  CommitFile file = f.file_of("vm/disk", 6);
  file.handle = 3;
  // Its client has removed the name itself; who did not know gets a copy.
  const bool is_known = GENERATE(true, false);
  if (is_known)
    file.node.path.clear();
  const UniqueFd reader(::open(f.path_of("vm/disk").c_str(), O_RDONLY | O_CLOEXEC));
  REQUIRE(f.handles
              .insert(3, std::make_unique<WritableFile>(
                             ::open(f.path_of("vm/disk").c_str(), O_RDWR | O_CLOEXEC)))
              .has_value());
  REQUIRE(f.stage(1, 0, Part().data(0, 4, "+!")).has_value());
  fs::remove(f.path_of("vm/disk"));
  // Another one that has the name now is not touched.
  const bool is_replaced = GENERATE(false, true);
  if (is_replaced)
    write_file(f.path_of("vm/disk"), "other");
  const CommitReply reply = f.commit_well(1, 1, {file});
  if (!is_known) {
    CHECK(reply.files[0].status != 0);
    CHECK(!reply.files[0].conflict_name.empty());
    return;
  }
  CHECK(reply.files[0].status == 0);
  CHECK(reply.files[0].attributes.nlink == 0);
  std::string got(6, '\0');
  REQUIRE(pread_full(reader.get(), std::as_writable_bytes(std::span(got)), 0).value() == 6);
  CHECK(got == "disk+!");
  if (is_replaced)
    CHECK(content_of(f.path_of("vm/disk")) == "other");
}

TEST_CASE("a file that is refused stops no other") {
  CheckpointFixture f;
  write_file(f.path_of("vm/a"), "aaaa");
  write_file(f.path_of("vm/b"), "bbbb");
  const CommitFile a = f.file_of("vm/a", 4);
  const CommitFile b = f.file_of("vm/b", 4);
  CommitFile directory = f.file_of("vm/deep", 4);
  REQUIRE(f.stage(1, 0, Part().data(0, 0, "A").data(1, 0, "X").data(2, 0, "B")).has_value());
  const CommitReply reply = f.commit_well(1, 1, {a, directory, b});
  REQUIRE(reply.files.size() == 3);
  CHECK(reply.files[0].status == 0);
  CHECK(reply.files[1].status == number_of(ErrorCode::kIsDirectory));
  CHECK(reply.files[1].conflict_name.empty());
  CHECK(reply.files[2].status == 0);
  CHECK(content_of(f.path_of("vm/a")) == "Aaaa");
  CHECK(content_of(f.path_of("vm/b")) == "Bbbb");
}

TEST_CASE("a size that can't be is refused for that file") {
  CheckpointFixture f;
  write_file(f.path_of("vm/probe"), "");
  if (::truncate(f.path_of("vm/probe").c_str(), static_cast<off_t>(kFileSizeMax)) == 0)
    return;  // here (tmpfs) it can
  const CommitReply reply = f.commit_well(1, 0, {f.file_of("vm/disk", kFileSizeMax)});
  CHECK(reply.files[0].status == number_of(ErrorCode::kFileTooBig));
  CHECK(content_of(f.path_of("vm/disk")) == "disk");
}

TEST_CASE("a frame that is none is refused when it is staged") {
  CheckpointFixture f;
  Part part = Part().zstd(0, 0, std::string(4096, 'x'));
  part.bytes[part.bytes.size() - 1] ^= std::byte{0xff};
  part.bytes[6] ^= std::byte{0xff};
  CHECK(f.stage(1, 0, part).error().code == ErrorCode::kInvalid);
}

TEST_CASE("without space nothing changes, and the commit succeeds once there is some") {
  if (::geteuid() != 0)
    return;  // needs privileges
  CheckpointFixture f;
  REQUIRE(::mount("tmpfs", f.path_of("vm/deep").c_str(), "tmpfs", 0, "size=4m") == 0);
  write_file(f.path_of("vm/deep/ballast"), std::string(2 * 1024 * 1024, 'b'));
  write_file(f.path_of("vm/deep/image"), std::string(8192, 'i'));
  const CommitFile image = f.file_of("vm/deep/image", 3 * 1024 * 1024);
  const CommitFile disk = f.file_of("vm/disk", 4);
  std::vector<std::string> pieces;
  for (std::uint32_t i = 0; i < 24; ++i)
    REQUIRE(f.stage(1, i, Part().data(0, i * 131072, std::string(131072, 'n'))).has_value());
  REQUIRE(f.stage(1, 24, Part().data(1, 0, "D")).has_value());
  CHECK(f.commit(1, 25, {image, disk}).error().code == ErrorCode::kNoSpace);
  CHECK(content_of(f.path_of("vm/disk")) == "disk");
  CHECK(content_of(f.path_of("vm/deep/image")) == std::string(8192, 'i'));
  CHECK(!fs::exists(f.group_directory() + "/commit-1"));
  fs::remove(f.path_of("vm/deep/ballast"));
  CHECK(f.commit_well(1, 25, {image, disk}).files[0].status == 0);
  CHECK(content_of(f.path_of("vm/disk")) == "Disk");
  f.store.reset();
  REQUIRE(::umount2(f.path_of("vm/deep").c_str(), MNT_DETACH) == 0);
}

TEST_CASE("a sum of bytes that 64 bits can't hold is too large for any file system") {
  CHECK(add_saturated(UINT64_MAX - 5, 5) == UINT64_MAX);
  CHECK(add_saturated(UINT64_MAX - 5, 6) == UINT64_MAX);
  CHECK(add_saturated(UINT64_MAX, UINT64_MAX) == UINT64_MAX);
  CHECK(add_saturated(3, 4) == 7);
  constexpr std::uint64_t kMetadata = 256 * 1024;
  constexpr std::uint64_t kBlock = 4096;
  constexpr std::uint64_t kFree = 1000;
  constexpr std::uint64_t kMost = kFree * kBlock - kMetadata - 1;
  CHECK(is_room(kMost, kBlock, kFree));
  CHECK(!is_room(kMost + 1, kBlock, kFree));
  CHECK(!is_room(UINT64_MAX, kBlock, kFree));
  CHECK(!is_room(UINT64_MAX - kMetadata + 1, kBlock, kFree));
  CHECK(!is_room(1, kBlock, 0));
  CHECK(is_room(0, kBlock, 0));  // who only cuts files gets on with a full disk
}

TEST_CASE("zeros without end are refused for lack of space, and nothing is committed") {
  if (::geteuid() != 0)
    return;  // needs privileges
  CheckpointFixture f;
  REQUIRE(::mount("tmpfs", f.path_of("vm/deep").c_str(), "tmpfs", 0, "size=4m") == 0);
  write_file(f.path_of("vm/deep/image"), "image");
  constexpr std::uint64_t kWhole = kFileSizeMax;  // four of them are 0 modulo 2^64
  Part part;
  for (int i = 0; i < 4; ++i)
    part.range(0, StageKind::kZero, 0, kWhole);
  REQUIRE(f.stage(1, 0, part).has_value());
  CHECK(f.commit(1, 1, {f.file_of("vm/deep/image", kWhole)}).error().code == ErrorCode::kNoSpace);
  CHECK(!fs::exists(f.group_directory() + "/commit-1"));
  CHECK(content_of(f.path_of("vm/deep/image")) == "image");
  // Zeros behind the file's end need no space.
  CHECK(f.commit_well(1, 1, {f.file_of("vm/deep/image", 5)}).files[0].status == 0);
  CHECK(content_of(f.path_of("vm/deep/image")) == std::string(5, '\0'));
  f.store.reset();
  REQUIRE(::umount2(f.path_of("vm/deep").c_str(), MNT_DETACH) == 0);
}

}  // namespace slipway
