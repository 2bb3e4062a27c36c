#include "session/libssh_connector.h"

#include "base/log.h"
#include "session/process_setup.h"
#include "session/remote_errors.h"
#include "session/setup_exchange.h"
#include "session/ssh_auth.h"
#include "session/ssh_configure.h"
#include "session/ssh_dial.h"
#include "session/ssh_host_key.h"
#include "session/ssh_link.h"
#include "session/ssh_names.h"
#include "session/ssh_pump.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <limits>
#include <utility>

namespace slipway {

namespace {

constexpr std::chrono::seconds kProxyPatience{1};
constexpr std::chrono::seconds kEndPatience{3};  ///< for the reason why a stream ended

unsigned number_option(const ConnectOptions& options, std::string_view keyword,
                       unsigned otherwise) {
  const auto value = ssh_option(options, keyword);
  unsigned number = 0;
  const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), number);
  return error == std::errc() && end == value.data() + value.size() && number > 0 ? number
                                                                                  : otherwise;
}

SshKeepalive keepalive_of(const ConnectOptions& options) {
  constexpr unsigned kMax = 3600;
  const unsigned interval = std::min(number_option(options, "serveraliveinterval", 10), kMax);
  const unsigned count = std::min(number_option(options, "serveralivecountmax", 2), kMax);
  return {std::chrono::seconds(interval),
          std::chrono::seconds(interval * count) + std::chrono::seconds(interval + 1) / 2};
}

class LibsshConnector final : public SessionConnector {
 public:
  explicit LibsshConnector(ConnectOptions options) : options_(std::move(options)) {}

  Result<EstablishedSession> establish(const MountIdentity& identity, bool interactive,
                                       TimePoint deadline) override {
    interruption_.begin();
    const SshLogScope log_scope;
    SLIPWAY_TRY_ASSIGN(const SshConfigScan scan, check_ssh_configuration(options_));
    auto link = std::make_unique<SshLink>();
    link->session.reset(ssh_new());
    if (!link->session)
      return fail(ErrorCode::kOutOfMemory, "no memory for an SSH session");
    SLIPWAY_TRY_ASSIGN(const SshTarget target, configure_ssh(link->session.get(), options_, scan));
    const bool may_ask = interactive && !target.batch_mode;

    log_debug("{}: connecting to {} port {} as {}{}", target.name, escape(target.host), target.port,
              escape(target.user),
              target.proxy_command.empty() ? "" : " by " + escape(target.proxy_command));
    SLIPWAY_TRY_ASSIGN(SshDialled dialled,
                       dial_ssh(target, options_, may_ask, interruption_, deadline));
    link->proxy = std::move(dialled.proxy);
    SshSetup setup(*link, interruption_, deadline, may_ask);
    SLIPWAY_TRY(shake_hands(setup, *link, target, std::move(dialled.socket)));
    EstablishedSession session;
    SLIPWAY_TRY_ASSIGN(const std::string fingerprint, verify_host_key(setup, target));
    log_debug("{}: the host key {} is known", target.name, fingerprint);
    SLIPWAY_TRY(authenticate(setup, *link, target));
    session.anchor = "hostkey " + fingerprint;
    session.transport_name = "ssh (libssh)";
    SLIPWAY_TRY(run_server(setup, std::move(link), identity, session));
    session.addresses =
        merge_addresses({options_.data_address, dialled.peer_address}, session.server.addresses);
    return session;
  }

  void interrupt() noexcept override { interruption_.interrupt(); }

 private:
  /// From here on libssh owns the socket.
  Status shake_hands(SshSetup& setup, SshLink& link, const SshTarget& target, UniqueFd socket) {
    ssh_session session = link.session.get();
    int fd = socket.release();
    ssh_options_set(session, SSH_OPTIONS_FD, &fd);
    ssh_set_counters(session, &link.received, &link.sent);
    ssh_set_blocking(session, 0);
    const auto result = setup.drive(SSH_AGAIN, [&] { return ssh_connect(session); });
    if (!result)
      return fail(result.error().code, "{}: SSH: {}", target.name, result.error().message);
    if (*result == SSH_OK)
      return {};
    if (link.proxy != nullptr)  // its last words may still be on their way
      link.proxy->wait_for_exit(std::chrono::steady_clock::now() + kProxyPatience);
    return fail(ErrorCode::kDisconnected, "{} port {}: SSH: {}", target.name, target.port,
                link.last_error());
  }

