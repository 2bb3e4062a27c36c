#include "session/remote_errors.h"

#include "base/log.h"

namespace slipway {

namespace {

constexpr int kCommandNotFound = 127;  ///< of POSIX shells

bool says_not_found(const std::string& line) {
  return line.find("not found") != std::string::npos ||
         line.find("No such file") != std::string::npos ||
         line.find("Unknown command") != std::string::npos;
}

}  // namespace

Error remote_command_error(const RemoteEnd& end) {
  const std::string command = escape(end.command);
  if (end.exit_status == kCommandNotFound || says_not_found(end.error_line)) {
    return Error{
        ErrorCode::kInvalid,
        fmt::format("no slipwayd on {} ({}): install it there, or name it with -o "
                    "server_command='/path/slipwayd session'",
                    end.host,
                    end.error_line.empty() ? "'" + command + "' not found" : end.error_line)};
  }
  const std::string status =
      end.exit_status ? fmt::format("exit status {}", *end.exit_status) : "no exit status";
  if (!end.error_line.empty()) {
    return Error{ErrorCode::kDisconnected,
                 fmt::format("{}: '{}' ended ({}): {}", end.host, command, status, end.error_line)};
  }
  if (!end.noise_line.empty()) {
    return Error{ErrorCode::kDisconnected,
                 fmt::format("{}: the remote shell printed '{}' instead of starting '{}' ({}): "
                             "check the start-up files there (.bashrc) and server_command",
                             end.host, end.noise_line, command, status)};
  }
  return Error{ErrorCode::kDisconnected,
               fmt::format("{}: '{}' ended ({}) without a word: is slipwayd installed there, and "
                           "may this account run commands?",
                           end.host, command, status)};
}

}  // namespace slipway
