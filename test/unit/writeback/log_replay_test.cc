#include "support/catch.h"
#include "writeback/log_replay.h"

#include <memory>
#include <utility>

using namespace slipway;

namespace {

constexpr std::uint64_t kFile = 7;

/// What a log holds, told record by record.
class Log {
 public:
  Log() {
    LogFile file;
    file.path = "disk";
    file.id.inode = 5;
    file.base.id = file.id;
    replay_.on_file(kFile, file);
  }

  Log& write(std::uint64_t offset, std::uint64_t length) {
    LogChange change{LogKind::kWrite, kFile, offset, length, {1000, 0}};
    replay_.on_change(change, place(length));
    return *this;
  }

  Log& close(std::uint64_t number) {
    replay_.on_checkpoint({kWhole, number, {kFile}}, place(0));
    return *this;
  }

  Log& applied(std::uint64_t number, std::uint64_t size) {
    VersionRecord version;
    version.id.inode = 5;
    version.size = size;
    replay_.on_applied({kWhole, number, {{kFile, version}}}, place(0));
    return *this;
  }

  Log& refused(std::uint64_t number) {
    replay_.on_applied({kWhole, number, {}}, place(0));
    return *this;
  }

  /// Another file, of our making.
  Log& make(std::uint64_t number, const std::string& path, bool is_directory = false) {
    LogFile file;
    file.path = path;
    file.id.inode = number + 100;
    file.base.id = file.id;
    replay_.on_file(number, file);
    replay_.on_make(number, {is_directory, 0750, number + 100, {2000, 7}}, place(0));
    return *this;
  }

  Log& write_to(std::uint64_t number, std::uint64_t length) {
    replay_.on_change({LogKind::kWrite, number, 0, length, {3000, 0}}, place(length));
    return *this;
  }

  Log& close_made(std::uint64_t checkpoint, std::vector<std::uint64_t> files) {
    replay_.on_checkpoint({kWhole, checkpoint, std::move(files)}, place(0));
    return *this;
  }

  Log& applied_made(std::uint64_t checkpoint, std::vector<std::uint64_t> files) {
    LogApplied applied{kWhole, checkpoint, {}};
    for (const std::uint64_t file : files) {
      VersionRecord version;
      version.id.inode = file + 100;
      applied.files.push_back({file, version});
    }
    replay_.on_applied(applied, place(0));
    return *this;
  }

  Log& rename(std::uint64_t number, const std::string& path) {
    replay_.on_rename(number, path, place(0));
    return *this;
  }

  Log& forget(std::uint64_t number) {
    replay_.on_forget(number, place(0));
    return *this;
  }

  LogReplay::Found found() { return replay_.take({}); }

 private:
  LogPlace place(std::uint64_t length) {
    ++sequence_;
    return {{segment_, sequence_ * 4096, static_cast<std::uint32_t>(length), 0}, sequence_};
  }

  static constexpr GroupId kWhole{};
  std::shared_ptr<LogSegment> segment_ =
      std::make_shared<LogSegment>(UniqueFd(), "segment", LogSegmentHeader{}, 0);
  std::uint64_t sequence_ = 0;
  LogReplay replay_;
};

/// The range's bytes that are unsent.
std::uint64_t own_bytes(const WrittenFile& file, const ByteRange& range) {
  std::uint64_t below = 0;
  const auto read = file.read(range);  // of empty segments: only the layout matters
  if (!read)
    return range.length;
  for (const ByteRange& each : read->below)
    below += each.length;
  return range.length - below;
}

}  // namespace

TEST_CASE("a change in the log lies on what was applied, although the log does not say that any more") {
  // The segments with the first checkpoint's content are freed: its file was much larger.
  Log log;
  log.write(0, 4096).close(1).write(0, 512).applied(1, 1 << 20);
  const auto found = log.found();
  REQUIRE(found.files.size() == 1);
  CHECK(found.files[0]->size() == 1 << 20);
  CHECK(found.files[0]->named().base.size == 1 << 20);
  CHECK(own_bytes(*found.files[0], {4096, 4096}) == 0);
}

