#include "session/ssh_command_connector.h"

#include "base/log.h"
#include "session/child_process.h"
#include "session/process_setup.h"
#include "session/remote_errors.h"
#include "session/ssh_names.h"

#include <sys/wait.h>
#include <utility>

namespace slipway {

namespace {

constexpr int kSshOwnFailure = 255;  ///< ssh's exit status when it, not the command, failed

bool needs_a_person(const ChildProcess& process) {
  return process.error_output_contains("Permission denied") ||
         process.error_output_contains("Host key verification failed") ||
         process.error_output_contains("Too many authentication failures");
}

class SshCommandConnector final : public SessionConnector {
 public:
  SshCommandConnector(ConnectOptions options, std::vector<std::string> arguments)
      : options_(std::move(options)), arguments_(std::move(arguments)) {}

  Result<EstablishedSession> establish(const MountIdentity& identity, bool interactive,
                                       TimePoint deadline) override {
    interruption_.begin();
    ProcessSetup setup;
    setup.process.arguments = arguments_;
    setup.process.arguments[0] = find_program(arguments_[0]);
    if (setup.process.arguments[0].empty())
      return fail(ErrorCode::kInvalid, "ssh_command: no program '{}'", escape(arguments_[0]));
    setup.process.interactive = interactive;
    setup.process.name = arguments_[0];
    setup.where = options_.host;
    setup.transport_name = "ssh_command";
    setup.explain_exit = [this](const ChildProcess& process, int status, const std::string& noise) {
      return explain_exit(process, status, noise);
    };
    SLIPWAY_TRY_ASSIGN(EstablishedSession session,
                       set_up_over_process(setup, identity, interruption_, deadline));
    session.anchor = anchor();
    session.addresses = merge_addresses({options_.data_address}, session.server.addresses);
    return session;
  }

  void interrupt() noexcept override { interruption_.interrupt(); }

 private:
  /// What was asked for stands in for a host key that only the program sees. The port belongs to
  /// it: two machines may hide behind one name.
  std::string anchor() const {
    const auto port = ssh_option(options_, "port");
    return fmt::format("ssh_command {} {}{}{}", escape(options_.ssh_command), options_.host,
                       port.empty() ? "" : ":", port);
  }

  Error explain_exit(const ChildProcess& process, int status, const std::string& noise) const {
    const std::string line = process.last_error_line();
    if (WIFEXITED(status) && WEXITSTATUS(status) == kSshOwnFailure) {
      return Error{needs_a_person(process) ? ErrorCode::kAuthentication : ErrorCode::kDisconnected,
                   fmt::format("{}: {}: {}", options_.host, arguments_[0],
                               line.empty() ? "failed without a message" : line)};
    }
    const std::optional<int> exit_status =
        WIFEXITED(status) ? std::optional<int>(WEXITSTATUS(status)) : std::nullopt;
    return remote_command_error({.host = options_.host,
                                 .command = options_.subsystem.empty()
                                                ? options_.server_command
                                                : "subsystem " + options_.subsystem,
                                 .exit_status = exit_status,
                                 .error_line = line,
                                 .noise_line = noise});
  }

  const ConnectOptions options_;
  const std::vector<std::string> arguments_;
  Interruption interruption_;
};

}  // namespace

Result<std::vector<std::string>> ssh_command_arguments(const ConnectOptions& options) {
  SLIPWAY_TRY(check_ssh_names(options));
  std::vector<std::string> arguments = split_words(options.ssh_command);
  if (arguments.empty())
    return fail(ErrorCode::kInvalid, "ssh_command is empty");
  if (!options.ssh_config.empty()) {
    arguments.emplace_back("-F");
    arguments.push_back(options.ssh_config);
  }
  for (const auto& [keyword, value] : options.ssh_options) {
    if (keyword == "port" || keyword == "user")
      continue;
    for (std::size_t begin = 0; begin < value.size();) {
      const std::size_t end = std::min(value.find('\n', begin), value.size());
      if (end > begin) {
        arguments.emplace_back("-o");
        arguments.push_back(fmt::format("{}={}", keyword, value.substr(begin, end - begin)));
      }
      begin = end + 1;
    }
  }
  if (const auto port = ssh_option(options, "port"); !port.empty()) {
    arguments.emplace_back("-p");
    arguments.emplace_back(port);
  }
  const auto user = options.user.empty() ? ssh_option(options, "user") : options.user;
  if (!user.empty()) {
    arguments.emplace_back("-l");
    arguments.emplace_back(user);
  }
  arguments.emplace_back("-T");
  if (!options.subsystem.empty())
    arguments.emplace_back("-s");
  arguments.push_back(options.host);
  arguments.push_back(options.subsystem.empty() ? options.server_command : options.subsystem);
  return arguments;
}

Result<std::unique_ptr<SessionConnector>> make_ssh_command_connector(
    const ConnectOptions& options) {
  SLIPWAY_TRY_ASSIGN(std::vector<std::string> arguments, ssh_command_arguments(options));
  return std::unique_ptr<SessionConnector>(
      std::make_unique<SshCommandConnector>(options, std::move(arguments)));
}

}  // namespace slipway