  Status run_server(SshSetup& setup, std::unique_ptr<SshLink> link, const MountIdentity& identity,
                    EstablishedSession& session) {
    SLIPWAY_TRY_ASSIGN(ssh_channel channel, open_channel(setup, *link));
    UniqueFd socket;
    SLIPWAY_TRY_ASSIGN(auto pump, SshPump::start(std::move(link), channel, options_.host,
                                                 keepalive_of(options_), socket));
    session.connection0 = make_fd_transport(std::move(socket), "ssh");
    session.keeper = pump;
    const auto explain_end = [&](const std::string& noise) { return explain(*pump, noise); };
    const Interruption::Scope scope(interruption_, *session.connection0);
    auto outcome = exchange_setup(*session.connection0, identity, options_.host, explain_end,
                                  setup.deadline());
    if (interruption_.interrupted())
      return fail(ErrorCode::kInterrupted, "set-up was interrupted");
    if (!outcome)
      return fail(std::move(outcome).error());
    session.ticket = std::move(outcome->ticket);
    session.server = std::move(outcome->server);
    return {};
  }

  /// The channel with the server's command running in it. Freed with the session.
  Result<ssh_channel> open_channel(SshSetup& setup, SshLink& link) {
    ssh_channel channel = ssh_channel_new(link.session.get());
    if (channel == nullptr)
      return fail(ErrorCode::kOutOfMemory, "no memory for an SSH channel");
    SLIPWAY_TRY_ASSIGN(const int opened,
                       setup.drive(SSH_AGAIN, [&] { return ssh_channel_open_session(channel); }));
    if (opened != SSH_OK)
      return fail(ErrorCode::kDisconnected, "{}: no SSH channel: {}", options_.host,
                  link.last_error());
    const bool subsystem = !options_.subsystem.empty();
    log_debug("{}: starting {} '{}'", options_.host, subsystem ? "subsystem" : "command",
              escape(subsystem ? options_.subsystem : options_.server_command));
    SLIPWAY_TRY_ASSIGN(const int started, setup.drive(SSH_AGAIN, [&] {
      return subsystem ? ssh_channel_request_subsystem(channel, options_.subsystem.c_str())
                       : ssh_channel_request_exec(channel, options_.server_command.c_str());
    }));
    if (started != SSH_OK && subsystem)
      return fail(
          ErrorCode::kInvalid,
          "{} has no subsystem '{}': add it to its sshd_config, or mount without subsystem=",
          options_.host, escape(options_.subsystem));
    if (started != SSH_OK)
      return fail(ErrorCode::kInvalid, "{} does not let this account run '{}': {}", options_.host,
                  escape(options_.server_command), link.last_error());
    return channel;
  }

  std::optional<Error> explain(const SshPump& pump, const std::string& noise) const {
    const auto end = pump.wait_for_end(std::chrono::steady_clock::now() + kEndPatience);
    if (!end)
      return std::nullopt;
    if (!end->reason.empty())
      return Error{ErrorCode::kDisconnected,
                   fmt::format("{}: SSH: {}", options_.host, end->reason)};
    return remote_command_error({.host = options_.host,
                                 .command = options_.subsystem.empty()
                                                ? options_.server_command
                                                : "subsystem " + options_.subsystem,
                                 .exit_status = end->exit_status,
                                 .error_line = end->error_line,
                                 .noise_line = noise});
  }

  const ConnectOptions options_;
  Interruption interruption_;
};

}  // namespace

Result<std::unique_ptr<SessionConnector>> make_libssh_connector(const ConnectOptions& options) {
  if (options.subsystem.empty() && options.server_command.empty())
    return fail(ErrorCode::kInvalid, "server_command is empty");
  if (auto scan = check_ssh_configuration(options); !scan)
    return fail(std::move(scan).error());
#if LIBSSH_VERSION_INT >= SSH_VERSION_INT(0, 11, 0)
  // Its own ProxyJump would connect to the jump hosts without asking us about their keys; with this
  // it becomes a ProxyCommand that runs OpenSSH, as in 0.10. Nothing else reads the variable.
  ::setenv("OPENSSH_PROXYJUMP", "1", 1);
#endif
  return std::unique_ptr<SessionConnector>(std::make_unique<LibsshConnector>(options));
}

}  // namespace slipway
