#include "server/lease_store.h"
#include "support/catch.h"
#include "support/temp_dir.h"

#include <filesystem>
#include <fstream>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace slipway;

namespace {

constexpr std::int64_t kLengthMs = 60'000;

/// An export with two groups, the leases' directory, and a clock in our hands.
struct LeasedExport {
  LeasedExport() {
    std::filesystem::create_directories(dir.path() + "/top/vm/deep");
    std::filesystem::create_directories(dir.path() + "/top/other");
    ::mkdir(leases().c_str(), 0777);
    ::chmod(leases().c_str(), 01777);
    ::chmod(dir.path().c_str(), 0755);
  }

  std::string leases() const { return dir.path() + "/leases"; }

  std::unique_ptr<LeaseStore> store(unsigned client, unsigned mount,
                                    const std::string& prefix = "") {
    LeaseStore::Options options;
    options.directory = leases();
    options.top = dir.path() + "/top";
    options.prefix = prefix;
    options.holder.client_id[0] = static_cast<std::byte>(client);
    options.holder.mount_id[0] = static_cast<std::byte>(mount);
    options.holder.host = "host" + std::to_string(client);
    options.holder.user = "ann";
    options.now = [this] { return now_ms; };
    auto opened = LeaseStore::open(std::move(options));
    REQUIRE(opened.has_value());
    return std::move(*opened);
  }

  TempDir dir;
  std::int64_t now_ms = 1'000'000'000'000;
};

LeaseReply acquire(LeaseStore& store, const std::string& path, std::uint64_t unsent = 0) {
  const auto reply = store.answer({LeaseAction::kAcquire, path, "", 0, unsent});
  REQUIRE(reply.has_value());
  return *reply;
}

LeaseReply renew(LeaseStore& store, const std::string& path, std::uint64_t epoch,
                 std::uint64_t unsent = 0) {
  const auto reply = store.answer({LeaseAction::kRenew, path, "", epoch, unsent});
  REQUIRE(reply.has_value());
  return *reply;
}

LeaseReply release(LeaseStore& store, const std::string& path, std::uint64_t epoch) {
  const auto reply = store.answer({LeaseAction::kRelease, path, "", epoch, 0});
  REQUIRE(reply.has_value());
  return *reply;
}

ErrorCode enters(LeaseStore& store, const std::string& path,
                 LeaseStore::Purpose purpose = LeaseStore::Purpose::kCommit) {
  const auto passage = store.enter({path}, purpose);
  return passage ? static_cast<ErrorCode>(0) : passage.error().code;
}

constexpr auto kPasses = static_cast<ErrorCode>(0);
constexpr auto kChange = LeaseStore::Purpose::kChange;

}  // namespace

TEST_CASE("a group is what one name below the top stands for, and a deeper export lies in one") {
  LeasedExport f;
  const auto top = f.store(1, 1);
  CHECK(top->group_of("") == "");
  CHECK(top->group_of("file") == "file");
  CHECK(top->group_of("vm/deep/x") == "vm");
  const auto deep = f.store(2, 2, "vm/deep");
  CHECK(deep->group_of("") == "vm");
  CHECK(deep->group_of("a/b") == "vm");
  CHECK(acquire(*deep, "x").whole_export);
  CHECK(acquire(*top, "vm/deep/x").outcome == LeaseOutcome::kHeld);
}

TEST_CASE("one mount holds a lease, tells who wants it, and hands it over with a later epoch") {
  LeasedExport f;
  const auto a = f.store(1, 1);
  const auto b = f.store(2, 2);
  const LeaseReply first = acquire(*a, "vm/disk");
  REQUIRE(first.outcome == LeaseOutcome::kDone);
  const std::uint64_t epoch = first.leases[0].epoch;
  CHECK(first.leases[0].mine);
  CHECK(first.leases[0].expires_in_ms == kLengthMs);
  CHECK(acquire(*a, "vm").leases[0].epoch == epoch);
  CHECK(renew(*a, "vm", epoch).leases[0].wanted_by.empty());

  const LeaseReply held = acquire(*b, "vm/other");
  CHECK(held.outcome == LeaseOutcome::kHeld);
  CHECK(held.leases[0].host == "host1");
  CHECK_FALSE(held.leases[0].mine);
  CHECK(acquire(*b, "other").outcome == LeaseOutcome::kDone);
  CHECK(renew(*a, "vm", epoch).leases[0].wanted_by == "host2");

  CHECK(release(*a, "vm", epoch).outcome == LeaseOutcome::kDone);
  f.now_ms += 1000;
  const LeaseReply second = acquire(*b, "vm");
  CHECK(second.outcome == LeaseOutcome::kDone);
  CHECK(second.leases[0].epoch > epoch);
  CHECK(second.leases[0].wanted_by.empty());
}

