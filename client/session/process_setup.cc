#include "session/process_setup.h"

#include "base/log.h"

#include <algorithm>
#include <chrono>
#include <sys/wait.h>
#include <utility>

namespace slipway {

namespace {

constexpr std::chrono::seconds kExitPatience{1};  ///< between the end of a stream and the exit

}  // namespace

Result<EstablishedSession> set_up_over_process(const ProcessSetup& setup,
                                               const MountIdentity& identity,
                                               Interruption& interruption, TimePoint deadline) {
  std::string command;
  for (const std::string& word : setup.process.arguments)
    command += (command.empty() ? "" : " ") + word;
  log_debug("{}: starting '{}'", setup.where, escape(command));
  SLIPWAY_TRY_ASSIGN(auto spawned, ChildProcess::spawn(setup.process));
  EstablishedSession session;
  session.keeper = spawned.process;
  session.connection0 = make_fd_transport(std::move(spawned.socket), setup.process.name);
  session.transport_name = setup.transport_name;

  const ChildProcess& process = *spawned.process;
  const auto explain_end = [&](const std::string& noise) -> std::optional<Error> {
    const auto status = process.wait_for_exit(std::chrono::steady_clock::now() + kExitPatience);
    if (!status)
      return std::nullopt;
    return setup.explain_exit(process, *status, noise);
  };
  const Interruption::Scope scope(interruption, *session.connection0);
  auto outcome = exchange_setup(*session.connection0, identity, setup.where, explain_end, deadline);
  if (interruption.interrupted())
    return fail(ErrorCode::kInterrupted, "set-up was interrupted");
  if (!outcome)
    return fail(std::move(outcome).error());
  session.ticket = std::move(outcome->ticket);
  session.server = std::move(outcome->server);
  return session;
}

std::string describe_wait_status(int wait_status) {
  if (WIFEXITED(wait_status))
    return fmt::format("exit status {}", WEXITSTATUS(wait_status));
  return fmt::format("signal {}", WTERMSIG(wait_status));
}

std::vector<std::string> merge_addresses(std::vector<std::string> first,
                                         const std::vector<std::string>& more) {
  std::vector<std::string> merged;
  first.insert(first.end(), more.begin(), more.end());
  for (std::string& address : first) {
    if (!address.empty() && std::find(merged.begin(), merged.end(), address) == merged.end())
      merged.push_back(std::move(address));
  }
  return merged;
}

}  // namespace slipway
