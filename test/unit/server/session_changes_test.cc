// Changes through `slipwayd session`, and through its sudden end.

#include "child_session.h"
#include "server/init_export.h"
#include "wire/write_messages.h"

#include <filesystem>
#include <memory>
#include <optional>

namespace slipway {
namespace {

/// A session that was set up, with its only connection.
struct LiveSession {
  explicit LiveSession(const ExportDirectory& e, std::vector<std::string> arguments = {},
                       FeatureBits features = kFeaturesSupported)
      : child(std::move(arguments)) {
    ClientSetup setup = e.client();
    setup.features = features;
    setup.connections = 0;
    setup.client_id = {std::byte{0xc1}};
    server = child.set_up(setup);
    REQUIRE(server.error == 0);
    client = std::make_unique<TestClient>(make_plain_channel(std::move(child.transport)));
  }

  /// With the session's next number, if it is a change; nothing: the session died.
  template <class T>
  std::optional<TestReply> ask(MessageType type, const T& request) {
    const std::uint64_t number = type >= MessageType::kSync ? 0 : ++last_number;
    Result<TestReply> reply = fail(ErrorCode::kIo, "not sent");
    if (client->send(type, 100 + last_number, request, 0, number))
      reply = client->receive();
    if (!reply)
      return std::nullopt;
    CHECK(reply->header.number == number);
    return std::move(*reply);
  }

  template <class T>
  std::uint32_t status(MessageType type, const T& request) {
    const auto reply = ask(type, request);
    REQUIRE(reply.has_value());
    return reply->header.status;
  }