TEST_CASE("no epoch comes twice, however fast a lease comes and goes") {
  LeasedExport f;
  const auto a = f.store(1, 1);
  std::uint64_t last = 0;
  for (unsigned i = 0; i < 5; ++i) {
    const std::uint64_t epoch = acquire(*a, "vm").leases[0].epoch;
    CHECK(epoch > last);
    last = epoch;
    CHECK(release(*a, "vm", epoch).outcome == LeaseOutcome::kDone);
    f.now_ms -= i == 3 ? 1'000'000 : 0;
  }
}

TEST_CASE("a client is told which leases it has, also those of its earlier mounts") {
  LeasedExport f;
  const auto before = f.store(1, 1);
  const auto other = f.store(2, 2);
  acquire(*before, "vm");
  acquire(*before, "other");
  acquire(*other, "theirs");
  const auto after = f.store(1, 3);
  release(*after, "other", acquire(*after, "other").leases[0].epoch);
  acquire(*after, "other");
  const LeaseReply all = *after->answer({LeaseAction::kList, "", "", 0, 0});
  REQUIRE(all.leases.size() == 3);
  CHECK((all.leases[0].ours && all.leases[0].mine));  // other
  CHECK_FALSE(all.leases[1].ours);                    // theirs
  CHECK((all.leases[2].ours && !all.leases[2].mine));  // vm
  // Where only one group can be reached, the rest is of no use.
  const auto deep = f.store(1, 4, "vm/deep");
  const LeaseReply reached = *deep->answer({LeaseAction::kList, "", "", 0, 0});
  REQUIRE(reached.leases.size() == 3);
  CHECK_FALSE(reached.leases[0].ours);
  CHECK(reached.leases[2].ours);
}

TEST_CASE("expiry makes a lease claimable, not void") {
  LeasedExport f;
  const auto a = f.store(1, 1);
  const auto b = f.store(2, 2);
  const std::uint64_t epoch = acquire(*a, "vm").leases[0].epoch;
  f.now_ms += kLengthMs - 1;
  CHECK(acquire(*b, "vm").outcome == LeaseOutcome::kHeld);
  f.now_ms += 1'000'000;
  CHECK(enters(*a, "vm/disk") == kPasses);  // nobody else wanted it
  CHECK(renew(*a, "vm", epoch).outcome == LeaseOutcome::kDone);
  CHECK(acquire(*b, "vm").outcome == LeaseOutcome::kHeld);
  f.now_ms += kLengthMs;
  CHECK(acquire(*b, "vm").leases[0].epoch > epoch);
  CHECK(renew(*a, "vm", epoch).outcome == LeaseOutcome::kLost);
}

TEST_CASE("a holder that reported unsent writes is displaced by a break only") {
  LeasedExport f;
  const auto a = f.store(1, 1);
  const auto b = f.store(2, 2);
  const std::uint64_t epoch = acquire(*a, "vm").leases[0].epoch;
  renew(*a, "vm", epoch, 4096);
  f.now_ms += 1000 * kLengthMs;
  const LeaseReply held = acquire(*b, "vm");
  CHECK(held.outcome == LeaseOutcome::kHeld);
  CHECK(held.leases[0].unsent_bytes == 4096);
  CHECK(b->break_lease("vm", epoch + 1)->outcome == LeaseOutcome::kLost);
  CHECK(b->break_lease("vm", epoch)->outcome == LeaseOutcome::kDone);
  CHECK(b->break_lease("vm", epoch)->outcome == LeaseOutcome::kLost);
  CHECK(renew(*a, "vm", epoch).outcome == LeaseOutcome::kLost);
  CHECK(acquire(*b, "vm").leases[0].epoch > epoch + 1);
}

TEST_CASE("the same client's next mount takes over at once, and the one before is fenced") {
  LeasedExport f;
  const auto before = f.store(1, 1);
  const std::uint64_t epoch = acquire(*before, "vm", 5).leases[0].epoch;
  const auto after = f.store(1, 2);
  CHECK(enters(*after, "vm") == kPasses);
  CHECK(acquire(*after, "vm").leases[0].epoch == epoch);
  CHECK(enters(*after, "vm") == kPasses);
  CHECK(enters(*before, "vm") == ErrorCode::kLeaseLost);
  const auto same_mount = f.store(1, 2);  // a new session of it
  CHECK(renew(*same_mount, "vm", epoch).outcome == LeaseOutcome::kDone);
  CHECK(enters(*same_mount, "vm") == kPasses);
}

