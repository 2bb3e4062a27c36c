#pragma once

#include "fake_server.h"
#include "private_sshd.h"
#include "session/connect_options.h"
#include "support/catch.h"

#include <array>
#include <chrono>
#include <string>

namespace slipway {

inline const std::string kServer = std::string(FAKE_SLIPWAYD) + " session";

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

inline Result<EstablishedSession> establish(
    const ConnectOptions& options, std::chrono::milliseconds patience = std::chrono::seconds(10)) {
  auto connector = make_connector(options);
  if (!connector)
    return fail(connector.error());
  return (*connector)->establish(test_identity(), false, soon(patience));
}

inline Error error_of(const ConnectOptions& options) {
  const auto session = establish(options);
  REQUIRE(!session);
  return session.error();
}

inline void check_echo(Transport& transport) {
  const std::string text = "sixteen bytes...";
  send_text(transport, text);
  std::array<std::byte, 16> back{};
  REQUIRE(transport.read_exact(back, soon()));
  CHECK(as_text(back) == text);
}

}  // namespace slipway
