#pragma once

#include "base/bytes.h"
#include "base/unique_fd.h"
#include "secure/channel.h"
#include "secure/secret.h"
#include "secure/transport.h"
#include "session/session_connector.h"
#include "wire/setup.h"

#include <array>
#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>
#include <sys/socket.h>
#include <utility>

namespace slipway {

inline TimePoint soon(std::chrono::milliseconds from_now = std::chrono::seconds(60)) {
  return std::chrono::steady_clock::now() + from_now;
}

/// Two ends of a stream.
inline std::pair<std::unique_ptr<Transport>, std::unique_ptr<Transport>> transport_pair() {
  std::array<int, 2> pair{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) != 0)
    throw std::runtime_error("socketpair");
  return {make_fd_transport(UniqueFd(pair[0]), "client"),
          make_fd_transport(UniqueFd(pair[1]), "server")};
}

inline MountIdentity test_identity() {
  MountIdentity identity;
  identity.client_id.fill(std::byte{1});
  identity.mount_id.fill(std::byte{2});
  identity.client_name = "test-host";
  identity.export_path = "/srv/vm";
  identity.suites = {CipherSuite::kAes256Gcm, CipherSuite::kChaCha20Poly1305};
  return identity;
}

/// An answer that a client has nothing to object to.
inline ServerSetup good_answer() {
  ServerSetup server;
  fill_random(server.secret);
  server.session_id.fill(std::byte{3});
  server.suite = CipherSuite::kChaCha20Poly1305;
  server.data_port = 60100;
  server.addresses = {"192.0.2.7", "2001:db8::7"};
  server.requests_in_flight_max = 64;
  server.bytes_in_flight_max = 1 << 20;
  server.machine_id.fill(std::byte{0xab});
  server.export_root = "/srv/vm";
  server.root.type = FileType::kDirectory;
  server.root.inode_number = 1;
  server.root.mode = 0755;
  server.root.nlink = 2;
  server.root.version.id = {1, 2};
  return server;
}

inline void send_text(Transport& to, std::string_view text) {
  const ByteView part = as_bytes(text);
  (void)to.write_all(std::span(&part, 1), soon());
}

inline void send_magic(Transport& to) {
  send_text(to, std::string_view(kServerMagic.data(), kServerMagic.size()));
}

}  // namespace slipway
