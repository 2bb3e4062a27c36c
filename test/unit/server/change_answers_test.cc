// Changes as a client asks for them: once, also over sessions that died in the middle.

#include "server/change_answers.h"

#include "server/change_intent.h"
#include "server/request_handler.h"
#include "store_fixture.h"
#include "test_client.h"

#include <set>

namespace slipway {
namespace {

/// Stages and commits that are only counted.
class CountingCheckpoints final : public Checkpoints {
 public:
  Status stage(const StageRequest&) override {
    ++stages;
    return {};
  }

  using Checkpoints::commit;

  Result<CommitReply> commit(const CommitRequest& request, HandleTable&, LeaseStore*) override {
    return CommitReply{std::vector<CommitResult>(request.files.size(), {30, "", {}})};
  }

  Result<PrepareReply> prepare(const PrepareRequest&) override { return PrepareReply{}; }

  int stages = 0;
};

/// One session over an export, with the log that all sessions share.
struct OneSession {
  explicit OneSession(const ExportFixture& f, bool allowed = true, LeaseStore* leases = nullptr)
      : store(f.open_store("")),
        log(OperationLog::open(f.dir / "client").value()),
        handler(*store, 16, {}, {allowed, log.get(), &checkpoints, leases}) {}

  template <class T>
  TestReply ask(MessageType type, const T& body) {
    Request request;
    request.header = {type, 0, 0, 42, 1, 0};
    request.body = body;
    const auto answer = handler.begin(std::move(request), kFrameMax);
    Answer::Step step = answer->step(tools);
    REQUIRE(step.done);
    REQUIRE(step.frame.has_value());
    const FrameHeader header = decode_frame_header(step.frame->head).value();
    CHECK(header.number == 1);
    return {header, std::move(step.frame->head)};
  }

  template <class T>
  std::uint32_t status(MessageType type, const T& body) {
    return ask(type, body).header.status;
  }

  /// As if this process had died after it noted what it was about to do.
  template <class T>
  void die_before(MessageType type, const T& body) {
    auto turn = log->begin(body.operation, type);
    REQUIRE(turn.has_value());
    REQUIRE(turn->intend(intent_of(*store, body)).has_value());
  }