TEST_CASE("who lost a lease changes nothing, and what it still sends is refused to the files") {
  LeasedExport f;
  const auto a = f.store(1, 1);
  const auto b = f.store(2, 2);
  const std::uint64_t epoch = acquire(*a, "vm").leases[0].epoch;
  CHECK(enters(*b, "vm/x") == ErrorCode::kBusy);
  CHECK(renew(*a, "vm", epoch).leases[0].wanted_by == "host2");  // also by a commit
  f.now_ms += 2 * kLengthMs;
  REQUIRE(acquire(*b, "vm").outcome == LeaseOutcome::kDone);
  CHECK(enters(*a, "vm/x") == ErrorCode::kLeaseLost);
  CHECK(enters(*a, "vm/x", kChange) == ErrorCode::kLeaseLost);
  CHECK(enters(*a, "other/x", kChange) == kPasses);

  CHECK(release(*a, "vm", epoch).outcome == LeaseOutcome::kLost);
  CHECK(enters(*a, "vm/x", kChange) == ErrorCode::kBusy);
  {
    const auto passage = a->enter({"vm/x", "other/x"}, LeaseStore::Purpose::kCommit);
    REQUIRE(passage.has_value());
    CHECK(passage->is_refused("vm/x"));
    CHECK_FALSE(passage->is_refused("other/x"));
  }
  release(*b, "vm", b->list("")->leases[0].epoch);
  const auto passage = a->enter({"vm/x"}, LeaseStore::Purpose::kCommit);
  REQUIRE(passage.has_value());
  CHECK_FALSE(passage->is_refused("vm/x"));  // versions decide
}

TEST_CASE("nothing is left of leases that were given back") {
  LeasedExport f;
  const auto a = f.store(1, 1);
  for (const std::string group : {"vm", "other", "not there yet", ""})
    release(*a, group, acquire(*a, group).leases[0].epoch);
  CHECK(std::filesystem::is_empty(f.leases()));
  CHECK(a->list("")->leases.empty());
}

TEST_CASE("names that are only mentioned leave nothing behind, and are not kept in mind") {
  LeasedExport f;
  const auto a = f.store(1, 1);
  for (const std::string group : {"vm", "made up", "another"}) {
    CHECK(enters(*a, group, kChange) == kPasses);
    CHECK(enters(*a, group) == kPasses);
  }
  for (const std::string group : {"made up", "another"}) {
    CHECK(renew(*a, group, 5).outcome == LeaseOutcome::kLost);
    CHECK(enters(*a, group) == kPasses);
    CHECK(release(*a, group, 5).outcome == LeaseOutcome::kLost);
  }
  CHECK(a->break_lease("made up", 5)->outcome == LeaseOutcome::kLost);
  CHECK(std::filesystem::is_empty(f.leases()));
  renew(*a, "vm", 5);  // but this one is there
  CHECK(enters(*a, "vm") == ErrorCode::kLeaseLost);
}

TEST_CASE("who waited in vain leaves nothing behind either") {
  LeasedExport f;
  const auto a = f.store(1, 1);
  const auto b = f.store(2, 2);
  const std::uint64_t epoch = acquire(*a, "vm").leases[0].epoch;
  REQUIRE(acquire(*b, "vm").outcome == LeaseOutcome::kHeld);
  release(*a, "vm", epoch);
  CHECK(std::filesystem::is_empty(f.leases()));
}

