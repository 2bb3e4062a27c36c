#include <chrono>
#include <cstdio>
#include <filesystem>
#include <thread>

#include <nlohmann/json.hpp>

#include "base/log.h"
#include "base/units.h"
#include "commands/commands.h"
#include "commands/exit_codes.h"
#include "commands/mount_table.h"
#include "control/control_client.h"
#include "control/runtime_directory.h"

namespace slipway {

namespace {

using Json = nlohmann::json;
using Steady = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kFirstPause{2};
constexpr std::chrono::milliseconds kPauseMax{100};

/// A path as its mount knows it.
struct Within {
  std::string mountpoint;
  std::string path;  ///< "": the mount itself
};

/// By names alone: the mount may have to wait for its server.
Result<Within> find_mount_of(const std::string& typed) {
  std::error_code error;
  std::filesystem::path path = std::filesystem::absolute(typed, error).lexically_normal();
  if (error)
    return fail_errno(error.value(), "'{}'", typed);
  std::string text = path.string();
  if (text.size() > 1 && text.back() == '/')
    text.pop_back();
  SLIPWAY_TRY_ASSIGN(const auto table, read_mount_table());
  std::string below;
  for (std::string at = text;;) {
    if (const auto entry = find_mount(table, at); entry && entry->type == kMountType)
      return Within{at, below};
    const auto slash = at.rfind('/');
    if (slash == std::string::npos || at == "/")
      return fail(ErrorCode::kInvalid, "'{}' is not in a slipway mount", escape(text));
    below = at.substr(slash + 1) + (below.empty() ? "" : "/" + below);
    at = slash == 0 ? "/" : at.substr(0, slash);
  }
}

Result<Json> ask(const std::string& socket, const Json& request) {
  SLIPWAY_TRY_ASSIGN(const std::string line, control_request(socket, request.dump()));
  Json answer = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!answer.is_object())
    return fail(ErrorCode::kProtocol, "the mount's process gave an answer that is no JSON object");
  if (answer.contains("error") && answer["error"] != "")
    return fail(ErrorCode::kIo, "{}", answer["error"].dump());
  return answer;
}

/// Returns when it is done; says what is left when it can't be.
Status flush_one(const std::string& typed, bool invalidate, std::optional<Steady::time_point> until) {
  SLIPWAY_TRY_ASSIGN(const Within within, find_mount_of(typed));
  SLIPWAY_TRY_ASSIGN(const std::string socket, control_socket_path(within.mountpoint));
  SLIPWAY_TRY_ASSIGN(const Json begun, ask(socket, {{"version", kControlVersion},
                                                    {"command", invalidate ? "invalidate" : "flush"},
                                                    {"path", within.path}}));
  const std::uint64_t id = begun.value("flush", std::uint64_t{0});
  auto pause = kFirstPause;
  for (;;) {
    SLIPWAY_TRY_ASSIGN(const Json state, ask(socket, {{"version", kControlVersion},
                                                      {"command", "flush-state"},
                                                      {"flush", id}}));
    if (state.value("done", false)) {
      const std::string failed = state.value("failed", "");
      if (failed.empty())
        return {};
      return fail(ErrorCode::kIo, "'{}': {}", escape(typed), failed);
    }
    if (until && Steady::now() >= *until) {
      const std::string why = state.value("waiting_for", "");
      return fail(ErrorCode::kTimedOut, "'{}': {} are not on the server yet{}{}", escape(typed),
                  format_size(state.value("unsent_bytes", std::uint64_t{0})),
                  why.empty() ? "" : ": ", why);
    }
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, kPauseMax);
  }
}

}  // namespace

int flush_command(const std::vector<std::string>& paths, bool invalidate,
                  std::optional<double> timeout) {
  std::optional<Steady::time_point> until;
  if (timeout)
    until = Steady::now() + std::chrono::duration_cast<Steady::duration>(
                               std::chrono::duration<double>(*timeout));
  int exit_status = kExitOk;
  for (const std::string& path : paths) {
    if (const Status done = flush_one(path, invalidate, until); !done) {
      fmt::print(stderr, "slipway: {}\n", done.error().message);
      exit_status = done.error().code == ErrorCode::kTimedOut ? kExitUnsent : kExitFailure;
    }
  }
  return exit_status;
}

}  // namespace slipway
