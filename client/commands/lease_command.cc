#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <string>
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

constexpr std::chrono::milliseconds kPause{20};

Result<Json> ask(const std::string& socket, const Json& request) {
  SLIPWAY_TRY_ASSIGN(const std::string line, control_request(socket, request.dump()));
  Json answer = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!answer.is_object())
    return fail(ErrorCode::kProtocol, "the mount's process gave an answer that is no JSON object");
  if (answer.contains("error"))
    return fail(ErrorCode::kIo, "{}", answer["error"].dump());
  return answer;
}

/// Asks the server, through the mount; as long as the mount itself waits for it.
Result<Json> ask_server(const std::string& socket, const Json& request) {
  SLIPWAY_TRY_ASSIGN(const Json begun, ask(socket, request));
  const Json poll = {{"version", kControlVersion},
                     {"command", "lease-state"},
                     {"question", begun.value("question", std::uint64_t{0})}};
  for (;;) {
    SLIPWAY_TRY_ASSIGN(Json answer, ask(socket, poll));
    if (answer.value("done", false)) {
      const std::string failed = answer.value("failed", "");
      return failed.empty() ? Result<Json>(std::move(answer))
                            : fail(ErrorCode::kIo, "{}", escape(failed));
    }
    std::this_thread::sleep_for(kPause);
  }
}

Result<Json> leases_of(const std::string& socket) {
  return ask_server(socket, {{"version", kControlVersion}, {"command", "lease-ls"}});
}

std::string name_of_group(const Json& lease) {
  const std::string group = lease.at("group").get<std::string>();
  return group.empty() ? "." : escape(group);
}

std::string holder_of(const Json& lease) {
  return fmt::format("{}@{}", escape(lease.at("user").get<std::string>()),
                     escape(lease.at("host").get<std::string>()));
}

std::string state_of(const Json& lease) {
  if (lease.at("mine").get<bool>())
    return "held by this mount";
  if (lease.at("expires_in_s").get<std::int64_t>() > 0)
    return "held";
  return lease.at("unsent_bytes").get<std::uint64_t>() > 0 ? "expired, with unsent writes"
                                                           : "expired";
}

void print_table(const Json& leases) {
  fmt::print("{:<24} {:<24} {:>8} {:>8} {:>10}  {}\n", "GROUP", "HOLDER", "AGE", "EXPIRES",
             "UNSENT", "STATE");
  for (const Json& lease : leases)
    fmt::print("{:<24} {:<24} {:>7}s {:>7}s {:>10}  {}{}\n", name_of_group(lease),
               holder_of(lease), lease.at("age_s").get<std::int64_t>(),
               lease.at("expires_in_s").get<std::int64_t>(),
               format_size(lease.at("unsent_bytes").get<std::uint64_t>()), state_of(lease),
               lease.at("wanted_by").get<std::string>().empty()
                   ? ""
                   : ", wanted by " + escape(lease.at("wanted_by").get<std::string>()));
}

bool confirms() {
  fmt::print(stderr, "Break it? [y/N] ");
  std::fflush(stderr);
  char line[16] = {};
  return std::fgets(line, sizeof line, stdin) != nullptr && (line[0] == 'y' || line[0] == 'Y');
}

Result<std::string> socket_of(const std::string& mountpoint) {
  SLIPWAY_TRY_ASSIGN(const std::string path, absolute_mountpoint(mountpoint));
  return control_socket_path(path);
}

Status list_one(const std::string& socket, const std::string& title, bool json) {
  SLIPWAY_TRY_ASSIGN(const Json answer, leases_of(socket));
  const Json leases = answer.value("leases", Json::array());
  if (json) {
    fmt::print("{}\n", leases.dump(2));
    return {};
  }
  if (!title.empty())
    fmt::print("{}\n", title);
  print_table(leases);
  if (answer.value("more", false))
    fmt::print("...\n");
  return {};
}

Status break_one(const std::string& mountpoint, const std::string& group, bool yes) {
  SLIPWAY_TRY_ASSIGN(const std::string socket, socket_of(mountpoint));
  SLIPWAY_TRY_ASSIGN(const Json answer, leases_of(socket));
  const std::string wanted = group == "." ? "" : group;
  const Json listed = answer.value("leases", Json::array());
  for (const Json& lease : listed) {
    if (lease.at("group").get<std::string>() != wanted)
      continue;
    fmt::print(stderr,
               "The lease on '{}' is held by user {} on host {}, for {} s; {} written there are "
               "not on the server{}.\n",
               name_of_group(lease), escape(lease.at("user").get<std::string>()),
               escape(lease.at("host").get<std::string>()), lease.at("age_s").get<std::int64_t>(),
               format_size(lease.at("unsent_bytes").get<std::uint64_t>()),
               lease.at("unsent_bytes").get<std::uint64_t>() > 0
                   ? " and will end up in conflict copies"
                   : "");
    if (!yes && ::isatty(STDIN_FILENO) == 0)
      return fail(ErrorCode::kInvalid, "not asked on a terminal: say --yes");
    if (!yes && !confirms())
      return fail(ErrorCode::kCancelled, "nothing was done");
    SLIPWAY_TRY_ASSIGN(const Json done, ask_server(socket, {{"version", kControlVersion},
                                                            {"command", "lease-break"},
                                                            {"group", wanted},
                                                            {"epoch", lease.at("epoch")}}));
    if (!done.value("broken", false))
      return fail(ErrorCode::kStale, "the lease has passed to another holder meanwhile");
    return {};
  }
  return fail(ErrorCode::kNotFound, "nobody holds a lease on '{}'", escape(group));
}

int report(const Status& status) {
  if (status)
    return kExitOk;
  fmt::print(stderr, "slipway: {}\n", status.error().message);
  return kExitFailure;
}

}  // namespace

int lease_ls_command(const std::string& mountpoint, bool json) {
  try {
    if (!mountpoint.empty()) {
      const auto socket = socket_of(mountpoint);
      return report(socket ? list_one(*socket, "", json) : fail(socket.error()));
    }
    const auto sockets = control_sockets();
    if (!sockets)
      return report(fail(sockets.error()));
    for (const std::string& socket : *sockets) {
      const auto status = ask(socket, {{"version", kControlVersion}, {"command", "status"}});
      if (!status)
        continue;  // its process died
      const std::string title = fmt::format("{} on {}", escape(status->value("source", "")),
                                            escape(status->value("mountpoint", "")));
      if (const Status listed = list_one(socket, title, json); !listed)
        fmt::print(stderr, "slipway: {}: {}\n", title, listed.error().message);
    }
    return kExitOk;
  } catch (const Json::exception& e) {
    fmt::print(stderr, "slipway: the mount's process is of another version: {}\n", e.what());
    return kExitFailure;
  }
}

int lease_break_command(const std::string& mountpoint, const std::string& group, bool yes) {
  try {
    return report(break_one(mountpoint, group, yes));
  } catch (const Json::exception& e) {
    fmt::print(stderr, "slipway: the mount's process is of another version: {}\n", e.what());
    return kExitFailure;
  }
}

}  // namespace slipway
