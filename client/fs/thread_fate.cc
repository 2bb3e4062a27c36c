#include "fs/thread_fate.h"

#include "base/unique_fd.h"

#include <fmt/format.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace slipway {
namespace {

constexpr std::size_t kStatusFileMax = 16 * 1024;
constexpr std::uint64_t kSigkillBit = std::uint64_t{1} << 8;  // signal 9

}  // namespace

ThreadFate fate_of(pid_t thread) noexcept {
  // Whatever fatal signal was sent, the kernel makes it a pending SIGKILL of each thread.
  const auto status =
      read_small_file(fmt::format("/proc/{}/status", static_cast<int>(thread)), kStatusFileMax);
  if (!status)
    return ThreadFate::kUnseen;
  for (const char* name : {"\nSigPnd:", "\nShdPnd:"}) {
    const std::size_t at = status->find(name);
    if (at == std::string::npos)
      return ThreadFate::kUnseen;
    if ((std::strtoull(status->c_str() + at + std::strlen(name), nullptr, 16) & kSigkillBit) != 0)
      return ThreadFate::kBeingKilled;
  }
  return ThreadFate::kAlive;
}

}  // namespace slipway
