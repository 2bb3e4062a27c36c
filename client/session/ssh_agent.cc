#include "session/ssh_agent.h"

#include "base/bytes.h"
#include "base/unique_fd.h"
#include "secure/transport.h"

#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <span>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

namespace slipway {

namespace {

constexpr std::chrono::seconds kPatience{1};
constexpr std::byte kRequestIdentities{11};
constexpr std::byte kIdentitiesAnswer{12};

std::uint32_t big_endian(std::span<const std::byte, 4> bytes) {
  std::uint32_t value = 0;
  for (const std::byte byte : bytes)
    value = value << 8 | std::to_integer<std::uint32_t>(byte);
  return value;
}

}  // namespace

std::optional<std::uint32_t> count_agent_keys(const std::string& socket_path) {
  const char* environment = std::getenv("SSH_AUTH_SOCK");
  const std::string path =
      !socket_path.empty() ? socket_path : std::string(environment != nullptr ? environment : "");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path)
    return std::nullopt;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket ||
      ::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    return std::nullopt;

  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  const auto transport = make_fd_transport(std::move(socket), "agent");
  const std::array<std::byte, 5> request = {std::byte{0}, std::byte{0}, std::byte{0}, std::byte{1},
                                            kRequestIdentities};
  const ByteView part(request);
  std::array<std::byte, 9> answer{};  // u32 length, u8 type, u32 number of keys
  if (!transport->write_all(std::span(&part, 1), deadline) ||
      !transport->read_exact(answer, deadline) || answer[4] != kIdentitiesAnswer)
    return std::nullopt;
  return big_endian(std::span(answer).last<4>());
}

}  // namespace slipway
