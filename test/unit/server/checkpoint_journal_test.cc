// The journal as a file: damage, strangers, limits.

#include "checkpoint_fixture.h"

#include <fcntl.h>
#include <filesystem>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utime.h>

namespace slipway {
namespace {

void flip_from_end(const std::string& path, std::int64_t from_end) {
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  const off_t at = ::lseek(fd.get(), 0, SEEK_END) - from_end;
  std::byte byte{};
  REQUIRE(::pread(fd.get(), &byte, 1, at) == 1);
  byte ^= std::byte{1};
  REQUIRE(::pwrite(fd.get(), &byte, 1, at) == 1);
}

/// Reads as a journal what a file holds.
Result<JournalFile> read_copy(const JournalHead& head, ByteView bytes) {
  UniqueFd fd(::memfd_create("journal", MFD_CLOEXEC));
  REQUIRE(write_full(fd.get(), bytes).has_value());
  return JournalFile::read(std::move(fd), head);
}

Bytes part_body(const JournalHead& head, std::uint32_t part, const std::string& text) {
  const Part made = Part().data(0, 0, text);
  StageRequest request;
  request.group = head.group;
  request.checkpoint = head.checkpoint;
  request.part = part;
  request.extents = made.extents;
  request.data = made.bytes;
  Bytes body;
  encode(body, request);
  return body;
}

}  // namespace

TEST_CASE("a journal that was cut or damaged anywhere is read up to there") {
  const JournalHead head{kThisClient, kGroup, 77};
  Bytes bytes;
  encode(bytes, head);
  const std::size_t first = bytes.size();
  append(bytes, encode_record(JournalRecordKind::kPart, 0, part_body(head, 0, "abc"), 77));
  const std::size_t second = bytes.size();
  append(bytes, encode_record(JournalRecordKind::kPart, 1, part_body(head, 1, "de"), 77));
  for (std::size_t length = 0; length <= bytes.size(); ++length) {
    const auto journal = read_copy(head, ByteView(bytes).first(length));
    REQUIRE(journal.has_value() == (length >= first));
    if (journal) {
      CHECK(journal->has(0) == (length >= second));
      CHECK(journal->has(1) == (length == bytes.size()));
      CHECK(journal->has_torn_end() ==
            (length != first && length != second && length != bytes.size()));
    }
  }
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    bytes[at] ^= std::byte{0x10};
    const auto journal = read_copy(head, bytes);
    CAPTURE(at);
    REQUIRE(journal.has_value() == (at >= first));
    if (journal)
      CHECK((journal->has(0) == (at >= second) && !journal->has(1)));
    bytes[at] ^= std::byte{0x10};
  }
  CHECK(!read_copy({kThisClient, kGroup, 78}, bytes).has_value());
  CHECK(!read_copy({kOtherClient, kGroup, 77}, bytes).has_value());
}

TEST_CASE("records of another checkpoint are not believed") {
  const Bytes record = encode_record(JournalRecordKind::kPart, 0, as_bytes("body"), 1);
  CHECK(decode_record(record, 1).has_value());
  CHECK(!decode_record(record, 2).has_value());
}

TEST_CASE("a part that was damaged on the disk can be staged again") {
  CheckpointFixture f;
  const CommitFile file = f.file_of("vm/disk", 4);
  REQUIRE(f.stage(1, 0, Part().data(0, 0, "A")).has_value());
  REQUIRE(f.stage(1, 1, Part().data(0, 1, "B")).has_value());
  flip_from_end(f.group_directory() + "/stage-1", 10);
  if (GENERATE(false, true))
    f.reopen();
  CHECK(f.commit(1, 2, {file}).error().code == ErrorCode::kInvalid);
  CHECK(content_of(f.path_of("vm/disk")) == "disk");
  REQUIRE(f.stage(1, 0, Part().data(0, 0, "A")).has_value());  // is still there
  REQUIRE(f.stage(1, 1, Part().data(0, 1, "Y")).has_value());
  f.commit_well(1, 2, {file});
  CHECK(content_of(f.path_of("vm/disk")) == "AYsk");
}

TEST_CASE("a part that comes again with other bytes begins its checkpoint anew") {
  CheckpointFixture f;
  const CommitFile file = f.file_of("vm/disk", 4);
  REQUIRE(f.stage(1, 0, Part().data(0, 0, "A")).has_value());
  REQUIRE(f.stage(1, 1, Part().data(0, 1, "B")).has_value());
  REQUIRE(f.stage(1, 0, Part().data(0, 1, "X")).has_value());  // cut differently
  CHECK(f.commit(1, 2, {file}).error().code == ErrorCode::kInvalid);
  REQUIRE(f.stage(1, 1, Part().data(0, 2, "Y")).has_value());
  f.commit_well(1, 2, {file});
  CHECK(content_of(f.path_of("vm/disk")) == "dXYk");
}

