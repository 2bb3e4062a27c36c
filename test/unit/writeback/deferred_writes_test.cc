#include "support/catch.h"
#include "writeback/deferred_writes.h"

#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

using namespace slipway;

namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

using Outcome = std::optional<ErrorCode>;
constexpr Outcome kTaken = std::nullopt;

/// Takes a file's changes when it is open, and notes what was taken and what came of it.
class Rig {
 public:
  explicit Rig(Duration full_wait)
      : writes_(full_wait, [this](const DeferredWrites::Write& write) { return take(write); }) {}

  void add(const std::shared_ptr<WrittenFile>& file, std::uint64_t offset) {
    DeferredWrites::Write write;
    write.file = file;
    write.change.offset = offset;
    write.done = [this](const Result<TakenChange>& taken) {
      const std::lock_guard lock(mutex_);
      ended_.push_back(taken ? kTaken : Outcome(taken.error().code));
      changed_.notify_all();
    };
    const Error full{ErrorCode::kNoSpace, "full"};
    writes_.add(std::move(write), &full);
  }

  void let_through(std::uint64_t file) {
    {
      const std::lock_guard lock(mutex_);
      open_[file] = true;
    }
    writes_.try_again();
  }

  void answer_with(ErrorCode code) {
    const std::lock_guard lock(mutex_);
    refusal_ = code;
  }

  std::vector<Outcome> wait_for_ended(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, seconds(20), [&] { return ended_.size() >= count; });
    return ended_;
  }

  std::vector<std::pair<std::uint64_t, std::uint64_t>> taken() {
    const std::lock_guard lock(mutex_);
    return taken_;
  }

  DeferredWrites& writes() { return writes_; }

 private:
  Result<TakenChange> take(const DeferredWrites::Write& write) {
    const std::lock_guard lock(mutex_);
    if (!open_[write.file->number()])
      return fail(refusal_, "not yet");
    taken_.emplace_back(write.file->number(), write.change.offset);
    return TakenChange{};
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::uint64_t, bool> open_;
  ErrorCode refusal_ = ErrorCode::kNoSpace;
  std::vector<std::pair<std::uint64_t, std::uint64_t>> taken_;
  std::vector<Outcome> ended_;
  DeferredWrites writes_;  // last: its thread calls take()
};

std::shared_ptr<WrittenFile> file_of(std::uint64_t number) {
  return std::make_shared<WrittenFile>(number, WrittenFile::Named{});
}

}  // namespace

TEST_CASE("one file's changes are taken in their order, and another's do not wait behind them") {
  Rig rig(seconds(600));
  const auto one = file_of(1);
  const auto two = file_of(2);
  CHECK_FALSE(rig.writes().has(*one));
  for (const std::uint64_t offset : {10U, 11U, 12U})
    rig.add(one, offset);
  rig.add(two, 20);
  CHECK(rig.writes().has(*one));
  CHECK(rig.writes().size() == 4);
  CHECK(rig.writes().reason() != "");
  rig.let_through(2);
  CHECK(rig.wait_for_ended(1) == std::vector{kTaken});
  CHECK_FALSE(rig.writes().has(*two));
  rig.let_through(1);
  CHECK(rig.wait_for_ended(4) == std::vector(4, kTaken));
  using Taken = std::pair<std::uint64_t, std::uint64_t>;
  CHECK(rig.taken() == std::vector<Taken>{{2, 20}, {1, 10}, {1, 11}, {1, 12}});
  CHECK(rig.writes().size() == 0);
  CHECK(rig.writes().reason() == "");
}

TEST_CASE("a change that finds no room for long fails, although nobody says that there is room") {
  Rig rig(milliseconds(1));
  rig.add(file_of(1), 0);
  CHECK(rig.wait_for_ended(1) == std::vector{Outcome(ErrorCode::kNoSpace)});
}

TEST_CASE("a change of a file whose name is changing waits for as long as that takes") {
  Rig rig(milliseconds(1));
  rig.answer_with(ErrorCode::kBusy);
  rig.add(file_of(1), 0);
  std::this_thread::sleep_for(milliseconds(50));
  CHECK(rig.writes().size() == 1);
  rig.let_through(1);
  CHECK(rig.wait_for_ended(1) == std::vector{kTaken});
}

TEST_CASE("what still waits at the end is told so, and so is what comes later") {
  Rig rig(seconds(600));
  rig.add(file_of(1), 0);
  rig.add(file_of(1), 1);
  rig.writes().stop();
  rig.add(file_of(1), 2);
  CHECK(rig.wait_for_ended(3) == std::vector(3, Outcome(ErrorCode::kDisconnected)));
  CHECK(rig.taken().empty());
}
