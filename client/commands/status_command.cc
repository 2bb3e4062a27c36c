#include "base/units.h"
#include "commands/commands.h"
#include "commands/exit_codes.h"
#include "commands/mount_table.h"
#include "commands/wording.h"
#include "control/control_client.h"
#include "control/runtime_directory.h"

#include <nlohmann/json.hpp>

#include <cstdio>

namespace slipway {

namespace {

using Json = nlohmann::json;

constexpr const char* kRequest = R"({"version": 1, "command": "status"})";

std::string bytes(const Json& value) {
  return format_size(value.get<std::uint64_t>());
}

/// What is unsent, why it is, and what was lost or kept aside.
void print_writes(const Json& s) {
  if (!s.contains("writes"))
    return;
  const Json& writes = s.at("writes");
  const auto files = writes.at("unsent_files").get<std::uint64_t>();
  fmt::print("  writes     {} unsent in {}, {} sent; log {} of {}{}\n",
             bytes(writes.at("unsent_bytes")), counted(files, "file"),
             bytes(writes.at("sent_bytes")), bytes(writes.at("log_bytes")),
             bytes(writes.at("log_limit")),
             s.value("draining", false) ? "; unmounted, sending goes on" : "");
  if (const std::string why = writes.at("waiting_for").get<std::string>(); !why.empty())
    fmt::print("  WAITING    what is unsent waits: {}\n", why);
  if (const auto waiting = writes.at("waiting_writes").get<std::uint64_t>(); waiting != 0)
    fmt::print("  WAITING    {} for room for what is unsent\n", counted(waiting, "write"));
  if (writes.at("sync_failed").get<bool>())
    fmt::print(
        "  ALARM      this host's disk failed to keep writes: fsync fails until a new mount\n");
  if (writes.at("log_damaged").get<bool>())
    fmt::print(
        "  ALARM      the write log was damaged: see the log, and damaged-* in its directory\n");
  if (const auto lost = writes.at("unsynced_lost").get<std::uint64_t>(); lost != 0)
    fmt::print(
        "  note       lost before this mount, in a power cut perhaps: {} that no fsync covered\n",
        counted(lost, "write"));
  for (const Json& conflict : writes.at("conflicts"))
    fmt::print("  CONFLICT   {}\n", conflict.get<std::string>());
  if (const auto total = writes.at("conflicts_total").get<std::uint64_t>();
      total > writes.at("conflicts").size())
    fmt::print("  CONFLICT   and {} more: see the log\n", total - writes.at("conflicts").size());
}

void print_text(const Json& s) {
  const Json& link = s.at("link");
  const Json& cache = s.at("cache");
  const Json& reads = s.at("reads");
  fmt::print("{} on {}\n", s.at("source").get<std::string>(),
             s.at("mountpoint").get<std::string>());
  fmt::print("  state      {}{}\n", link.at("state").get<std::string>(),
             link.at("why").get<std::string>().empty()
                 ? ""
                 : " (" + link.at("why").get<std::string>() + ")");
  fmt::print("  access     {}\n", s.at("writable").get<bool>()
                                      ? "writable"
                                      : "read-only (" + s.value("read_only_why", "") + ")");
  fmt::print("  transport  {}; set up over {}; {} the loss of SSH\n",
             link.at("transport").get<std::string>(),
             link.at("session_transport").get<std::string>(),
             link.at("survives_ssh").get<bool>() ? "survives" : "does not survive");
  fmt::print("  link       round trip {:.1f} ms, {} received, {} sent, {} requests in flight\n",
             link.at("rtt_ms").get<double>(), bytes(link.at("bytes_received")),
             bytes(link.at("bytes_sent")), link.at("requests_in_flight").get<std::uint64_t>());
  fmt::print("  cache      {} of {} used in {}\n", bytes(cache.at("used")),
             bytes(cache.at("limit")), cache.at("directory").get<std::string>());
  fmt::print("  reads      {} hits, {} misses, {} waiting, {} corrupt units\n",
             reads.at("hits").get<std::uint64_t>(), reads.at("misses").get<std::uint64_t>(),
             reads.at("waiting").get<std::uint64_t>(),
             cache.at("corrupt_units").get<std::uint64_t>());
  print_writes(s);
  const Json& prefetch = s.at("prefetch");
  if (prefetch.at("images").get<std::uint64_t>() > 0)
    fmt::print("  prefetch   {} of {} of {} images\n", bytes(prefetch.at("bytes_done")),
               bytes(prefetch.at("bytes_total")), prefetch.at("images").get<std::uint64_t>());
  if (prefetch.at("predicted_units").get<std::uint64_t>() > 0)
    fmt::print("  learned    precision {:.0f} %, recall {:.0f} %, {} fetched in vain\n",
               100 * prefetch.at("precision").get<double>(),
               100 * prefetch.at("recall").get<double>(), bytes(prefetch.at("wasted_bytes")));
}

/// The answer, or an error that says what is the matter with the mount.
Result<Json> ask(const std::string& socket) {
  SLIPWAY_TRY_ASSIGN(const std::string line, control_request(socket, kRequest));
  Json answer = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!answer.is_object())
    return fail(ErrorCode::kProtocol, "the mount's process gave an answer that is no JSON object");
  if (answer.contains("error"))
    return fail(ErrorCode::kIo, "{}", answer["error"].dump());
  return answer;
}

}  // namespace

int status_command(const std::string& mountpoint, bool json) {
  std::vector<std::string> sockets;
  if (mountpoint.empty()) {
    auto all = control_sockets();
    if (!all) {
      fmt::print(stderr, "slipway: {}\n", all.error().message);
      return kExitFailure;
    }
    sockets = std::move(*all);
  } else {
    auto path = absolute_mountpoint(mountpoint);
    auto socket = path ? control_socket_path(*path) : fail(path.error());
    if (!socket) {
      fmt::print(stderr, "slipway: {}\n", socket.error().message);
      return kExitFailure;
    }
    sockets = {*socket};
  }
  Json list = Json::array();
  for (const std::string& socket : sockets) {
    auto answer = ask(socket);
    if (answer) {
      list.push_back(std::move(*answer));
    } else if (!mountpoint.empty()) {
      fmt::print(
          stderr, "slipway: '{}' is not a running slipway mount of yours{}\n", mountpoint,
          is_dead_mount(mountpoint)
              ? " (its process died: slipway umount says what is unsent, the next mount sends it)"
          : answer.error().code == ErrorCode::kNotFound ? ""
                                                        : ": " + answer.error().message);
      return kExitFailure;
    }
  }
  try {
    if (json) {
      fmt::print("{}\n", (mountpoint.empty() ? list : list.front()).dump(2));
    } else {
      for (const Json& status : list)
        print_text(status);
      if (list.empty())
        fmt::print("no slipway mounts\n");
    }
  } catch (const Json::exception& e) {
    fmt::print(stderr, "slipway: the mount's process is of another version: {}\n", e.what());
    return kExitFailure;
  }
  return kExitOk;
}

}  // namespace slipway