  CountingCheckpoints checkpoints;
  std::unique_ptr<DirectoryStore> store;
  std::unique_ptr<OperationLog> log;
  RequestHandler handler;
  WorkerTools tools;
};

MakeRequest make_of(OperationId operation, const std::string& name,
                    MakeKind kind = MakeKind::kFile) {
  MakeRequest request;
  request.operation = operation;
  request.kind = kind;
  request.directory = {"vm", {}};
  request.name = name;
  request.mode = 0644;
  request.exclusive = true;
  if (kind == MakeKind::kSymlink)
    request.target = "disk";
  return request;
}

RemoveRequest remove_of(OperationId operation, const std::string& name) {
  return {operation, {"vm", {}}, name, false};
}

RenameRequest rename_of(OperationId operation, const std::string& from, const std::string& to,
                        std::uint32_t flags = 0) {
  return {operation, {"vm", {}}, from, {"vm", {}}, to, flags};
}

bool exists(const ExportFixture& f, const std::string& name) {
  return fs::exists(fs::symlink_status(f.root + "/vm/" + name));
}

}  // namespace

TEST_CASE("a change is answered, and answered the same again in another session") {
  const ExportFixture f;
  OneSession first(f);
  const TestReply made = first.ask(MessageType::kMake, make_of(1, "new"));
  REQUIRE(made.header.status == 0);
  CHECK(decode_make_reply(made.body()).value().made);
  const TestReply removed = first.ask(MessageType::kRemove, remove_of(2, "new"));
  CHECK(removed.header.status == 0);
  CHECK(removed.body().empty());
  CHECK(first.status(MessageType::kRemove, remove_of(3, "new")) == status_of(ErrorCode::kNotFound));

  write_file(f.root + "/vm/new", "someone's");
  OneSession second(f);
  CHECK(second.ask(MessageType::kMake, make_of(1, "new")).frame == made.frame);
  CHECK(second.ask(MessageType::kRemove, remove_of(2, "new")).frame == removed.frame);
  CHECK(second.status(MessageType::kRemove, remove_of(3, "new")) ==
        status_of(ErrorCode::kNotFound));
  CHECK(exists(f, "new"));
  CHECK(second.status(MessageType::kRemove, remove_of(4, "new")) == 0);
}

TEST_CASE(
    "a made file is open for writing under its handle, also when the answer is a repetition") {
  const ExportFixture f;
  MakeRequest request = make_of(1, "new");
  request.handle = 9;
  for (OperationId session = 0; session < 2; ++session) {
    OneSession s(f);
    CHECK(s.status(MessageType::kMake, request) == 0);
    SetattrRequest setattr;
    setattr.operation = 10 + session;
    setattr.handle = 9;
    setattr.mask = kSetMode;
    setattr.mode = 0600;
    const TestReply reply = s.ask(MessageType::kSetattr, setattr);
    REQUIRE(reply.header.status == 0);
    CHECK(decode_change_reply(reply.body()).value().after.mode == 0600);
    CHECK(s.status(MessageType::kOpen, OpenRequest{9, {"vm/new", {}}, kOpenWrite}) == 0);
    MakeRequest other = make_of(20 + session, "other");
    other.handle = 9;
    CHECK(s.status(MessageType::kMake, other) == status_of(ErrorCode::kExists));
    CHECK(!exists(f, "other"));
  }
  fs::remove(f.root + "/vm/new");
  OneSession third(f);
  CHECK(third.status(MessageType::kMake, request) == status_of(ErrorCode::kStale));
}

TEST_CASE("what was begun and is done is not done again, but answered as done") {
  const ExportFixture f;
  const std::string vm = f.root + "/vm/";
  write_file(vm + "a", "a");
  write_file(vm + "b", "b");
  const auto id_of = [&](const std::string& name) {
    return f.store->getattr({"vm/" + name, {}}).value().version.id;
  };
  const FileId a = id_of("a");
  OneSession dies(f);
  SECTION("make a file") {
    dies.die_before(MessageType::kMake, make_of(1, "new"));
    write_file(vm + "new", "");
    const TestReply reply = OneSession(f).ask(MessageType::kMake, make_of(1, "new"));
    REQUIRE(reply.header.status == 0);
    CHECK(decode_make_reply(reply.body()).value().made);
  }
  SECTION("make a directory") {
    dies.die_before(MessageType::kMake, make_of(1, "new", MakeKind::kDirectory));
    fs::create_directory(vm + "new");
    CHECK(OneSession(f).status(MessageType::kMake, make_of(1, "new", MakeKind::kDirectory)) == 0);
  }
  SECTION("make a symbolic link") {
    dies.die_before(MessageType::kMake, make_of(1, "new", MakeKind::kSymlink));
    fs::create_symlink("disk", vm + "new");
    CHECK(OneSession(f).status(MessageType::kMake, make_of(1, "new", MakeKind::kSymlink)) == 0);
  }
  SECTION("link") {
    const LinkRequest request{1, {"vm/a", {}}, {"vm", {}}, "new"};
    dies.die_before(MessageType::kLink, request);
    fs::create_hard_link(vm + "a", vm + "new");
    const TestReply reply = OneSession(f).ask(MessageType::kLink, request);
    REQUIRE(reply.header.status == 0);
    CHECK(decode_attributes(reply.body()).value().version.id == a);
  }
  SECTION("remove") {
    dies.die_before(MessageType::kRemove, remove_of(1, "a"));
    fs::remove(vm + "a");
    SECTION("and nothing is there") {}
    SECTION("and someone made another file of that name") {
      write_file(vm + "later", "someone's");
      fs::rename(vm + "later", vm + "a");
    }
    const bool is_there = exists(f, "a");
    CHECK(OneSession(f).status(MessageType::kRemove, remove_of(1, "a")) == 0);
    CHECK(exists(f, "a") == is_there);
  }
  SECTION("rename") {
    dies.die_before(MessageType::kRename, rename_of(1, "a", "b"));
    fs::rename(vm + "a", vm + "b");
    const TestReply reply = OneSession(f).ask(MessageType::kRename, rename_of(1, "a", "b"));
    REQUIRE(reply.header.status == 0);
    CHECK(decode_attributes(reply.body()).value().version.id == a);
  }
  SECTION("exchange") {
    const RenameRequest request = rename_of(1, "a", "b", kRenameExchange);
    dies.die_before(MessageType::kRename, request);
    fs::rename(vm + "a", vm + "c");
    fs::rename(vm + "b", vm + "a");
    fs::rename(vm + "c", vm + "b");
    CHECK(OneSession(f).status(MessageType::kRename, request) == 0);
    CHECK(id_of("b") == a);
  }
}

TEST_CASE("what was begun and is not done is done now") {
  const ExportFixture f;
  const std::string vm = f.root + "/vm/";
  write_file(vm + "a", "a");
  write_file(vm + "b", "b");
  OneSession dies(f);
  SECTION("make") {
    dies.die_before(MessageType::kMake, make_of(1, "new"));
    CHECK(OneSession(f).status(MessageType::kMake, make_of(1, "new")) == 0);
    CHECK(exists(f, "new"));
  }
  SECTION("make of what was there, or is someone's") {
    dies.die_before(MessageType::kMake, make_of(1, "a"));
    dies.die_before(MessageType::kMake, make_of(2, "new"));
    write_file(vm + "new", "content");
    OneSession s(f);
    CHECK(s.status(MessageType::kMake, make_of(1, "a")) == status_of(ErrorCode::kExists));
    CHECK(s.status(MessageType::kMake, make_of(2, "new")) == status_of(ErrorCode::kExists));
  }
  SECTION("link") {
    const LinkRequest request{1, {"vm/a", {}}, {"vm", {}}, "new"};
    dies.die_before(MessageType::kLink, request);
    CHECK(OneSession(f).status(MessageType::kLink, request) == 0);
    CHECK(exists(f, "new"));
  }
  SECTION("remove") {
    dies.die_before(MessageType::kRemove, remove_of(1, "a"));
    CHECK(OneSession(f).status(MessageType::kRemove, remove_of(1, "a")) == 0);
    CHECK(!exists(f, "a"));
  }
  SECTION("rename") {
    dies.die_before(MessageType::kRename, rename_of(1, "a", "b"));
    CHECK(OneSession(f).status(MessageType::kRename, rename_of(1, "a", "b")) == 0);
    CHECK(!exists(f, "a"));
    CHECK(read_small_file(vm + "b", 10).value() == "a");
  }
  SECTION("exchange") {
    const RenameRequest request = rename_of(1, "a", "b", kRenameExchange);
    dies.die_before(MessageType::kRename, request);
    CHECK(OneSession(f).status(MessageType::kRename, request) == 0);
    CHECK(read_small_file(vm + "b", 10).value() == "a");
  }
  SECTION("attributes") {
    SetattrRequest request;
    request.operation = 1;
    request.node = {"vm/a", {}};
    request.mask = kSetMode;
    request.mode = 0600;
    dies.die_before(MessageType::kSetattr, request);
    CHECK(OneSession(f).status(MessageType::kSetattr, request) == 0);
    CHECK(f.store->getattr({"vm/a", {}}).value().mode == 0600);
  }
  SECTION("copy") {
    const CopyRequest request{1, 1, 0, 2, 1, 1};
    dies.die_before(MessageType::kCopy, request);
    OneSession s(f);
    CHECK(s.status(MessageType::kCopy, request) == status_of(ErrorCode::kBadHandle));
    REQUIRE(s.status(MessageType::kOpen, OpenRequest{1, {"vm/a", {}}, 0}) == 0);
    REQUIRE(s.status(MessageType::kOpen, OpenRequest{2, {"vm/b", {}}, kOpenWrite}) == 0);
    CHECK(s.status(MessageType::kCopy, request) == 0);  // the handle passed, the operation did not
    CHECK(read_small_file(vm + "b", 10).value() == "ba");
  }
}

TEST_CASE("handles are opened for writing when asked, and never silently for reading instead") {
  const ExportFixture f;
  OneSession s(f);
  CHECK(s.status(MessageType::kOpen, OpenRequest{1, {"vm/disk", {}}, kOpenWrite}) == 0);
  CHECK(s.status(MessageType::kOpen, OpenRequest{1, {"vm/disk", {}}, kOpenWrite}) == 0);
  CHECK(s.status(MessageType::kOpen, OpenRequest{1, {"vm/disk", {}}, 0}) == 0);
  CHECK(s.status(MessageType::kOpen, OpenRequest{2, {"vm/disk", {}}, 0}) == 0);
  CHECK(s.status(MessageType::kOpen, OpenRequest{2, {"vm/disk", {}}, kOpenWrite}) ==
        status_of(ErrorCode::kExists));
  CHECK(s.status(MessageType::kOpen, OpenRequest{3, {"vm/disk", {}}, 2}) ==
        status_of(ErrorCode::kInvalid));
}

TEST_CASE("stages, commits and syncs are passed on") {
  const ExportFixture f;
  OneSession s(f);
  CHECK(s.status(MessageType::kSync, SyncRequest{{"vm", {}}}) == 0);
  CHECK(s.status(MessageType::kStage, StageRequest{}) == 0);
  CHECK(s.checkpoints.stages == 1);
  CommitRequest commit;
  commit.files.resize(2);
  const TestReply reply = s.ask(MessageType::kCommit, commit);
  REQUIRE(reply.header.status == 0);
  CHECK(decode_commit_reply(reply.body()).value().files.size() == 2);
}

TEST_CASE("inodes are prepared for who may have leases") {
  const ExportFixture f;
  OneSession none(f);
  CHECK(none.status(MessageType::kPrepare, PrepareRequest{}) ==
        status_of(ErrorCode::kNotSupported));
  LeaseStore::Options options;
  options.directory = f.dir / "leases";
  options.top = f.root;
  const auto leases = LeaseStore::open(std::move(options)).value();
  OneSession s(f, true, leases.get());
  const TestReply reply = s.ask(MessageType::kPrepare, PrepareRequest{});
  REQUIRE(reply.header.status == 0);
  CHECK(decode_prepare_reply(reply.body()).has_value());
}

TEST_CASE("a read-only session refuses everything that changes something") {
  const ExportFixture f;
  OneSession s(f, false);
  static constexpr std::uint32_t kRefused = status_of(ErrorCode::kReadOnly);
  CHECK(s.status(MessageType::kOpen, OpenRequest{1, {"vm/disk", {}}, kOpenWrite}) == kRefused);
  CHECK(s.status(MessageType::kMake, make_of(1, "new")) == kRefused);
  CHECK(s.status(MessageType::kLink, LinkRequest{2, {"vm/disk", {}}, {"vm", {}}, "x"}) == kRefused);
  CHECK(s.status(MessageType::kRemove, remove_of(3, "disk")) == kRefused);
  CHECK(s.status(MessageType::kRename, rename_of(4, "disk", "x")) == kRefused);
  SetattrRequest setattr;
  setattr.operation = 5;
  setattr.node = {"vm/disk", {}};
  setattr.mask = kSetMode;
  CHECK(s.status(MessageType::kSetattr, setattr) == kRefused);
  CHECK(s.status(MessageType::kOpen, OpenRequest{1, {"vm/disk", {}}, 0}) == 0);
  CHECK(s.status(MessageType::kCopy, CopyRequest{6, 1, 0, 1, 10, 1}) == kRefused);
  CHECK(s.status(MessageType::kSync, SyncRequest{{"vm", {}}}) == kRefused);
  CHECK(s.status(MessageType::kStage, StageRequest{}) == kRefused);
  CHECK(s.status(MessageType::kCommit, CommitRequest{}) == kRefused);
  CHECK(s.status(MessageType::kPrepare, PrepareRequest{}) == kRefused);
  CHECK(s.checkpoints.stages == 0);
  CHECK(f.list("vm").size() == 2);
  CHECK(read_small_file(f.root + "/vm/disk", 10).value() == "disk");
}

}  // namespace slipway