TEST_CASE("a commit that was damaged on the disk is set aside, not half applied") {
  CheckpointFixture f;
  REQUIRE(f.stage(1, 0, Part().data(0, 0, "A")).has_value());
  fs::rename(f.group_directory() + "/stage-1", f.group_directory() + "/commit-1");
  f.reopen();  // without a commit record
  CHECK(fs::exists(f.group_directory() + "/damaged-1"));
  CHECK(content_of(f.path_of("vm/disk")) == "disk");
  REQUIRE(f.stage(1, 0, Part().data(0, 0, "B")).has_value());
  f.commit_well(1, 1, {f.file_of("vm/disk", 4)});
  CHECK(content_of(f.path_of("vm/disk")) == "Bisk");
}

TEST_CASE("journals that others may have made are not believed") {
  CheckpointFixture f;
  REQUIRE(f.stage(1, 0, Part().data(0, 0, "A")).has_value());
  SECTION("a link for the journals") {
    f.checkpoints.reset();
    fs::rename(f.journals, f.dir / "real");
    fs::create_directory_symlink(f.dir / "real", f.journals);
    CHECK(!f.open_error().has_value());
  }
  SECTION("journals that others may write to") {
    REQUIRE(::chmod(f.journals.c_str(), 0777) == 0);
    CHECK(f.open_error().error().code == ErrorCode::kNotPermitted);
  }
  SECTION("a group that others may write to") {
    REQUIRE(::chmod(f.group_directory().c_str(), 0770) == 0);
    f.reopen();  // left alone
    CHECK(f.commit(1, 1, {f.file_of("vm/disk", 4)}).error().code == ErrorCode::kNotPermitted);
  }
  SECTION("a link for a group") {
    fs::rename(f.group_directory(), f.dir / "real");
    fs::create_directory_symlink(f.dir / "real", f.group_directory());
    f.reopen();
    CHECK(!f.commit(1, 1, {f.file_of("vm/disk", 4)}).has_value());
  }
  SECTION("a link for what was staged") {
    fs::rename(f.group_directory() + "/stage-1", f.dir / "real");
    fs::create_symlink(f.dir / "real", f.group_directory() + "/stage-1");
    f.reopen();
    CHECK(f.commit(1, 1, {f.file_of("vm/disk", 4)}).error().code == ErrorCode::kNotPermitted);
  }
  SECTION("a second name of what was staged") {
    fs::create_hard_link(f.group_directory() + "/stage-1", f.dir / "real");
    f.reopen();
    CHECK(f.commit(1, 1, {f.file_of("vm/disk", 4)}).error().code == ErrorCode::kNotPermitted);
  }
  SECTION("another owner") {
    if (::geteuid() != 0)
      return;  // needs privileges
    REQUIRE(::chown(f.journals.c_str(), 65534, 65534) == 0);
    CHECK(f.open_error().error().code == ErrorCode::kNotPermitted);
  }
  CHECK(content_of(f.path_of("vm/disk")) == "disk");
}

TEST_CASE("what other clients staged goes after a day, what this one staged stays") {
  CheckpointFixture f;
  REQUIRE(f.stage(1, 0, Part().data(0, 0, "A")).has_value());
  const std::string stage = f.group_directory() + "/stage-1";
  f.reopen(kOtherClient);
  CHECK(fs::exists(stage));
  const auto day_ago = fs::file_time_type::clock::now() - std::chrono::hours(25);
  fs::last_write_time(stage, day_ago);
  f.reopen();
  CHECK(fs::exists(stage));
  f.reopen(kOtherClient);
  CHECK(!fs::exists(stage));
}

TEST_CASE("a checkpoint is bounded in bytes") {
  const TempDir dir;
  const UniqueFd directory(::open(dir.path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  const JournalHead head{kThisClient, kGroup, 1};
  JournalFile journal = JournalFile::create(directory.get(), "stage-1", head).value();
  const Bytes body = part_body(head, 0, std::string(64 * 1024, 'x'));
  CHECK(journal.append_part(0, body).has_value());
  const std::uint64_t record = fs::file_size(dir / "stage-1") - kJournalHeadSize;
  const std::uint64_t fit = (JournalFile::kBytesMax - kJournalHeadSize) / record;
  for (std::uint32_t part = 1; part < fit; ++part)
    REQUIRE(journal.append_part(part, body).has_value());
  CHECK(journal.append_part(60000, body).error().code == ErrorCode::kFileTooBig);
  CHECK(!journal.has(60000));
}

TEST_CASE("many groups may be used in turn") {
  CheckpointFixture f;
  for (unsigned i = 0; i < 300; ++i) {
    StageRequest request;
    request.group = {static_cast<std::byte>(i), static_cast<std::byte>(i >> 8), std::byte{7}};
    request.checkpoint = 1;
    REQUIRE(f.checkpoints->stage(request).has_value());
  }
  CHECK(f.checkpoints->commit({{std::byte{0}, std::byte{0}, std::byte{7}}, 1, 1, {}}, f.handles)
            .has_value());
}

TEST_CASE("without a place for journals there are no checkpoints") {
  CheckpointFixture f;
  CHECK(Checkpoints::open("", kThisClient, *f.store).error().code == ErrorCode::kNotSupported);
}

}  // namespace slipway
