#include "server/session_command.h"

#include "child_session.h"
#include "manifest/profile.h"
#include "server/addresses.h"
#include "server/init_export.h"
#include "support/catch.h"
#include "wire/manifest_messages.h"

#include <algorithm>
#include <csignal>
#include <filesystem>

namespace slipway {

TEST_CASE("a session keeps profiles in the export's box, else in the user's own") {
  if (ChildSession::program() == nullptr)
    return;
  const ExportDirectory e;
  const bool shared = GENERATE(false, true);
  std::string box = e.home / "slipwayd";
  if (shared) {
    REQUIRE(init_export(e.dir.path()).has_value());
    box = e.dir / ".slipway/profiles";
  }
  ChildSession child({"--read-only"});
  ClientSetup setup = e.client();
  setup.mount_id = {std::byte{0xab}};
  const ServerSetup server = child.set_up(setup);
  REQUIRE(server.error == 0);
  CHECK((server.features & kFeatureManifests) != 0);
  TestClient client(make_plain_channel(std::move(child.transport)));
  const Profile profile{7, 1, {{0, 1}}};
  REQUIRE(client
              .send(MessageType::kPutProfile, 1,
                    PutProfileRequest{{"file", {}}, "boot", encode_profile(profile)})
              .has_value());
  CHECK(client.expect(1).header.status == 0);
  REQUIRE(client.send(MessageType::kProfile, 2, ProfileRequest{{"file", {}}, "boot"}).has_value());
  const TestReply reply = client.expect(2);
  CHECK(decode_profile(decode_profile_reply(reply.body()).value().profile).value() == profile);
  std::vector<std::string> found;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(box))
    if (entry.path().string().ends_with("-boot-ab" + std::string(30, '0')))
      found.push_back(entry.path());
  CHECK(found.size() == 1);
}

TEST_CASE("slipwayd session serves a directory over its pipes and over TCP") {
  if (ChildSession::program() == nullptr)
    return;
  const ExportDirectory e;
  ChildSession child;
  const ServerSetup server = child.set_up(e.client());
  REQUIRE(server.error == 0);
  CHECK(server.export_root == std::filesystem::canonical(e.dir.path()));
  CHECK(!server.initialised);
  CHECK(server.uid == ::geteuid());
  CHECK(server.root.type == FileType::kDirectory);
  CHECK(!server.addresses.empty());
  CHECK(server.data_port >= kDataPortFirst);

  TestClient ssh(make_plain_channel(std::move(child.transport)));
  ssh.open(1, "file");
  auto transport = dial_tcp("127.0.0.1", server.data_port, soon()).value();
  auto channel = connect_secure(std::move(transport), {kProtocolVersion, 1, 0, server.session_id},
                                child.ticket, soon());
  REQUIRE(channel.has_value());
  TestClient tcp(std::move(*channel));
  REQUIRE(tcp.send(MessageType::kRead, 3, ReadRequest{true, {{1, 0, kUnitSize}}}).has_value());
  CHECK(as_text(content_of(tcp.expect_all(3), 1, 7)) == "content");

  SECTION("a goodbye ends it with status 0") {
    REQUIRE(tcp.send_empty(MessageType::kGoodbye, 9).has_value());
    tcp.expect(9);
    CHECK(child.wait() == 0);
    CHECK(!dial_tcp("127.0.0.1", server.data_port, soon()));
  }
  SECTION("it lives on when SSH and the process that SSH started are gone") {
    ssh.close();
    REQUIRE(::kill(child.pid, SIGKILL) == 0);
    child.wait();
    CHECK(tcp.is_alive());
    REQUIRE(tcp.send_empty(MessageType::kGoodbye, 9).has_value());
    tcp.expect(9);
  }
}

