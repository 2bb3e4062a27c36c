#include "log_fixture.h"

#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <thread>
#include <unistd.h>

using namespace slipway;

namespace {

/// A disk that refuses what the test tells it to.
class RefusingOps final : public LogFileOps {
 public:
  ssize_t write(int fd, const iovec* parts, int count, std::uint64_t offset) override {
    writes++;
    if (write_error != 0 && writes_before_error == 0) {
      // A part of it gets through, as when the disk is full in the middle.
      if (partial && count > 0)
        static_cast<void>(LogFileOps::write(fd, parts, 1, offset));
      errno = write_error;
      return -1;
    }
    if (writes_before_error > 0)
      writes_before_error--;
    if (short_writes && count > 0) {
      const iovec part{parts[0].iov_base, (parts[0].iov_len + 1) / 2};
      return LogFileOps::write(fd, &part, 1, offset);
    }
    return LogFileOps::write(fd, parts, count, offset);
  }

  int sync_data(int fd) override {
    data_syncs++;
    std::unique_lock lock(mutex);
    held++;
    changed.notify_all();
    changed.wait(lock, [&] { return !hold; });
    if (sync_error == 0)
      return LogFileOps::sync_data(fd);
    errno = sync_error;
    return -1;
  }

  int sync_directory(int fd) override {
    directory_syncs++;
    if (directory_error == 0)
      return LogFileOps::sync_directory(fd);
    errno = directory_error;
    return -1;
  }

  int allocate(int fd, std::uint64_t size) override {
    return allocate_error != 0 ? allocate_error : LogFileOps::allocate(fd, size);
  }

  int write_error = 0;
  int writes_before_error = 0;
  bool partial = false;
  bool short_writes = false;
  int sync_error = 0;
  int directory_error = 0;
  int allocate_error = 0;
  std::atomic<int> writes{0};
  std::atomic<int> data_syncs{0};
  std::atomic<int> directory_syncs{0};
  std::mutex mutex;
  std::condition_variable changed;
  bool hold = false;
  int held = 0;
};

}  // namespace

TEST_CASE("a failed fdatasync is never forgotten") {
  const TempDir dir;
  const auto ops = std::make_shared<RefusingOps>();
  const auto log = open_log(log_options(dir.path(), ops));
  const std::uint64_t file = log->declare(sample_file());
  REQUIRE(append_pattern(*log, file, 0).has_value());
  REQUIRE(log->sync().has_value());
  const std::uint64_t synced = log->stats().synced;
  REQUIRE(append_pattern(*log, file, 1).has_value());
  SECTION("of a segment") { ops->sync_error = EIO; }
  SECTION("of the directory") {
    ops->directory_error = EIO;
    const Bytes data(kLogDataMax, std::byte{1});  // makes another segment
    REQUIRE(log->append(write_of(file, 0, data.size()), data).has_value());
    REQUIRE(log->append(write_of(file, 0, data.size()), data).has_value());
  }
  const Status first = log->sync();
  REQUIRE(!first.has_value());
  CHECK(first.error().code == ErrorCode::kIo);
  ops->sync_error = 0;  // the kernel reports an error once and then says all is well
  ops->directory_error = 0;
  const Status second = log->sync();
  REQUIRE(!second.has_value());
  CHECK(second.error().code == ErrorCode::kIo);
  CHECK(append_pattern(*log, file, 2).has_value());
  CHECK(!log->sync().has_value());
  CHECK(log->stats().sync_failed);
  CHECK(log->stats().synced == synced);
  CHECK(!log->stats().last_error.empty());
}

TEST_CASE("a log that can't be synced frees nothing") {
  const TempDir dir;
  const auto ops = std::make_shared<RefusingOps>();
  const auto log = open_log(log_options(dir.path(), ops));
  const std::uint64_t file = log->declare(sample_file());
  const Bytes data(kLogDataMax, std::byte{1});
  REQUIRE(log->append(write_of(file, 0, data.size()), data).has_value());
  REQUIRE(log->append(write_of(file, 0, data.size()), data).has_value());
  ops->sync_error = EIO;
  CHECK(!log->trim().has_value());
  CHECK(log->stats().segments == 2);
}

TEST_CASE("an append that fails leaves nothing valid, and the next one goes on") {
  const TempDir dir;
  const auto ops = std::make_shared<RefusingOps>();
  const int error = GENERATE(EIO, ENOSPC);
  ops->partial = GENERATE(false, true);
  {
    const auto log = open_log(log_options(dir.path(), ops));
    const std::uint64_t file = log->declare(sample_file());
    const std::uint64_t other = log->declare(sample_file(8));
    REQUIRE(append_pattern(*log, file, 0).has_value());
    ops->write_error = error;
    for (int i = 0; i < 3; i++) {
      const auto failed = append_pattern(*log, other, 9);
      REQUIRE(!failed.has_value());
      CHECK(failed.error().code == (error == ENOSPC ? ErrorCode::kNoSpace : ErrorCode::kIo));
    }
    ops->write_error = 0;
    CHECK(log->stats().segments == 1);  // failing does not use up the disk
    REQUIRE(append_pattern(*log, file, 1).has_value());
    REQUIRE(append_pattern(*log, file, 2).has_value());
    REQUIRE(log->sync().has_value());
  }
  for (int opens = 0; opens < 2; opens++) {
    SeenLog seen;
    const auto log = open_log(log_options(dir.path()), seen);
    require_patterns(seen, 0, 3);
    CHECK(!log->recovery().damaged);
    CHECK(log->recovery().unsynced_lost == 0);
  }
}

