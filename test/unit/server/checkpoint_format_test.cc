// The bytes of docs/journal-format.md.

#include "checkpoint_fixture.h"

#include <cstdlib>
#include <sys/mman.h>

namespace slipway {
namespace {

constexpr JournalHead kHead{kThisClient, kGroup, 77};

Attributes some_attributes() {
  Attributes attributes;
  attributes.version = {{0, 4711}, {1'700'000'000, 1}, 8, {1'700'000'100, 2}, {1'700'000'200, 3}};
  attributes.inode_number = 4711;
  attributes.mode = 0640;
  attributes.nlink = 1;
  attributes.uid = 1000;
  attributes.gid = 1000;
  attributes.allocated = 4096;
  attributes.atime = {1'700'000'300, 4};
  return attributes;
}

CommitPlan some_plan() {
  CommitFile a;
  a.node = {"vm/a", {0, 4711}};
  a.base = some_attributes().version;
  a.keep = 5;
  a.size = 9;
  a.mtime = {1'700'000'400, 5};
  CommitFile b = a;
  b.node = {"vm/b", {0, 4712}};
  b.base.id.inode = 4712;
  b.handle = 3;
  CommitPlan plan;
  plan.request = {kHead.group, kHead.checkpoint, 1, {a, b}};
  plan.outcomes = {{0, ""}, {number_of(ErrorCode::kStale), "b.conflict-c1c2c3c4-77"}};
  return plan;
}

CommitPlan some_plan_that_makes() {
  CommitPlan plan = some_plan();
  CommitFile taken;
  taken.node.path = "vm/there";
  taken.base = some_attributes().version;
  taken.base.id.inode = 4713;
  taken.base.size = 0;
  taken.make = CommitMake{MakeKind::kDirectory, 0755};
  CommitFile file = taken;
  file.node.path = "vm/there/new";
  file.base.id.inode = 4714;
  file.size = 3;
  file.make = CommitMake{MakeKind::kFile, 0644};
  plan.request.files.push_back(taken);
  plan.request.files.push_back(file);
  plan.outcomes.push_back({0, "", true});
  plan.outcomes.push_back({0, ""});
  return plan;
}

Bytes some_journal(bool is_committed) {
  const Part part = Part().data(0, 0, "abc").range(1, StageKind::kZero, 4, 4).data(1, 0, "de");
  StageRequest request;
  request.group = kHead.group;
  request.checkpoint = kHead.checkpoint;
  request.extents = part.extents;
  request.data = part.bytes;
  Bytes body;
  encode(body, request);
  Bytes bytes;
  encode(bytes, kHead);
  append(bytes, encode_record(JournalRecordKind::kPart, 0, body, kHead.checkpoint));
  if (is_committed) {
    Bytes plan;
    encode(plan, some_plan());
    append(bytes, encode_record(JournalRecordKind::kCommit, 0, plan, kHead.checkpoint));
  }
  return bytes;
}

Bytes some_applied() {
  AppliedRecord record;
  record.checkpoint = kHead.checkpoint;
  record.reply.files = {{0, "", some_attributes()},
                        {number_of(ErrorCode::kStale), "b.conflict-c1c2c3c4-77", {}}};
  return encode_applied(record);
}

Bytes golden(const std::string& name, const Bytes& bytes) {
  const std::string path = std::string(SLIPWAY_JOURNAL_GOLDEN) + "/" + name + ".bin";
  if (std::getenv("SLIPWAY_ACCEPT_GOLDEN") != nullptr)
    REQUIRE(replace_file(path, as_text(bytes), 0644).has_value());
  const Result<std::string> content = read_small_file(path, kRecordBodyMax);
  REQUIRE(content.has_value());
  const ByteView view = as_bytes(*content);
  return {view.begin(), view.end()};
}

Result<JournalFile> read_journal(ByteView bytes) {
  UniqueFd fd(::memfd_create("journal", MFD_CLOEXEC));
  REQUIRE(write_full(fd.get(), bytes).has_value());
  return JournalFile::read(std::move(fd), kHead);
}

}  // namespace

TEST_CASE("a journal has the bytes that its golden files hold") {
  const Bytes stage = some_journal(false);
  CHECK(golden("stage", stage) == stage);
  JournalFile staged = read_journal(stage).value();
  CHECK(staged.has(0));
  CHECK(!staged.plan());
  const Bytes commit = some_journal(true);
  CHECK(golden("commit", commit) == commit);
  JournalFile committed = read_journal(commit).value();
  REQUIRE(committed.plan());
  CHECK(committed.plan()->outcomes == some_plan().outcomes);
  CHECK(committed.plan()->request.files[1].node.path == "vm/b");
  CHECK(!committed.has_torn_end());
  std::size_t extents = 0;
  CHECK(committed.for_each_part(1, [&](const StageRequest& part) -> Status {
    extents += part.extents.size();
    return {};
  }));
  CHECK(extents == 3);
}

TEST_CASE("a commit's plan and what was applied have the bytes that their golden files hold") {
  Bytes plan;
  encode(plan, some_plan());
  CHECK(golden("plan", plan) == plan);
  CHECK(decode_commit_plan(plan).value().outcomes == some_plan().outcomes);
  const Bytes applied = some_applied();
  CHECK(golden("applied", applied) == applied);
  const AppliedRecord record = decode_applied(applied).value();
  CHECK(record.checkpoint == 77);
  CHECK(record.reply.files[0].attributes == some_attributes());
  CHECK(record.reply.files[1].conflict_name == "b.conflict-c1c2c3c4-77");
}

TEST_CASE("a plan that makes names has the bytes that its golden file holds") {
  Bytes plan;
  encode(plan, some_plan_that_makes());
  CHECK(golden("plan-make", plan) == plan);
  const CommitPlan again = decode_commit_plan(plan).value();
  CHECK(again.outcomes == some_plan_that_makes().outcomes);
  CHECK(again.outcomes[2].is_taken);
  CHECK(again.request.files[2].make == CommitMake{MakeKind::kDirectory, 0755});
  CHECK(again.request.files[3].make == CommitMake{MakeKind::kFile, 0644});
}

TEST_CASE("a plan of before commits made names is read as one that makes none") {
  const CommitPlan plan = decode_commit_plan(golden("plan", [] {
                            Bytes bytes;
                            encode(bytes, some_plan());
                            return bytes;
                          }())).value();
  for (const CommitFile& file : plan.request.files)
    CHECK(!file.make);
  for (const PlannedOutcome& outcome : plan.outcomes)
    CHECK(!outcome.is_taken);
}

TEST_CASE("what small commits write over in place has the bytes that its golden files hold") {
  const Bytes commit = encode_small_commit(some_journal(true));
  CHECK(golden("small-commit", commit) == commit);
  Bytes in_its_file = commit;
  in_its_file.resize(kSmallCommitSize, std::byte{0x5a});  // of a longer one before
  const ByteView content = decode_small_commit(in_its_file).value();
  CHECK(Bytes(content.begin(), content.end()) == some_journal(true));
  const Bytes slot = encode_applied_slot(decode_applied(some_applied()).value());
  CHECK(golden("small-applied", slot) == slot);
  REQUIRE(slot.size() == kSmallAppliedSlot);
  CHECK(decode_applied_slot(slot).value().checkpoint == 77);
  CHECK(decode_applied_slot(slot).value().reply.files[0].attributes == some_attributes());
}

TEST_CASE("a small commit or slot that is damaged or cut anywhere counts as none") {
  Bytes commit = encode_small_commit(some_journal(true));
  for (std::size_t at = 0; at < commit.size(); ++at) {
    CHECK(!decode_small_commit(ByteView(commit).first(at)).has_value());
    commit[at] ^= std::byte{0x10};
    CAPTURE(at);
    CHECK(!decode_small_commit(commit).has_value());
    commit[at] ^= std::byte{0x10};
  }
  Bytes slot = encode_applied_slot(decode_applied(some_applied()).value());
  for (std::size_t at = 0; at < 4 + some_applied().size(); ++at) {
    slot[at] ^= std::byte{0x10};
    CAPTURE(at);
    CHECK(!decode_applied_slot(slot).has_value());
    slot[at] ^= std::byte{0x10};
  }
  std::fill(slot.begin(), slot.end(), std::byte{0});
  CHECK(decode_applied_slot(slot).value().checkpoint == 0);
  CHECK(!decode_small_commit(Bytes()).has_value());
}

TEST_CASE("a reply that does not fit a slot is not put there") {
  AppliedRecord record;
  record.checkpoint = 1;
  record.reply.files.resize(200);
  CHECK(encode_applied_slot(record).empty());
}

TEST_CASE("a plan that says what none can is refused") {
  const auto is_refused = [](const CommitPlan& plan) {
    Bytes bytes;
    encode(bytes, plan);
    return !decode_commit_plan(bytes).has_value();
  };
  CommitPlan plan = some_plan();
  CHECK(!is_refused(plan));
  plan.outcomes.pop_back();
  CHECK(is_refused(plan));
  plan = some_plan();
  plan.outcomes[1].conflict_name = "../b";
  CHECK(is_refused(plan));
  plan = some_plan();
  plan.outcomes[0].conflict_name = "b";  // of a file that is applied
  CHECK(is_refused(plan));
  plan = some_plan_that_makes();
  CHECK(!is_refused(plan));
  plan.outcomes[0].is_taken = true;  // of a file that is not made
  CHECK(is_refused(plan));
  plan = some_plan_that_makes();
  plan.outcomes[3].is_taken = true;  // of a made file
  CHECK(is_refused(plan));
  plan = some_plan_that_makes();
  plan.outcomes[2].status = number_of(ErrorCode::kExists);
  CHECK(is_refused(plan));
  Bytes bytes;
  encode(bytes, some_plan_that_makes());
  for (const unsigned count : {0U, 2U, 255U}) {
    bytes[bytes.size() - 8] = static_cast<std::byte>(count);
    CHECK(!decode_commit_plan(bytes).has_value());
  }
}

}  // namespace slipway
