// The files of leases: their locks, and what of them stays.
#include "server/lease_directory.h"
#include "server/lease_files.h"
#include "support/catch.h"
#include "support/temp_dir.h"

#include <atomic>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

using namespace slipway;

namespace {

using std::chrono::milliseconds;
using Mode = LeaseLock::Mode;

struct LeaseFiles {
  LeaseFiles() {
    std::filesystem::create_directories(top() + "/vm");
    std::filesystem::create_directories(leases());
    fd.reset(::open(leases().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  }

  std::string top() const { return dir.path() + "/top"; }

  std::string leases() const { return dir.path() + "/leases"; }

  LeaseDirectory open() const {
    auto opened = LeaseDirectory::open(leases(), top());
    REQUIRE(opened.has_value());
    return std::move(*opened);
  }

  Result<LeaseLock> lock(Mode mode, milliseconds patience = milliseconds(0)) const {
    return LeaseLock::take(fd.get(), lease_hash("vm"), mode, patience);
  }

  std::string path(const std::string& name) const { return leases() + "/" + name; }

  void make_old(const std::string& name) const {
    const struct timespec times[2] = {{1000, 0}, {1000, 0}};
    REQUIRE(::utimensat(AT_FDCWD, path(name).c_str(), times, AT_SYMLINK_NOFOLLOW) == 0);
  }

  /// A record of this user, with its lock, that nobody has written for long.
  std::string record(const std::string& group, bool held, std::uint64_t unsent) const {
    LeaseRecord record;
    record.group = group;
    record.epoch = 7;
    record.held = held;
    record.unsent_bytes = unsent;
    REQUIRE(open().write(record).has_value());
    const std::string name = lease_record_name(group, ::geteuid());
    make_old(name);
    return name;
  }

  bool has(const std::string& name) const { return std::filesystem::exists(path(name)); }

  void touch(const std::string& name) const { std::ofstream(path(name)).put('x'); }

  TempDir dir;
  UniqueFd fd;
};

}  // namespace

TEST_CASE("an unused lock's file goes with the last who has the lock, and not before") {
  const LeaseFiles f;
  {
    auto first = f.lock(Mode::kShared);
    REQUIRE(first.has_value());
    first->set_unused(true);
    {
      auto second = f.lock(Mode::kShared);
      REQUIRE(second.has_value());
      second->set_unused(true);
    }
    // Were the file gone, this would be a lock on another one.
    const auto alone = f.lock(Mode::kAlone);
    REQUIRE_FALSE(alone.has_value());
    CHECK(alone.error().code == ErrorCode::kBusy);
  }
  CHECK(std::filesystem::is_empty(f.leases()));
}

TEST_CASE("a lock that is not unused, or of a group that has a record by now, stays") {
  const LeaseFiles f;
  { CHECK(f.lock(Mode::kAlone).has_value()); }
  CHECK(f.has(lease_hash("vm") + ".lock"));
  f.touch(lease_record_name("vm", 4711));
  f.lock(Mode::kAlone)->set_unused(true);
  CHECK(f.has(lease_hash("vm") + ".lock"));
}

TEST_CASE("locks exclude each other although their files come and go") {
  const LeaseFiles f;
  std::atomic<int> alone{0};
  std::atomic<int> shared{0};
  std::atomic<unsigned> wrong{0};
  std::atomic<unsigned> failed{0};
  const auto work = [&](unsigned which) {
    for (unsigned i = 0; i < 60; ++i) {
      const bool is_alone = (which + i) % 3 == 0;
      auto lock = f.lock(is_alone ? Mode::kAlone : Mode::kShared, milliseconds(60'000));
      if (!lock) {
        ++failed;
        continue;
      }
      (is_alone ? alone : shared) += 1;
      const bool is_good = is_alone ? alone == 1 && shared == 0 : alone == 0;
      wrong += is_good ? 0 : 1;
      std::this_thread::yield();
      (is_alone ? alone : shared) -= 1;
      lock->set_unused(true);
    }
  };
  {
    std::vector<std::jthread> threads;
    for (unsigned i = 0; i < 6; ++i)
      threads.emplace_back(work, i);
  }
  CHECK(wrong == 0);
  CHECK(failed == 0);
  CHECK(std::filesystem::is_empty(f.leases()));
}

TEST_CASE("opening the leases removes what nobody needs any more") {
  const LeaseFiles f;
  const std::string lock = lease_hash("gone") + ".lock";
  f.touch(lock);
  f.touch("1234-0.wish");
  f.make_old("1234-0.wish");
  f.touch(".new-0123");
  f.make_old(".new-0123");
  const std::string free = f.record("free", false, 0);
  const std::string nameless = f.record("no such group", true, 0);
  f.open();
  CHECK(std::filesystem::is_empty(f.leases()));
}

TEST_CASE("opening the leases leaves what somebody may need") {
  const LeaseFiles f;
  std::vector<std::string> kept;
  SECTION("a lock that is used") {
    const auto lock = f.lock(Mode::kShared);
    f.open();
    CHECK(f.has(lease_hash("vm") + ".lock"));
  }
  SECTION("a lease that is held, of a group that is there") {
    kept = {f.record("vm", true, 0)};
  }
  SECTION("a lease with something unsent") {
    kept = {f.record("no such group", true, 1)};
  }
  SECTION("a lease that was free until a moment ago") {
    kept = {f.record("vm", false, 0)};
    REQUIRE(::utimensat(AT_FDCWD, f.path(kept[0]).c_str(), nullptr, 0) == 0);
  }
  SECTION("what is damaged") {
    kept = {lease_record_name("vm", ::geteuid())};
    f.touch(kept[0]);
    f.make_old(kept[0]);
  }
  SECTION("what is new") {
    kept = {"1234-0.wish", ".new-0123"};
    for (const std::string& name : kept)
      f.touch(name);
  }
  SECTION("a lock that is free, of a lease that is held") {
    kept = {f.record("vm", true, 0), lease_hash("vm") + ".lock"};
    f.touch(kept[1]);
  }
  f.open();
  for (const std::string& name : kept) {
    CAPTURE(name);
    CHECK(f.has(name));
  }
}
