// Questions that are answered once there is news: over leases on a disk, as other sessions change
// them.
#include "server/lease_awaits.h"
#include "server/lease_files.h"

#include "support/catch.h"
#include "support/temp_dir.h"

#include <atomic>
#include <filesystem>
#include <fstream>
#include <sys/stat.h>
#include <thread>

using namespace slipway;

namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

/// An export with a few groups; each store is a session's.
struct AskedExport {
  AskedExport() {
    for (const char* group : {"vm", "other", "third"})
      std::filesystem::create_directories(dir.path() + "/top/" + group);
    ::mkdir((dir.path() + "/leases").c_str(), 0777);
  }

  std::unique_ptr<LeaseStore> store(unsigned client, const std::string& prefix = "") {
    LeaseStore::Options options;
    options.directory = dir.path() + "/leases";
    options.top = dir.path() + "/top";
    options.prefix = prefix;
    options.holder.client_id[0] = options.holder.mount_id[0] = static_cast<std::byte>(client);
    options.holder.host = "host" + std::to_string(client);
    options.now = [this] { return now_ms.load(); };
    return LeaseStore::open(std::move(options)).value();
  }

  TempDir dir;
  std::atomic<std::int64_t> now_ms{1'000'000'000'000};
};

/// A connection's queue, read by the test.
struct Asker {
  LeaseAwaits::Question question(std::uint64_t cookie) {
    LeaseAwaits::Question question;
    question.header.type = MessageType::kLease;
    question.header.cookie = cookie;
    question.to = queue;
    return question;
  }

  struct Answer {
    FrameHeader header;
    LeaseReply reply;
  };

  /// The next answer, however long it takes.
  Answer next() {
    std::optional<QueuedFrame> frame = queue->pop();
    REQUIRE(frame.has_value());
    Answer answer;
    answer.header = decode_frame_header(frame->frame.head).value();
    if (answer.header.status == 0)
      answer.reply = decode_lease_reply(frame_body(frame->frame.head)).value();
    return answer;
  }

  std::shared_ptr<SendQueue> queue = std::make_shared<SendQueue>(kSshFrameMax, 0);
};

std::uint64_t must_acquire(LeaseStore& store, const std::string& path, LeaseOutcome expected) {
  const auto reply = store.answer({LeaseAction::kAcquire, path, "", 0, 0});
  REQUIRE(reply.has_value());
  REQUIRE(reply->outcome == expected);
  return reply->leases[0].epoch;
}

void must_renew(LeaseStore& store, const std::string& path, std::uint64_t epoch) {
  REQUIRE(store.answer({LeaseAction::kRenew, path, "", epoch, 0}).value().outcome ==
          LeaseOutcome::kDone);
}

void must_release(LeaseStore& store, const std::string& path, std::uint64_t epoch) {
  REQUIRE(store.answer({LeaseAction::kRelease, path, "", epoch, 0}).value().outcome ==
          LeaseOutcome::kDone);
}

constexpr auto kDone = LeaseOutcome::kDone;
constexpr auto kHeld = LeaseOutcome::kHeld;

}  // namespace

TEST_CASE("a holder is told that somebody wants its lease, before or after it asks") {
  AskedExport f;
  const auto a = f.store(1);
  const auto b = f.store(2);
  LeaseAwaits awaits(*a, hours(1));
  Asker asker;
  const std::uint64_t epoch = must_acquire(*a, "vm/disk", kDone);
  must_acquire(*a, "other", kDone);
  const bool before = GENERATE(true, false);
  if (before)
    must_acquire(*b, "vm/disk", kHeld);
  awaits.ask(asker.question(7));
  if (!before)
    must_acquire(*b, "vm/disk", kHeld);
  const Asker::Answer answer = asker.next();
  CHECK(answer.header.cookie == 7);
  CHECK(answer.header.type == MessageType::kLease);
  CHECK(answer.reply.outcome == kDone);
  CHECK_FALSE(answer.reply.more);
  REQUIRE(answer.reply.leases.size() == 1);
  CHECK(answer.reply.leases[0].group == "vm");
  CHECK(answer.reply.leases[0].mine);
  CHECK(answer.reply.leases[0].epoch == epoch);
  CHECK(answer.reply.leases[0].wanted_by == "host2");
}

