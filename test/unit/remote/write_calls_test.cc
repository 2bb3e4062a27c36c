// Calls that change something: what they say of published images, and which answers to a commit are
// believed.
#include "remote_fixture.h"

namespace slipway {

namespace {

/// Sessions that may write; the second server takes over when the first has died.
struct WritableServers {
  FakeServer first;
  FakeServer second;

  std::unique_ptr<RemoteSession> start(bool write_published) {
    RemoteOptions options = options_with(0);
    options.write_published = write_published;
    return start_with(options, calm_tuning(), [this](unsigned attempt) {
      EstablishedSession session = (attempt == 0 ? first : second).establish();
      session.server.features = kFeatureWrites;
      session.server.read_only = false;
      return session;
    });
  }
};

CommitRequest two_files() {
  CommitRequest request;
  request.checkpoint = 1;
  for (const std::uint64_t inode : {5U, 6U}) {
    CommitFile& file = request.files.emplace_back();
    file.base = fake_file(inode, 100).version;
    file.node = {"a" + std::to_string(inode), file.base.id};
    file.keep = 100;
    file.size = 200;
  }
  return request;
}

CommitReply good_reply() {
  return {{{0, "", fake_file(5, 200)}, {0, "", fake_file(6, 200)}}};
}

}  // namespace

TEST_CASE("only a mount with write_published asks for published images to be changed") {
  const bool write_published = GENERATE(false, true);
  const std::uint32_t flags = kOpenWrite | (write_published ? kOpenPublished : 0);
  WritableServers servers;
  const auto session = servers.start(write_published);

  Waiter<OpenedHandle> read;
  session->open({"read", {}}, read.done());
  Request request = servers.first.take();
  CHECK(decode_open_request(request.body()).value().flags == 0);
  servers.first.answer(request, fake_file(1, 10));
  REQUIRE(read.get().has_value());

  Waiter<OpenedHandle> opened;
  session->open_for_writing({"a", {}}, opened.done());
  request = servers.first.take();
  CHECK(decode_open_request(request.body()).value().flags == flags);
  servers.first.answer(request, fake_file(2, 10));
  REQUIRE(opened.get().has_value());

  Waiter<OpenedHandle> made;
  MakeRequest make;
  make.name = "b";
  session->make_file(make, made.done());
  request = servers.first.take();
  CHECK(decode_make_request(request.body()).value().even_published == write_published);
  servers.first.answer(request, MakeReply{true, fake_file(3, 0)});
  REQUIRE(made.get().has_value());

  Waiter<ChangeReply> set;
  SetattrRequest setattr;
  setattr.mask = kSetMtime;
  session->setattr(setattr, set.done());
  request = servers.first.take();
  CHECK(decode_setattr_request(request.body()).value().mask ==
        (kSetMtime | (write_published ? std::uint32_t{kSetPublished} : 0)));
  servers.first.answer(request, ChangeReply{fake_file(2, 10).version, fake_file(2, 10), 0});
  REQUIRE(set.get().has_value());

  Waiter<CommitReply> committed;
  session->commit(two_files(), committed.done());
  request = servers.first.take();
  CHECK(decode_commit_request(request.body()).value().even_published == write_published);
  servers.first.answer(request, good_reply());
  CHECK(committed.get().has_value());

  // A new session says the same for each handle.
  servers.first.die();
  std::map<std::uint64_t, std::uint32_t> reopened;
  for (int i = 0; i < 3; ++i) {
    request = servers.second.take(MessageType::kOpen);
    const OpenRequest open = decode_open_request(request.body()).value();
    reopened[open.handle] = open.flags;
    servers.second.answer(request, fake_file(open.node.expected.inode, 10));
  }
  CHECK(reopened[read.get()->handle] == 0);
  CHECK(reopened[opened.get()->handle] == flags);
  CHECK(reopened[made.get()->handle] == flags);
}

TEST_CASE("an answer to a commit is believed only of the files that were committed") {
  WritableServers servers;
  const auto session = servers.start(false);
  Waiter<CommitReply> committed;
  session->commit(two_files(), committed.done());
  const Request request = servers.first.take();
  CommitReply reply = good_reply();
  SECTION("another file's attributes") {
    reply.files[1].attributes = fake_file(5, 200);
  }
  SECTION("the files' attributes in another order") {
    std::swap(reply.files[0], reply.files[1]);
  }
  SECTION("another file that has the inode number") {
    reply.files[0].attributes.version.birth.seconds += 1;
  }
  SECTION("another size") {
    reply.files[0].attributes.version.size = 201;
  }
  SECTION("a directory") {
    reply.files[0].attributes.type = FileType::kDirectory;
    reply.files[0].attributes.version.size = 0;
  }
  SECTION("impossible attributes") {
    reply.files[0].attributes.mode = 0xFFFF;
  }
  SECTION("fewer files") {
    reply.files.pop_back();
  }
  SECTION("more files") {
    reply.files.push_back(reply.files[0]);
  }
  servers.first.answer(request, reply);
  CHECK(committed.get().error().code == ErrorCode::kProtocol);
  await([&] { return !servers.first.is_connected(0); });
}

TEST_CASE("a file of a commit that is refused has no attributes to compare") {
  WritableServers servers;
  const auto session = servers.start(false);
  Waiter<CommitReply> committed;
  session->commit(two_files(), committed.done());
  CommitReply reply = good_reply();
  reply.files[0] = {static_cast<std::uint32_t>(ErrorCode::kStale), "a5.conflict-1", {}};
  reply.files[1] = {static_cast<std::uint32_t>(ErrorCode::kReadOnly), "", {}};
  servers.first.answer(servers.first.take(), reply);
  const auto got = committed.get();
  REQUIRE(got.has_value());
  CHECK(got->files[0].conflict_name == "a5.conflict-1");
  CHECK(got->files[1].status == static_cast<std::uint32_t>(ErrorCode::kReadOnly));
}

}  // namespace slipway