TEST_CASE("checkpoints that were closed one after the other stay apart until each is applied") {
  Log log;
  log.write(0, 100).close(1).write(0, 10).close(2).write(0, 1);
  SECTION("none is applied") {
    const auto found = log.found();
    REQUIRE(found.files.size() == 1);
    CHECK(found.checkpoint == 2);
    CHECK(found.files[0]->unsent_bytes() == 111);
  }
  SECTION("the first is applied") {
    const auto found = log.applied(1, 100).found();
    REQUIRE(found.files.size() == 1);
    CHECK(found.files[0]->unsent_bytes() == 11);
    CHECK(found.files[0]->size() == 100);
  }
  SECTION("all are applied, and nothing came later") {
    Log whole;
    whole.write(0, 100).close(1).write(0, 10).close(2).applied(1, 100).applied(2, 100);
    CHECK(whole.found().files.empty());
  }
  SECTION("the first is refused: what is left of the file goes out as one") {
    const auto found = log.refused(1).found();
    REQUIRE(found.files.size() == 1);
    CHECK(found.files[0]->unsent_bytes() == 100);
    CHECK(found.files[0]->size() == 100);
  }
}

TEST_CASE("a file of our making is unsent until the checkpoint that brings its name is applied") {
  Log log;
  log.make(20, "vm", true).make(21, "vm/new").write_to(21, 300).make(22, "vm/empty");
  SECTION("nothing was closed") {
    const auto found = log.found();
    REQUIRE(found.files.size() == 3);
    for (const auto& file : found.files)
      CHECK(file->is_pending());
    CHECK(found.files[0]->named().path == "vm");
    CHECK(found.files[0]->mtime() == Timestamp{2000, 7});
    CHECK(found.files[1]->unsent_bytes() == 300);
    CHECK(found.files[1]->mtime() == Timestamp{3000, 0});
  }
  SECTION("it was closed and written to again") {
    const auto found = log.close_made(4, {20, 21, 22}).write_to(21, 50).found();
    REQUIRE(found.files.size() == 3);
    CHECK(found.files[1]->is_pending());
    CHECK(found.files[1]->unsent_bytes() == 350);
  }
  SECTION("it was applied and written to again") {
    const auto found =
        log.close_made(4, {20, 21, 22}).write_to(21, 50).applied_made(4, {20, 21, 22}).found();
    REQUIRE(found.files.size() == 1);
    CHECK_FALSE(found.files[0]->is_pending());
    CHECK(found.files[0]->unsent_bytes() == 50);
  }
  SECTION("the server took only the directory: the rest goes out with its names") {
    const auto found = log.close_made(4, {20, 21, 22}).applied_made(4, {20}).found();
    REQUIRE(found.files.size() == 2);
    CHECK(found.files[0]->is_pending());
    CHECK(found.files[1]->is_pending());
  }
  SECTION("it was removed") {
    const auto found = log.forget(21).forget(22).found();
    REQUIRE(found.files.size() == 1);
    CHECK(found.files[0]->named().path == "vm");
  }
}

TEST_CASE("a new file that took another new one's name has replaced it, with one record") {
  Log log;
  log.make(20, "disk.tmp").write_to(20, 10).make(21, "disk").write_to(21, 99).rename(20, "disk");
  const auto found = log.found();
  REQUIRE(found.files.size() == 1);
  CHECK(found.files[0]->number() == 20);
  CHECK(found.files[0]->named().path == "disk");
}

TEST_CASE("a rename never replaces a file that the server has, or that is in a checkpoint") {
  Log log;
  log.make(20, "other").write_to(20, 10).close_made(3, {20}).make(21, "new").rename(21, "other");
  CHECK(log.found().files.size() == 2);
}