TEST_CASE("the end of its input ends a session that has nothing else") {
  if (ChildSession::program() == nullptr)
    return;
  const ExportDirectory e;
  ChildSession child;
  SECTION("before set-up") {
    child.transport.reset();
    CHECK(child.wait() == 1);
  }
  SECTION("after set-up") {
    REQUIRE(child.set_up(e.client()).error == 0);
    child.transport.reset();
    CHECK(child.wait() == 0);
  }
}

TEST_CASE("what is wrong with the client's wishes is told to the client") {
  if (ChildSession::program() == nullptr)
    return;
  const ExportDirectory e;
  ClientSetup client = e.client();
  std::vector<std::string> arguments;
  ErrorCode code{};
  std::string message;
  SECTION("an export that does not exist") {
    client.export_path += "/none";
    code = ErrorCode::kNotFound;
    message = "export '" + client.export_path + "' does not exist";
  }
  SECTION("an export that is a file") {
    client.export_path += "/file";
    code = ErrorCode::kNotDirectory;
    message = "export '" + client.export_path + "' is not a directory";
  }
  SECTION("an export outside of the key's restriction") {
    arguments = {"--restrict-to", e.dir.path()};
    client.export_path = "/etc";
    code = ErrorCode::kNotPermitted;
    message = "export '/etc' is outside of what this key may mount";
  }
  SECTION("another protocol version") {
    client.version_min = 7;
    client.version_max = 9;
    code = ErrorCode::kVersionMismatch;
    message = "the client speaks protocol versions 7 to 9, this server 1";
  }
  ChildSession child(arguments);
  const ServerSetup server = child.set_up(client);
  CHECK(server.error == static_cast<std::uint32_t>(code));
  CHECK(server.error_message == message);
  CHECK(child.wait() == 1);
}

TEST_CASE("the address that SSH came to is offered first, and what nobody else can dial is not") {
  const std::vector<std::string> remote = data_addresses("198.51.100.1 5000 192.0.2.7 22");
  REQUIRE(!remote.empty());
  CHECK(remote.front() == "192.0.2.7");
  CHECK(remote.size() <= kAddressesMax);
  for (const std::string& address : remote)
    CHECK(!address.starts_with("fe80:"));
  CHECK(data_addresses("::1 5000 ::1 22").front() == "::1");
  const std::vector<std::string> local = data_addresses("");
  CHECK(std::find(local.begin(), local.end(), "127.0.0.1") != local.end());
  for (const std::string odd :
       {"fe80::1%eth0 5000 fe80::2%eth0 22", "UNKNOWN 65535 UNKNOWN 65535"}) {
    for (const std::string& address : data_addresses(odd))
      CHECK(address.find_first_not_of("0123456789abcdef.:") == std::string::npos);
  }
}

TEST_CASE("the port range is kept, and when it is used up the session stays inside SSH") {
  if (ChildSession::program() == nullptr)
    return;
  const ExportDirectory e;
  // Other sessions of this machine choose from the same ports: take the first port that is free.
  for (unsigned port = kDataPortFirst; port < kDataPortLast; ++port) {
    const std::vector<std::string> arguments = {"--data-port-range", std::to_string(port), "--bind",
                                                "127.0.0.1"};
    ChildSession first(arguments);
    const ServerSetup a = first.set_up(e.client());
    if (a.data_port == 0)
      continue;
    CHECK(a.data_port == port);
    CHECK(a.addresses == std::vector<std::string>{"127.0.0.1"});
    ChildSession second(arguments);
    const ServerSetup b = second.set_up(e.client());
    CHECK(b.error == 0);
    CHECK(b.data_port == 0);
    CHECK(b.addresses.empty());
    return;
  }
  FAIL("no free port");
}

TEST_CASE("a client that wants no TCP connections gets no port") {
  if (ChildSession::program() == nullptr)
    return;
  const ExportDirectory e;
  ClientSetup client = e.client();
  client.connections = 0;
  ChildSession child;
  CHECK(child.set_up(client).data_port == 0);
}

}  // namespace slipway
