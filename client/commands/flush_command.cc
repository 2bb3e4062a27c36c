#include "base/log.h"
#include "base/units.h"
#include "commands/commands.h"
#include "commands/exit_codes.h"
#include "commands/mount_table.h"
#include "commands/wording.h"
#include "control/control_client.h"
#include "control/runtime_directory.h"

#include <nlohmann/json.hpp>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <thread>

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

/// By names alone.
std::optional<Within> find_by_name(const std::vector<MountEntry>& table,
                                   const std::filesystem::path& path) {
  std::string at = path.lexically_normal().string();
  if (at.size() > 1 && at.back() == '/')
    at.pop_back();
  std::string below;
  for (;;) {
    if (const auto entry = find_mount(table, at); entry && entry->type == kMountType)
      return Within{at, below};
    const auto slash = at.rfind('/');
    if (slash == std::string::npos || at == "/")
      return std::nullopt;
    below = at.substr(slash + 1) + (below.empty() ? "" : "/" + below);
    at = slash == 0 ? "/" : at.substr(0, slash);
  }
}

/// Links are followed only where names do not tell: the mount may have to wait for its server.
Result<Within> find_mount_of(const std::string& typed) {
  std::error_code error;
  const std::filesystem::path path = std::filesystem::absolute(typed, error);
  if (error)
    return fail_errno(error.value(), "'{}'", escape(typed));
  SLIPWAY_TRY_ASSIGN(const auto table, read_mount_table());
  auto within = find_by_name(table, path);
  if (!within) {
    const std::filesystem::path real = std::filesystem::weakly_canonical(path, error);
    within = error ? std::nullopt : find_by_name(table, real);
  }
  if (!within)
    return fail(ErrorCode::kInvalid,
                "'{}' is not in a slipway mount (`slipway status` lists yours)",
                escape(path.lexically_normal().string()));
  return *within;
}

Result<Json> ask_it(const std::string& socket, const Json& request) {
  SLIPWAY_TRY_ASSIGN(const std::string line, control_request(socket, request.dump()));
  Json answer = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!answer.is_object())
    return fail(ErrorCode::kProtocol, "the mount's process gave an answer that is no JSON object");
  if (answer.contains("error") && answer["error"] != "")
    return fail(ErrorCode::kIo, "the mount's process says: {}", answer["error"].dump());
  return answer;
}

tl::unexpected<Error> explain_silence(const std::string& mountpoint, const Error& error) {
  if (error.code != ErrorCode::kNotFound)
    return fail(error);
  if (is_dead_mount(mountpoint))
    return fail(
        ErrorCode::kNotFound,
        "the process of the mount on '{}' has died: `slipway umount {}` says what is unsent, "
        "and the next mount sends it",
        escape(mountpoint), escape(mountpoint));
  return fail(ErrorCode::kNotFound,
              "the mount on '{}' is not yours, or its process is just ending: only the user who "
              "mounted it can write it back",
              escape(mountpoint));
}

/// Returns when it is done, with kExitConflict and a word about it when there were conflicts; says
/// what is left when it can't be.
Result<int> flush_one(const std::string& typed, bool invalidate,
                      std::optional<Steady::time_point> until) {
  SLIPWAY_TRY_ASSIGN(const Within within, find_mount_of(typed));
  SLIPWAY_TRY_ASSIGN(const std::string socket, control_socket_path(within.mountpoint));
  const auto begun = ask_it(socket, {{"version", kControlVersion},
                                     {"command", invalidate ? "invalidate" : "flush"},
                                     {"path", within.path}});
  if (!begun)
    return explain_silence(within.mountpoint, begun.error());
  const std::uint64_t id = begun->value("flush", std::uint64_t{0});
  auto pause = kFirstPause;
  for (;;) {
    const auto answer =
        ask_it(socket, {{"version", kControlVersion}, {"command", "flush-state"}, {"flush", id}});
    if (!answer)
      return explain_silence(within.mountpoint, answer.error());
    const Json& state = *answer;
    if (state.value("done", false)) {
      const std::string failed = state.value("failed", "");
      const auto lines = state.value("conflicts", std::vector<std::string>());
      const auto total = state.value("conflicts_total", std::uint64_t{0});
      if (total != 0)
        warn_of_conflicts(escape(typed), lines, total);
      if (!failed.empty())
        return fail(ErrorCode::kIo, "'{}': {}", escape(typed), failed);
      return total == 0 ? kExitOk : kExitConflict;
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

int exit_of(const Result<int>& flushed) {
  if (flushed)
    return *flushed;
  return flushed.error().code == ErrorCode::kTimedOut ? kExitUnsent : kExitFailure;
}

}  // namespace

int flush_command(const std::vector<std::string>& paths, bool invalidate,
                  std::optional<double> timeout) {
  std::optional<Steady::time_point> until;
  if (timeout)
    until = Steady::now() +
            std::chrono::duration_cast<Steady::duration>(std::chrono::duration<double>(*timeout));
  int exit_status = kExitOk;
  for (const std::string& path : paths) {
    const Result<int> done = flush_one(path, invalidate, until);
    if (!done)
      fmt::print(stderr, "slipway: {}\n", done.error().message);
    exit_status = worse_exit(exit_status, exit_of(done));
  }
  return exit_status;
}

}  // namespace slipway