TEST_CASE("who waits is told of the release, and of the lease's passing to a third") {
  AskedExport f;
  const auto a = f.store(1);
  const auto b = f.store(2);
  const auto c = f.store(3);
  LeaseAwaits awaits(*b, hours(1));
  Asker asker;
  const std::uint64_t epoch = must_acquire(*a, "vm", kDone);
  must_acquire(*b, "vm", kHeld);
  awaits.ask(asker.question(1));
  must_renew(*a, "vm", epoch);  // is none of its business
  f.now_ms += 25'000;
  must_renew(*a, "vm", epoch);
  must_release(*a, "vm", epoch);
  Asker::Answer answer = asker.next();
  REQUIRE(answer.reply.leases.size() == 1);
  CHECK(answer.reply.leases[0].group == "vm");
  CHECK_FALSE(answer.reply.leases[0].held);

  f.now_ms += 1;
  must_acquire(*c, "vm", kDone);
  awaits.ask(asker.question(2));
  answer = asker.next();
  REQUIRE(answer.reply.leases.size() == 1);
  CHECK(answer.reply.leases[0].host == "host3");
}

TEST_CASE("a holder is told that its lease was broken") {
  AskedExport f;
  const auto a = f.store(1);
  const auto b = f.store(2);
  LeaseAwaits awaits(*a, hours(1));
  Asker asker;
  const std::uint64_t epoch = must_acquire(*a, "vm", kDone);
  awaits.ask(asker.question(1));
  REQUIRE(b->answer({LeaseAction::kBreak, "", "vm", epoch, 0}).has_value());
  const Asker::Answer answer = asker.next();
  REQUIRE(answer.reply.leases.size() == 1);
  CHECK_FALSE(answer.reply.leases[0].held);
  CHECK(answer.reply.leases[0].epoch > epoch);
}

TEST_CASE("without news a question is answered with nothing, when its time is over") {
  AskedExport f;
  const auto a = f.store(1);
  LeaseAwaits awaits(*a, milliseconds(50));
  Asker asker;
  const std::uint64_t epoch = must_acquire(*a, "vm", kDone);
  for (std::uint64_t cookie = 1; cookie < 4; ++cookie) {
    awaits.ask(asker.question(cookie));
    f.now_ms += 30'000;
    must_renew(*a, "vm", epoch);  // its own record changes
    const Asker::Answer answer = asker.next();
    CHECK(answer.header.cookie == cookie);
    CHECK(answer.reply.leases.empty());
    CHECK_FALSE(answer.reply.more);
  }
}

TEST_CASE("a session that knows of no lease asks the client to say what it has") {
  AskedExport f;
  const auto before = f.store(1);
  const std::uint64_t epoch = must_acquire(*before, "vm", kDone);
  const auto a = f.store(1);
  const auto b = f.store(2);
  LeaseAwaits awaits(*a, hours(1));
  Asker asker;
  awaits.ask(asker.question(1));
  CHECK(asker.next().reply.more);
  must_renew(*a, "vm", epoch);
  awaits.ask(asker.question(2));
  must_acquire(*b, "vm", kHeld);
  const Asker::Answer answer = asker.next();
  CHECK_FALSE(answer.reply.more);
  CHECK(answer.reply.leases.size() == 1);
}