TEST_CASE("records that are torn, planted or others' to write are not believed") {
  LeasedExport f;
  const auto a = f.store(1, 1);
  const auto b = f.store(2, 2);
  acquire(*a, "vm");
  std::string record;
  for (const auto& entry : std::filesystem::directory_iterator(f.leases()))
    if (!entry.path().string().ends_with(".lock"))
      record = entry.path().string();
  SECTION("torn") {
    std::filesystem::resize_file(record, std::filesystem::file_size(record) - 1);
  }
  SECTION("changed") {
    std::fstream file(record, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(14);
    file.put('x');
  }
  SECTION("others may write to it") {
    ::chmod(record.c_str(), 0666);
  }
  SECTION("a link") {
    std::filesystem::rename(record, record + "x");
    std::filesystem::create_symlink(record + "x", record);
  }
  SECTION("of another user than its name says") {
    if (::geteuid() == 0)
      REQUIRE(::chown(record.c_str(), 12345, 0) == 0);
    else
      ::unlink(record.c_str());
  }
  SECTION("of another group") {
    // Its name is the other group's, its content is not.
    acquire(*a, "other");
    for (const auto& entry : std::filesystem::directory_iterator(f.leases()))
      if (!entry.path().string().ends_with(".lock") && entry.path().string() != record)
        std::filesystem::copy_file(entry.path(), record,
                                   std::filesystem::copy_options::overwrite_existing);
  }
  CHECK(acquire(*b, "vm").outcome == LeaseOutcome::kDone);
}

TEST_CASE("another user's record counts when that user may write there, and can be followed") {
  if (::geteuid() != 0)
    return;
  static constexpr uid_t kAnn = 12345;
  static constexpr uid_t kBob = 12346;
  LeasedExport f;
  const auto as = [&](uid_t uid, const auto& what) {
    const pid_t child = ::fork();
    if (child == 0) {
      ::_exit(::setresuid(uid, uid, uid) == 0 && what() ? 0 : 1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
  };
  const auto takes = [&](unsigned client) {
    return acquire(*f.store(client, client), "vm").outcome == LeaseOutcome::kDone;
  };
  const std::string vm = f.dir.path() + "/top/vm";
  REQUIRE(as(kAnn, [&] { return takes(1); }));
  SECTION("no rights: no record") {
    CHECK(as(kBob, [&] { return takes(2); }));
    return;
  }
  SECTION("the owner") {
    REQUIRE(::chown(vm.c_str(), kAnn, 0) == 0);
  }
  SECTION("everybody") {
    ::chmod(vm.c_str(), 0777);
  }
  SECTION("who may write above it") {
    ::chmod((f.dir.path() + "/top").c_str(), 0777);
  }
  CHECK_FALSE(as(kBob, [&] { return takes(2); }));
  CHECK_FALSE(takes(3));
  f.now_ms += kLengthMs;
  CHECK(as(kBob, [&] { return takes(2); }));
}

TEST_CASE("who may not write somewhere can't break a lease there") {
  if (::geteuid() != 0)
    return;
  LeasedExport f;
  const std::uint64_t epoch = acquire(*f.store(1, 1), "vm").leases[0].epoch;
  const pid_t child = ::fork();
  if (child == 0) {
    if (::setresuid(12345, 12345, 12345) != 0)
      ::_exit(2);
    const auto reply = f.store(2, 2)->break_lease("vm", epoch);
    ::_exit(!reply && reply.error().code == ErrorCode::kAccessDenied ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 0));
  CHECK(f.store(1, 1)->list("")->leases.size() == 1);
}

TEST_CASE("a passage keeps the lease where it is, also against other processes") {
  LeasedExport f;
  const auto a = f.store(1, 1);
  const std::uint64_t epoch = acquire(*a, "vm").leases[0].epoch;
  int tells[2];
  REQUIRE(::pipe(tells) == 0);
  pid_t child = 0;
  {
    const auto passage = a->enter({"vm/x"}, LeaseStore::Purpose::kCommit);
    REQUIRE(passage.has_value());
    REQUIRE(enters(*a, "vm/y") == kPasses);  // several share it
    child = ::fork();
    if (child == 0) {
      for (int fd = 3; fd < 1024; ++fd)  // a lock belongs to who shares its descriptor
        if (fd != tells[1])
          ::close(fd);
      const auto b = f.store(2, 2);
      const char begun = 'b';
      (void)!::write(tells[1], &begun, 1);
      const auto broken = b->break_lease("vm", epoch);
      const char over = broken && broken->outcome == LeaseOutcome::kDone ? 'o' : 'x';
      (void)!::write(tells[1], &over, 1);
      ::_exit(0);
    }
    char begun = 0;
    REQUIRE(::read(tells[0], &begun, 1) == 1);
    ::usleep(50'000);  // it gets nowhere meanwhile
    CHECK(a->list("")->leases.size() == 1);
    CHECK(a->list("")->leases[0].epoch == epoch);
  }
  char over = 0;
  REQUIRE(::read(tells[0], &over, 1) == 1);
  CHECK(over == 'o');
  ::waitpid(child, nullptr, 0);
  ::close(tells[0]);
  ::close(tells[1]);
  CHECK(enters(*a, "vm/x") == ErrorCode::kLeaseLost);
}