TEST_CASE("an append that failed is not there after a crash either") {
  const TempDir dir;
  const auto ops = std::make_shared<RefusingOps>();
  {
    const auto log = open_log(log_options(dir.path(), ops));
    const std::uint64_t file = log->declare(sample_file());
    REQUIRE(append_pattern(*log, file, 0).has_value());
    ops->write_error = EIO;
    ops->partial = true;
    REQUIRE(!append_pattern(*log, file, 1).has_value());
  }
  SeenLog seen;
  const auto log = open_log(log_options(dir.path()), seen);
  require_patterns(seen, 0, 1);
  CHECK(!log->recovery().damaged);
}

TEST_CASE("short writes are finished") {
  const TempDir dir;
  const auto ops = std::make_shared<RefusingOps>();
  ops->short_writes = true;
  {
    const auto log = open_log(log_options(dir.path(), ops));
    const std::uint64_t file = log->declare(sample_file());
    for (std::uint64_t i = 0; i < 20; i++)
      REQUIRE(append_pattern(*log, file, i).has_value());
  }
  SeenLog seen;
  const auto log = open_log(log_options(dir.path()), seen);
  require_patterns(seen, 0, 20);
}

TEST_CASE("a disk without room for a segment is kNoSpace and leaves no file") {
  const TempDir dir;
  const auto ops = std::make_shared<RefusingOps>();
  const auto log = open_log(log_options(dir.path(), ops));
  const std::uint64_t file = log->declare(sample_file());
  ops->allocate_error = ENOSPC;
  const auto refused = append_pattern(*log, file, 0);
  REQUIRE(!refused.has_value());
  CHECK(refused.error().code == ErrorCode::kNoSpace);
  CHECK(names_in(dir.path()).empty());
  CHECK(log->stats().bytes == 0);
  ops->allocate_error = 0;
  CHECK(append_pattern(*log, file, 0).has_value());
}

TEST_CASE("callers that wait while a sync runs share the next one") {
  const TempDir dir;
  const auto ops = std::make_shared<RefusingOps>();
  const auto log = open_log(log_options(dir.path(), ops));
  const std::uint64_t file = log->declare(sample_file());
  REQUIRE(append_pattern(*log, file, 0).has_value());
  ops->hold = true;
  std::vector<std::thread> threads;
  std::atomic<int> failed{0};
  threads.emplace_back([&] { failed += log->sync().has_value() ? 0 : 1; });
  {
    std::unique_lock lock(ops->mutex);
    ops->changed.wait(lock, [&] { return ops->held == 1; });
  }
  std::atomic<int> appended{0};
  for (std::uint64_t i = 1; i <= 8; i++) {
    threads.emplace_back([&, i] {
      failed += append_pattern(*log, file, i).has_value() ? 0 : 1;
      appended++;
      failed += log->sync().has_value() ? 0 : 1;
    });
  }
  while (appended < 8)  // appends don't wait for the sync
    std::this_thread::yield();
  {
    const std::lock_guard lock(ops->mutex);
    ops->hold = false;
    ops->changed.notify_all();
  }
  for (std::thread& thread : threads)
    thread.join();
  CHECK(failed == 0);
  // The first one, the one that all others share, and one for those who came after it began.
  CHECK(ops->data_syncs <= 4);
  CHECK(log->stats().synced == log->stats().sequence);
}

TEST_CASE("a sync with nothing new reaches no disk, and the directory only after a new segment") {
  const TempDir dir;
  const auto ops = std::make_shared<RefusingOps>();
  const auto log = open_log(log_options(dir.path(), ops));
  const std::uint64_t file = log->declare(sample_file());
  REQUIRE(append_pattern(*log, file, 0).has_value());
  REQUIRE(log->sync().has_value());
  CHECK(ops->directory_syncs == 1);
  CHECK(ops->data_syncs == 1);
  REQUIRE(log->sync().has_value());
  CHECK(ops->data_syncs == 1);
  const int writes = ops->writes;
  REQUIRE(append_pattern(*log, file, 1).has_value());
  CHECK(ops->writes == writes + 1);  // one system call each
  REQUIRE(log->sync().has_value());
  CHECK(ops->data_syncs == 2);
  CHECK(ops->directory_syncs == 1);
}

TEST_CASE("the first sync after an open covers what an earlier process appended") {
  const TempDir dir;
  {
    const auto log = open_log(log_options(dir.path()));
    const std::uint64_t file = log->declare(sample_file());
    REQUIRE(append_pattern(*log, file, 0).has_value());
  }
  const auto ops = std::make_shared<RefusingOps>();
  const auto log = open_log(log_options(dir.path(), ops));
  CHECK(log->stats().synced == 0);
  REQUIRE(log->sync().has_value());
  CHECK(ops->data_syncs == 1);
  CHECK(ops->directory_syncs == 1);
  CHECK(log->stats().synced == log->stats().sequence);
}