TEST_CASE("a mount of a deeper directory is told of its one group") {
  AskedExport f;
  std::filesystem::create_directories(f.dir.path() + "/top/vm/deep");
  const auto a = f.store(1, "vm/deep");
  const auto b = f.store(2);
  LeaseAwaits awaits(*a, hours(1));
  Asker asker;
  must_acquire(*a, "x", kDone);
  awaits.ask(asker.question(1));
  must_acquire(*b, "vm/disk", kHeld);
  const Asker::Answer answer = asker.next();
  CHECK(answer.reply.whole_export);
  CHECK(answer.reply.leases.size() == 1);
}

TEST_CASE("a second question ends the first, a thousand leave one, and it can be cancelled") {
  AskedExport f;
  const auto a = f.store(1);
  LeaseAwaits awaits(*a, hours(1));
  Asker asker;
  must_acquire(*a, "vm", kDone);
  awaits.ask(asker.question(0));
  for (std::uint64_t cookie = 1; cookie <= 1000; ++cookie) {
    awaits.ask(asker.question(cookie));
    const Asker::Answer ended = asker.next();
    CHECK(ended.header.cookie == cookie - 1);
    CHECK(ended.reply.leases.empty());
  }
  awaits.cancel(999);  // is over
  awaits.cancel(1000);
  const Asker::Answer cancelled = asker.next();
  CHECK(cancelled.header.cookie == 1000);
  CHECK(cancelled.header.status == static_cast<std::uint32_t>(ErrorCode::kCancelled));
}

TEST_CASE("a question is forgotten with its connection, and its share of the budget with it") {
  AskedExport f;
  const auto a = f.store(1);
  RequestBudget budget(1, 1024);
  const std::stop_source never;
  Asker gone;
  Asker asker;
  must_acquire(*a, "vm", kDone);
  {
    LeaseAwaits awaits(*a, hours(1));
    LeaseAwaits::Question question = gone.question(1);
    question.hold = budget.acquire(10, never.get_token());
    awaits.ask(std::move(question));
    CHECK(budget.bytes_held() == 10);
    awaits.drop(*asker.queue);  // another one
    CHECK(budget.bytes_held() == 10);
    awaits.drop(*gone.queue);
    CHECK(budget.bytes_held() == 0);
    question = asker.question(2);
    question.hold = budget.acquire(10, never.get_token());
    awaits.ask(std::move(question));
  }  // the session's end comes at once
  CHECK(budget.bytes_held() == 0);
  asker.queue->finish();
  CHECK_FALSE(asker.queue->pop().has_value());
}

TEST_CASE("files that come and go fast don't keep a question from its answer") {
  AskedExport f;
  const auto a = f.store(1);
  const auto b = f.store(2);
  LeaseAwaits awaits(*a, hours(1));
  Asker asker;
  must_acquire(*a, "vm", kDone);
  std::atomic<bool> over{false};
  std::thread hostile([&] {
    const std::string path = f.dir.path() + "/leases/";
    for (unsigned i = 0; !over; ++i) {
      const std::string name = path + lease_record_name(i % 2 == 0 ? "vm" : "other", 4711);
      std::ofstream(path + "aside") << "no record";
      std::filesystem::rename(path + "aside", name);
      std::filesystem::remove(name);
    }
  });
  for (std::uint64_t cookie = 1; cookie < 6; ++cookie) {
    must_acquire(*b, "vm", kHeld);
    awaits.ask(asker.question(cookie));
    const Asker::Answer answer = asker.next();
    CHECK(answer.header.cookie == cookie);
    CHECK(answer.reply.leases.size() == 1);
  }
  over = true;
  hostile.join();
}

TEST_CASE("where leases can't be watched the question is refused") {
  AskedExport f;
  const auto a = f.store(1);
  LeaseAwaits awaits(*a, hours(1));
  Asker asker;
  std::filesystem::rename(f.dir.path() + "/leases", f.dir.path() + "/elsewhere");
  awaits.ask(asker.question(1));
  CHECK(asker.next().header.status != 0);
  std::filesystem::rename(f.dir.path() + "/elsewhere", f.dir.path() + "/leases");
  awaits.ask(asker.question(2));
  CHECK(asker.next().reply.more);
}
