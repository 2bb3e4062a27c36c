#include "log_fixture.h"

#include "writelog/segment_set.h"

#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <map>
#include <random>
#include <sys/stat.h>
#include <unistd.h>

using namespace slipway;

namespace {

struct Honesty {
  bool data = true;       ///< fdatasync does what it says
  bool directory = true;  ///< fsync of the directory does
};

/// A disk below the log: what was synced is on it, of the rest a power cut leaves any part. Files
/// are known by their inodes, names as they were at the last fsync of the directory.
class ModelDisk final : public LogFileOps {
 public:
  ModelDisk(std::string directory, Honesty honesty) : directory_(std::move(directory)),
                                                      honesty_(honesty) {
    names_ = names_now();
    for (const auto& [name, inode] : names_)
      content_[inode] = whole_file(directory_ + "/" + name);
  }

  ssize_t write(int fd, const iovec* parts, int count, std::uint64_t offset) override {
    Pending pending{offset, {}};
    for (int i = 0; i < count; i++)
      append(pending.bytes, {static_cast<const std::byte*>(parts[i].iov_base), parts[i].iov_len});
    pending_[inode_of(fd)].push_back(std::move(pending));
    return LogFileOps::write(fd, parts, count, offset);
  }

  int sync_data(int fd) override {
    if (!honesty_.data)
      return 0;
    const std::uint64_t inode = inode_of(fd);
    for (const Pending& pending : pending_[inode])
      put(content_[inode], pending.offset, pending.bytes);
    pending_.erase(inode);
    return 0;
  }

  int sync_directory(int) override {
    if (honesty_.directory)
      names_ = names_now();
    return 0;
  }

  /// What the directory holds when the power is back.
  void cut(std::mt19937& random, const std::string& to) {
    const auto names = random() % 2 == 0 ? names_ : names_now();
    for (const auto& [name, inode] : names) {
      Bytes bytes = content_[inode];
      for (const Pending& pending : pending_[inode])
        tear(random, bytes, pending);
      bytes.resize(kTestSegment, std::byte{0});
      const UniqueFd fd(
          ::open((to + "/" + name).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
      REQUIRE(pwrite_full(fd.get(), bytes, 0).has_value());
    }
  }

 private:
  struct Pending {
    std::uint64_t offset = 0;
    Bytes bytes;
  };

  using Names = std::map<std::string, std::uint64_t>;

  static std::uint64_t inode_of(int fd) {
    struct stat st{};
    REQUIRE(::fstat(fd, &st) == 0);
    return st.st_ino;
  }

  static Bytes whole_file(const std::string& path) {
    const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    Bytes bytes(std::filesystem::file_size(path));
    REQUIRE(pread_full(fd.get(), bytes, 0).has_value());
    return bytes;
  }

  Names names_now() const {
    Names names;
    for (const std::string& name : names_in(directory_)) {
      struct stat st{};
      REQUIRE(::stat((directory_ + "/" + name).c_str(), &st) == 0);
      names[name] = st.st_ino;
    }
    return names;
  }

  static void put(Bytes& to, std::uint64_t offset, ByteView bytes) {
    if (to.size() < offset + bytes.size())
      to.resize(offset + bytes.size(), std::byte{0});
    std::copy(bytes.begin(), bytes.end(), to.begin() + static_cast<std::ptrdiff_t>(offset));
  }

  /// All of it, nothing, a first part of any length, or some of its sectors.
  static void tear(std::mt19937& random, Bytes& to, const Pending& pending) {
    const ByteView all = pending.bytes;
    switch (random() % 5) {
      case 0:
        return;
      case 1:
        return put(to, pending.offset, all.first(random() % (all.size() + 1)));
      case 2:
        for (std::size_t at = 0; at < all.size(); at += 512) {
          if (random() % 2 == 0)
            put(to, pending.offset + at,
                all.subspan(at, std::min<std::size_t>(512, all.size() - at)));
        }
        return;
      default:
        return put(to, pending.offset, all);
    }
  }

  const std::string directory_;
  const Honesty honesty_;
  Names names_;
  std::map<std::uint64_t, Bytes> content_;                 ///< synced, by inode
  std::map<std::uint64_t, std::vector<Pending>> pending_;  ///< written since
};

struct Outcome {
  int lost = 0;       ///< a record that had been synced was not there
  int wrong = 0;      ///< something else than a prefix came back
  int alarms = 0;     ///< damage was reported
  int torn_away = 0;  ///< rounds that lost what had not been synced
};

/// Appends, syncs and trims until the power goes, and again with what that left.
Outcome run(unsigned seed, Honesty honesty) {
  std::mt19937 random(seed);
  Outcome outcome;
  auto dir = std::make_unique<TempDir>();
  std::uint64_t next = 0;      // pattern
  std::uint64_t promised = 0;  // patterns below it were synced
  for (int round = 0; round < 6; round++) {
    const auto disk = std::make_shared<ModelDisk>(dir->path(), honesty);
    SeenLog seen;
    const auto log = open_log(log_options(dir->path(), disk, 6), seen);
    outcome.alarms += log->recovery().damaged ? 1 : 0;
    if (!seen.in_order)
      outcome.wrong++;
    for (std::size_t i = 1; i < seen.changes.size(); i++) {
      if (seen.changes[i].change.offset != seen.changes[i - 1].change.offset + 65536)
        outcome.wrong++;
    }
    const std::uint64_t found =
        seen.changes.empty() ? 0 : seen.changes.back().change.offset / 65536 + 1;
    for (const auto& [change, place] : seen.changes) {
      if (!place.data.segment->check(place.data).has_value())
        outcome.wrong++;
    }
    outcome.lost += found < promised ? 1 : 0;
    outcome.wrong += found > next ? 1 : 0;
    outcome.torn_away += found < next ? 1 : 0;
    next = promised = found;  // what came back is what counts from here on...
    if (round > 0)
      promised = 0;  // ... but it has not been synced
    const std::uint64_t file =
        seen.files.empty() ? log->declare(sample_file()) : seen.files.begin()->first;
    seen = {};
    for (std::uint64_t appends = random() % 700; appends > 0; appends--) {
      REQUIRE(append_pattern(*log, file, next++).has_value());
      if (random() % 60 == 0) {
        REQUIRE(log->sync().has_value());
        promised = next;
      }
      if (random() % 100 == 0) {
        REQUIRE(log->trim().has_value());
      }
    }
    auto after = std::make_unique<TempDir>();
    disk->cut(random, after->path());
    dir = std::move(after);
  }
  return outcome;
}

Outcome run_all(Honesty honesty, unsigned seeds) {
  Outcome all;
  for (unsigned seed = 1; seed <= seeds; seed++) {
    const Outcome one = run(seed, honesty);
    CAPTURE(seed, one.lost, one.wrong, one.alarms);
    if (honesty.data && honesty.directory) {
      CHECK(one.lost == 0);
      CHECK(one.wrong == 0);
      CHECK(one.alarms == 0);
    }
    all.lost += one.lost;
    all.torn_away += one.torn_away;
  }
  return all;
}

}  // namespace

TEST_CASE("a power cut loses nothing that was synced and brings back nothing behind a gap") {
  const Outcome outcome = run_all({}, 40);
  CHECK(outcome.lost == 0);
  CHECK(outcome.torn_away > 40);  // and really took something each time
}

TEST_CASE("the power cuts of this test would show a sync that does nothing") {
  CHECK(run_all({false, true}, 5).lost >= 3);
}

TEST_CASE("the power cuts of this test would show a directory that is never synced") {
  CHECK(run_all({true, false}, 5).lost >= 3);
}