  ChildSession child;
  ServerSetup server;
  std::unique_ptr<TestClient> client;
  std::uint64_t last_number = 0;
};

MakeRequest make_of(OperationId operation, const std::string& name) {
  MakeRequest request;
  request.operation = operation;
  request.directory = {"", {}};
  request.name = name;
  request.mode = 0666;
  request.handle = operation;
  request.exclusive = true;
  return request;
}

RemoveRequest remove_of(OperationId operation, const std::string& name) {
  return {operation, {"", {}}, name, false};
}

}  // namespace

TEST_CASE("a session changes its export, unless it is read-only") {
  if (ChildSession::program() == nullptr)
    return;
  const ExportDirectory e;
  SECTION("changes, with the mode that the client asks for") {
    LiveSession s(e);
    CHECK(!s.server.read_only);
    CHECK((s.server.features & kFeatureWrites) != 0);
    REQUIRE(s.status(MessageType::kMake, make_of(1, "new")) == 0);
    CHECK(s.status(MessageType::kSync, SyncRequest{{"", {}}}) == 0);
    const auto mode = std::filesystem::status(e.dir / "new").permissions();
    CHECK(static_cast<unsigned>(mode) == 0666);
  }
  SECTION("not with --read-only") {
    LiveSession s(e, {"--read-only"});
    CHECK(s.server.read_only);
    CHECK(s.status(MessageType::kMake, make_of(1, "new")) == status_of(ErrorCode::kReadOnly));
    CHECK(std::filesystem::is_empty(e.home.path()));
  }
  SECTION("not for a client that does not know of it") {
    LiveSession s(e, {}, kFeatureManifests);
    CHECK(s.server.read_only);
    CHECK((s.server.features & kFeatureWrites) == 0);
    CHECK(s.status(MessageType::kRemove, remove_of(1, "file")) == status_of(ErrorCode::kReadOnly));
    CHECK(std::filesystem::exists(e.dir / "file"));
  }
  SECTION("not without a place for a journal") {
    std::ofstream(e.home / "slipwayd") << "in the way";
    LiveSession s(e);
    CHECK(s.server.read_only);
  }
}

TEST_CASE("a client whose journals can't be believed is refused") {
  if (ChildSession::program() == nullptr)
    return;
  const ExportDirectory e;
  { const LiveSession makes_the_journal(e); }
  for (const auto& entry : std::filesystem::directory_iterator(e.home / "slipwayd"))
    std::filesystem::permissions(entry.path(), std::filesystem::perms::all);
  ChildSession child;
  const ServerSetup server = child.set_up(e.client());
  CHECK(server.error == status_of(ErrorCode::kNotPermitted));
  CHECK(!server.error_message.empty());
}

TEST_CASE("a session that dies around a change has done it once when the next one is asked") {
  if (ChildSession::program() == nullptr)
    return;
  const ExportDirectory e;
  if (GENERATE(false, true))
    REQUIRE(init_export(e.dir.path()).has_value());
  const std::string fault = GENERATE("change-after-intent", "change-before-result");
  const auto dies = [&](MessageType type, const auto& request) {
    REQUIRE(::setenv("SLIPWAY_FAULT", fault.c_str(), 1) == 0);
    LiveSession s(e);
    REQUIRE(::unsetenv("SLIPWAY_FAULT") == 0);
    CHECK(!s.ask(type, request));
  };
  const auto exists = [&](const std::string& name) {
    return std::filesystem::exists(e.dir / name);
  };
  SECTION("make") {
    dies(MessageType::kMake, make_of(1, "new"));
    CHECK(exists("new") == (fault == "change-before-result"));
    LiveSession s(e);
    const auto reply = s.ask(MessageType::kMake, make_of(1, "new"));
    REQUIRE(reply->header.status == 0);
    CHECK(decode_make_reply(reply->body()).value().made);
    CHECK(s.status(MessageType::kMake, make_of(2, "new")) == status_of(ErrorCode::kExists));
  }
  SECTION("remove") {
    dies(MessageType::kRemove, remove_of(1, "file"));
    CHECK(exists("file") == (fault == "change-after-intent"));
    LiveSession s(e);
    CHECK(s.status(MessageType::kRemove, remove_of(1, "file")) == 0);
    CHECK(!exists("file"));
    CHECK(s.status(MessageType::kRemove, remove_of(2, "file")) == status_of(ErrorCode::kNotFound));
  }
  SECTION("rename") {
    const RenameRequest request{1, {"", {}}, "file", {"", {}}, "moved", kRenameNoReplace};
    dies(MessageType::kRename, request);
    CHECK(exists("moved") == (fault == "change-before-result"));
    CHECK(LiveSession(e).status(MessageType::kRename, request) == 0);
    CHECK(exists("moved"));
    CHECK(!exists("file"));
  }
  SECTION("link") {
    const LinkRequest request{1, {"file", {}}, {"", {}}, "linked"};
    dies(MessageType::kLink, request);
    CHECK(exists("linked") == (fault == "change-before-result"));
    CHECK(LiveSession(e).status(MessageType::kLink, request) == 0);
    CHECK(std::filesystem::hard_link_count(e.dir / "file") == 2);
  }
}

TEST_CASE("names are made in checkpoints only where both know how and there are leases") {
  if (ChildSession::program() == nullptr)
    return;
  const ExportDirectory e;
  const auto features_of = [&](FeatureBits asked, std::vector<std::string> arguments = {}) {
    return LiveSession(e, std::move(arguments), asked).server.features;
  };
  static constexpr FeatureBits kNeeded = kFeatureWrites | kFeatureLeases | kFeaturePrepare;
  CHECK(features_of(kNeeded) == kNeeded);
  CHECK((features_of(kFeatureWrites | kFeatureLeases) & kFeaturePrepare) == 0);
  CHECK((features_of(kFeatureWrites | kFeaturePrepare) & kFeaturePrepare) == 0);
  CHECK((features_of(kFeaturesSupported, {"--read-only"}) & kFeaturePrepare) == 0);
}

TEST_CASE("what one session prepared, a session that dies commits and the next one finishes") {
  if (ChildSession::program() == nullptr)
    return;
  const ExportDirectory e;
  if (GENERATE(false, true))
    REQUIRE(init_export(e.dir.path()).has_value());
  PrepareRequest wanted;
  wanted.name = "new";
  wanted.files = 1;
  wanted.directories = 1;
  const auto prepared = LiveSession(e).ask(MessageType::kPrepare, wanted);
  REQUIRE(prepared->header.status == 0);
  const PrepareReply inodes = decode_prepare_reply(prepared->body()).value();
  REQUIRE(inodes.may_make);
  CHECK(!inodes.exists);
  CommitRequest commit;
  commit.checkpoint = 1;
  commit.files.resize(2);
  commit.files[0].node = {"new/file", inodes.files[0].version.id};
  commit.files[0].base = inodes.files[0].version;
  commit.files[0].size = 5;
  commit.files[0].make = CommitMake{MakeKind::kFile, 0640};
  commit.files[1].node = {"new", inodes.directories[0].version.id};
  commit.files[1].base = inodes.directories[0].version;
  commit.files[1].make = CommitMake{MakeKind::kDirectory, 0711};
  {
    REQUIRE(::setenv("SLIPWAY_FAULT", "checkpoint-between-makes", 1) == 0);
    LiveSession s(e);
    REQUIRE(::unsetenv("SLIPWAY_FAULT") == 0);
    CHECK(!s.ask(MessageType::kCommit, commit));
  }
  CHECK(std::filesystem::exists(e.dir / "new"));
  CHECK(!std::filesystem::exists(e.dir / "new/file"));
  LiveSession s(e);
  CHECK(std::filesystem::file_size(e.dir / "new/file") == 5);
  const auto reply = s.ask(MessageType::kCommit, commit);
  REQUIRE(reply->header.status == 0);
  const CommitReply made = decode_commit_reply(reply->body()).value();
  CHECK(made.files[0].status == 0);
  CHECK(made.files[0].attributes.version.id == inodes.files[0].version.id);
  CHECK(made.files[1].attributes.mode == 0711);
  const auto again = s.ask(MessageType::kPrepare, wanted);
  CHECK(decode_prepare_reply(again->body()).value().exists);
}

}  // namespace slipway
