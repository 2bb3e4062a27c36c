#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

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

constexpr std::chrono::milliseconds kPollPause{20};

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
    std::this_thread::sleep_for(kPollPause);
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
  const bool is_expired = lease.at("expires_in_s").get<std::int64_t>() <= 0;
  const std::string wanted_by = lease.at("wanted_by").get<std::string>();
  std::string state = lease.at("mine").get<bool>()   ? "held by this mount"
                      : lease.at("ours").get<bool>() ? "left by an earlier mount with this cache"
                      : !is_expired                  ? "held"
                      : lease.at("unsent_bytes").get<std::uint64_t>() > 0
                          ? "expired, kept for what is unsent"
                          : "expired, free to take";
  return wanted_by.empty() ? state : state + ", wanted by " + escape(wanted_by);
}

/// Under their headings, each column as wide as what stands in it; numbers to the right.
void print_table(const std::vector<std::array<std::string, 6>>& rows) {
  std::array<std::size_t, 6> widths{};
  for (const auto& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i)
      widths[i] = std::max(widths[i], row[i].size());
  for (const auto& row : rows)
    fmt::print("{:<{}}  {:<{}}  {:>{}}  {:>{}}  {:>{}}  {}\n", row[0], widths[0], row[1], widths[1],
               row[2], widths[2], row[3], widths[3], row[4], widths[4], row[5]);
}

void print_leases(const Json& leases) {
  std::vector<std::array<std::string, 6>> rows{
      {"GROUP", "HOLDER", "HELD FOR", "EXPIRES IN", "UNSENT", "STATE"}};
  for (const Json& lease : leases) {
    const auto left = lease.at("expires_in_s").get<std::int64_t>();
    rows.push_back({name_of_group(lease), holder_of(lease),
                    fmt::format("{} s", lease.at("age_s").get<std::int64_t>()),
                    left > 0 ? fmt::format("{} s", left) : "-",
                    format_size(lease.at("unsent_bytes").get<std::uint64_t>()), state_of(lease)});
  }
  print_table(rows);
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

/// The leases that one mount sees, each with its mount's place; prints them unless `json`.
Result<Json> list_one(const std::string& socket, bool with_title, bool json) {
  SLIPWAY_TRY_ASSIGN(const Json status,
                     ask(socket, {{"version", kControlVersion}, {"command", "status"}}));
  const std::string mountpoint = status.value("mountpoint", "");
  const std::string source = status.value("source", "");
  SLIPWAY_TRY_ASSIGN(const Json answer, leases_of(socket));
  Json leases = answer.value("leases", Json::array());
  for (Json& lease : leases)
    lease["mountpoint"] = mountpoint;
  if (json)
    return leases;
  if (with_title)
    fmt::print("{} on {}\n", escape(source), escape(mountpoint));
  if (leases.empty())
    fmt::print("nobody holds a lease on anything that {} shows\n", escape(source));
  else
    print_leases(leases);
  if (answer.value("more", false))
    fmt::print("and more: `slipwayd lease ls` on the server shows all\n");
  return leases;
}

Status list_all(bool json) {
  SLIPWAY_TRY_ASSIGN(const auto sockets, control_sockets());
  Json all = Json::array();
  Status result;
  unsigned mounts = 0;
  for (const std::string& socket : sockets) {
    if (!ask(socket, {{"version", kControlVersion}, {"command", "status"}}))
      continue;  // its process died
    ++mounts;
    const Result<Json> leases = list_one(socket, /*with_title=*/true, json);
    if (leases)
      all.insert(all.end(), leases->begin(), leases->end());
    else
      result = fail(leases.error());
  }
  if (json)
    fmt::print("{}\n", all.dump(2, ' ', false, Json::error_handler_t::replace));
  else if (mounts == 0)
    fmt::print("no mount of this user is there whose server could be asked\n");
  return result;
}

/// What breaking a lease means for who holds it.
std::string loss_of(const Json& lease) {
  const auto unsent = lease.at("unsent_bytes").get<std::uint64_t>();
  const std::string open = "Files that are open for writing there take no more writes.";
  if (unsent == 0)
    return "everything written there is on the server. " + open;
  return fmt::format(
      "{} written there are not on the server. {} What is unsent is not dropped: should that host "
      "send it, it goes into its file if nobody else has changed that or holds the lease then, and "
      "into a conflict copy beside it otherwise.",
      format_size(unsent), open);
}

Status break_one(const std::string& mountpoint, const std::string& group, bool yes) {
  SLIPWAY_TRY_ASSIGN(const std::string socket, socket_of(mountpoint));
  SLIPWAY_TRY_ASSIGN(const Json answer, leases_of(socket));
  const std::string wanted = group == "." ? "" : group;
  const Json listed = answer.value("leases", Json::array());
  for (const Json& lease : listed) {
    if (lease.at("group").get<std::string>() != wanted)
      continue;
    fmt::print(stderr, "The lease on '{}' is held by user {} on host {}, for {} s; {}\n",
               name_of_group(lease), escape(lease.at("user").get<std::string>()),
               escape(lease.at("host").get<std::string>()), lease.at("age_s").get<std::int64_t>(),
               loss_of(lease));
    if (!yes && ::isatty(STDIN_FILENO) == 0)
      return fail(ErrorCode::kInvalid, "not asked on a terminal: say --yes");
    if (!yes && !confirms())
      return fail(ErrorCode::kCancelled, "nothing was done");
    SLIPWAY_TRY_ASSIGN(const Json done, ask_server(socket, {{"version", kControlVersion},
                                                            {"command", "lease-break"},
                                                            {"group", wanted},
                                                            {"epoch", lease.at("epoch")}}));
    if (!done.value("broken", false))
      return fail(ErrorCode::kStale,
                  "nothing was broken: the lease has passed to another holder meanwhile, or was "
                  "given back");
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
    if (mountpoint.empty())
      return report(list_all(json));
    const auto socket = socket_of(mountpoint);
    if (!socket)
      return report(fail(socket.error()));
    const Result<Json> leases = list_one(*socket, /*with_title=*/false, json);
    if (leases && json)
      fmt::print("{}\n", leases->dump(2, ' ', false, Json::error_handler_t::replace));
    return report(leases ? Status() : fail(leases.error()));
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
