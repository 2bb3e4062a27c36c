#include "session/ssh_configure.h"

#include "base/log.h"
#include "session/ssh_keywords.h"
#include "session/ssh_names.h"

#include <array>
#include <charconv>
#include <cstdlib>
#include <pwd.h>
#include <unistd.h>
#include <utility>

namespace slipway {

namespace {

constexpr const char* kSystemConfig = "/etc/ssh/ssh_config";
constexpr const char* kNoAgent = "/dev/null";  ///< libssh finds no agent there

/// Options whose value libssh takes as it is.
constexpr std::array<std::pair<std::string_view, ssh_options_e>, 10> kPlainOptions = {{
    {"port", SSH_OPTIONS_PORT_STR},
    {"hostname", SSH_OPTIONS_HOST},
    {"userknownhostsfile", SSH_OPTIONS_KNOWNHOSTS},
    {"globalknownhostsfile", SSH_OPTIONS_GLOBAL_KNOWNHOSTS},
    {"identityagent", SSH_OPTIONS_IDENTITY_AGENT},
    {"kexalgorithms", SSH_OPTIONS_KEY_EXCHANGE},
    {"hostkeyalgorithms", SSH_OPTIONS_HOSTKEYS},
    {"pubkeyacceptedalgorithms", SSH_OPTIONS_PUBLICKEY_ACCEPTED_TYPES},
    {"ciphers", SSH_OPTIONS_CIPHERS_C_S},
    {"macs", SSH_OPTIONS_HMAC_C_S},
}};

constexpr std::array<std::pair<std::string_view, ssh_options_e>, 3> kSwitches = {{
    {"pubkeyauthentication", SSH_OPTIONS_PUBKEY_AUTH},
    {"passwordauthentication", SSH_OPTIONS_PASSWORD_AUTH},
    {"kbdinteractiveauthentication", SSH_OPTIONS_KBDINT_AUTH},
}};

Result<bool> parse_switch(std::string_view keyword, std::string_view value) {
  if (value == "yes" || value == "true")
    return true;
  if (value == "no" || value == "false")
    return false;
  return fail(ErrorCode::kInvalid, "{}={} is neither yes nor no", keyword, escape(value));
}

/// Yes and no as in ssh, except that a changed key is never accepted: `no` (and `off`) mean what
/// `accept-new` means. Only -o counts: libssh does not know `accept-new` in the files, and a `no`
/// there (a habit for throw-away hosts) must not make a cache of somebody's disks trust anybody.
Result<UnknownHostKey> parse_strictness(std::string_view value) {
  if (value.empty() || value == "ask")
    return UnknownHostKey::kAsk;
  if (value == "yes" || value == "true")
    return UnknownHostKey::kRefuse;
  if (value == "accept-new" || value == "no" || value == "off" || value == "false")
    return UnknownHostKey::kAccept;
  return fail(ErrorCode::kInvalid, "StrictHostKeyChecking={} is not yes, ask, accept-new or no",
              escape(value));
}

Status set_option(ssh_session session, std::string_view keyword, ssh_options_e option,
                  const void* value) {
  if (ssh_options_set(session, option, value) < 0)
    return fail(ErrorCode::kInvalid, "ssh option {}: {}", keyword,
                escape(ssh_get_error(session)[0] != '\0' ? ssh_get_error(session)
                                                         : "the value is not valid"));
  return {};
}

/// libssh puts a new identity before those it has; so the last goes in first.
Status add_identities(ssh_session session, const std::string& value) {
  std::string_view rest(value);
  while (!rest.empty()) {
    const std::size_t newline = rest.rfind('\n');
    const std::size_t begin = newline == std::string_view::npos ? 0 : newline + 1;
    const std::string path(rest.substr(begin));
    if (!path.empty())
      SLIPWAY_TRY(set_option(session, "identityfile", SSH_OPTIONS_ADD_IDENTITY, path.c_str()));
    rest = rest.substr(0, newline == std::string_view::npos ? 0 : newline);
  }
  return {};
}

/// The identity that libssh would try first, with its % marks: one of its defaults, until another
/// is put before them.
std::string first_identity(ssh_session session) {
  char* text = nullptr;
  if (ssh_options_get(session, SSH_OPTIONS_IDENTITY, &text) != SSH_OK)
    return {};
  std::string identity(text);
  ssh_string_free_char(text);
  return identity;
}

/// As in OpenSSH, key files that are configured, even if they don't exist, stand instead of the
/// default ones. libssh keeps its defaults behind them, relative to its ssh directory ("%d"), and
/// can't be told to forget them; so it is given a directory in which none is. What else it would
/// look for there is named in full before.
Status forget_default_identities(ssh_session session) {
  char* known_hosts = nullptr;
  if (ssh_options_get(session, SSH_OPTIONS_KNOWNHOSTS, &known_hosts) == SSH_OK) {
    ssh_string_free_char(known_hosts);
  } else {
    const std::string file = home_directory() + "/.ssh/known_hosts";
    SLIPWAY_TRY(set_option(session, "userknownhostsfile", SSH_OPTIONS_KNOWNHOSTS, file.c_str()));
  }
  return set_option(session, "identityfile", SSH_OPTIONS_SSH_DIR, kNoSshDirectory);
}

Status apply_options(ssh_session session, const ConnectOptions& options) {
  for (const auto& [keyword, option] : kPlainOptions) {
    const std::string value(ssh_option(options, keyword));
    if (value.empty())
      continue;
    SLIPWAY_TRY(set_option(session, keyword, option, value.c_str()));
    if (option == SSH_OPTIONS_CIPHERS_C_S)
      SLIPWAY_TRY(set_option(session, keyword, SSH_OPTIONS_CIPHERS_S_C, value.c_str()));
    if (option == SSH_OPTIONS_HMAC_C_S)
      SLIPWAY_TRY(set_option(session, keyword, SSH_OPTIONS_HMAC_S_C, value.c_str()));
  }
  for (const auto& [keyword, option] : kSwitches) {
    const auto value = ssh_option(options, keyword);
    if (value.empty())
      continue;
    SLIPWAY_TRY_ASSIGN(const bool on, parse_switch(keyword, value));
    const int number = on ? 1 : 0;
    SLIPWAY_TRY(set_option(session, keyword, option, &number));
  }
  return add_identities(session, std::string(ssh_option(options, "identityfile")));
}

std::string quoted_for_shell(std::string_view text) {
  std::string quoted = "'";
  for (const char c : text)
    quoted += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quoted + "'";
}

/// The command that -o ProxyJump stands for; the last hop connects to the host.
std::string jump_command(std::string_view hops, const std::string& ssh_config) {
  const std::size_t comma = hops.rfind(',');
  const std::string_view last = comma == std::string_view::npos ? hops : hops.substr(comma + 1);
  std::string command = "ssh";
  if (!ssh_config.empty())
    command += " -F " + quoted_for_shell(ssh_config);
  if (comma != std::string_view::npos)
    command += fmt::format(" -J {}", hops.substr(0, comma));
  return command + fmt::format(" -W '[%h]:%p' -- {}", last.find(':') == std::string_view::npos
                                                          ? std::string(last)
                                                          : fmt::format("ssh://{}", last));
}

std::string proxy_command_of(ssh_session session, const ConnectOptions& options) {
  const auto jump = ssh_option(options, "proxyjump");
  if (!jump.empty())
    return jump == "none" ? std::string() : jump_command(jump, options.ssh_config);
  const auto command = ssh_option(options, "proxycommand");
  if (!command.empty())
    return command == "none" ? std::string() : std::string(command);
  char* text = nullptr;
  if (ssh_options_get(session, SSH_OPTIONS_PROXYCOMMAND, &text) != SSH_OK)
    return {};
  std::string configured(text);
  ssh_string_free_char(text);
  // What libssh makes of ProxyJump; the jump's own ssh is to read the same configuration as we.
  if (!options.ssh_config.empty() && configured.starts_with("ssh ") &&
      configured.find(" -W '[%h]:%p' ") != std::string::npos)
    configured.insert(3, " -F " + quoted_for_shell(options.ssh_config));
  return configured;
}

Result<std::string> get_option(ssh_session session, ssh_options_e option, const char* what) {
  char* text = nullptr;
  if (ssh_options_get(session, option, &text) != SSH_OK)
    return fail(ErrorCode::kInvalid, "ssh: no {} is known", what);
  std::string value(text);
  ssh_string_free_char(text);
  return value;
}

Status set_identities_only(ssh_session session, const ConnectOptions& options,
                           const SshConfigScan& scan, SshTarget& target) {
  const auto value = ssh_option(options, "identitiesonly");
  bool demanded = false;
  if (!value.empty()) {
    SLIPWAY_TRY_ASSIGN(demanded, parse_switch("identitiesonly", value));
  }
#if LIBSSH_VERSION_INT >= SSH_VERSION_INT(0, 11, 0)
  static_cast<void>(scan);  // libssh evaluates the files' IdentitiesOnly
  if (!value.empty())
    SLIPWAY_TRY(set_option(session, "identitiesonly", SSH_OPTIONS_IDENTITIES_ONLY, &demanded));
#else
  // libssh 0.10 offers all of the agent's keys first, which can use up the server's patience. Where
  // a file asks for IdentitiesOnly, the agent comes last; where -o does, not at all.
  target.identities_only_at = value.empty() ? scan.identities_only_at : "-o IdentitiesOnly";
  target.agent_allowed = !demanded;
  target.agent_first = value.empty() ? scan.identities_only_at.empty() : !demanded;
  if (!target.agent_first) {
    const auto named = ssh_option(options, "identityagent");
    const char* environment = std::getenv("SSH_AUTH_SOCK");
    target.agent_socket = !named.empty()                 ? std::string(named)
                          : !scan.identity_agent.empty() ? scan.identity_agent
                          : environment != nullptr       ? std::string(environment)
                                                         : std::string();
    SLIPWAY_TRY(set_option(session, "identityagent", SSH_OPTIONS_IDENTITY_AGENT, kNoAgent));
  }
#endif
  return {};
}

}  // namespace

std::string home_directory() {
  std::array<char, 4096> buffer{};
  passwd entry{};
  passwd* found = nullptr;
  if (::getpwuid_r(::getuid(), &entry, buffer.data(), buffer.size(), &found) == 0 &&
      found != nullptr)
    return found->pw_dir;
  const char* home = std::getenv("HOME");
  return home != nullptr ? home : "";
}

std::vector<SshConfigRoot> ssh_config_roots(const ConnectOptions& options) {
  const std::string user_directory = home_directory() + "/.ssh";
  if (!options.ssh_config.empty())
    return {{.path = options.ssh_config, .include_directory = user_directory, .required = true}};
  return {
      {.path = user_directory + "/config", .include_directory = user_directory, .of_user = true},
      {.path = kSystemConfig, .include_directory = "/etc/ssh"}};
}

Result<SshConfigScan> check_ssh_configuration(const ConnectOptions& options) {
  SLIPWAY_TRY(check_ssh_names(options));
  for (const auto& [keyword, value] : options.ssh_options) {
    if (!is_libssh_option(keyword))
      return fail(ErrorCode::kInvalid, "-o {} is not supported over libssh: {}", keyword,
                  kSshWayOut);
    const bool several_files = keyword == "userknownhostsfile" || keyword == "globalknownhostsfile";
    if (several_files && value.find_first_of(" \t") != std::string::npos)
      return fail(ErrorCode::kInvalid, "-o {} with several files is not supported over libssh: {}",
                  keyword, kSshWayOut);
  }
  for (const auto keyword : {"identityfile", "userknownhostsfile", "globalknownhostsfile"}) {
    // As in the files, except that -o may name several key files.
    if (has_home_mark(ssh_option(options, keyword)))
      return fail(ErrorCode::kInvalid, "-o {} with '%d' is not supported over libssh: {}", keyword,
                  kSshWayOut);
  }
  SLIPWAY_TRY(parse_strictness(ssh_option(options, "stricthostkeychecking")));
  if (options.ssh_config.find('%') != std::string::npos)
    return fail(ErrorCode::kInvalid, "ssh_config: a path with '%' is not supported over libssh");
  return scan_ssh_config(ssh_config_roots(options));
}

Result<SshTarget> configure_ssh(ssh_session session, const ConnectOptions& options,
                                const SshConfigScan& scan) {
  SshTarget target;
  target.name = options.host;
  SLIPWAY_TRY(set_option(session, "host", SSH_OPTIONS_HOST, options.host.c_str()));
  const std::string user =
      options.user.empty() ? std::string(ssh_option(options, "user")) : options.user;
  if (!user.empty())
    SLIPWAY_TRY(set_option(session, "user", SSH_OPTIONS_USER, user.c_str()));
  const std::string default_identity = first_identity(session);
  const char* file = options.ssh_config.empty() ? nullptr : options.ssh_config.c_str();
  if (ssh_options_parse_config(session, file) != 0)
    return fail(ErrorCode::kInvalid, "ssh configuration: {}", escape(ssh_get_error(session)));
  SLIPWAY_TRY(apply_options(session, options));
  if (first_identity(session) != default_identity)
    SLIPWAY_TRY(forget_default_identities(session));
  // libssh's own `no` would turn an unknown key into a known one; we decide that ourselves.
  const int strict = 1;
  SLIPWAY_TRY(
      set_option(session, "stricthostkeychecking", SSH_OPTIONS_STRICTHOSTKEYCHECK, &strict));
  SLIPWAY_TRY(set_identities_only(session, options, scan, target));
  if (user.empty()) {
    char* configured = nullptr;
    if (ssh_options_get(session, SSH_OPTIONS_USER, &configured) == SSH_OK)
      ssh_string_free_char(configured);
    else
      SLIPWAY_TRY(set_option(session, "user", SSH_OPTIONS_USER, nullptr));  // the login name
  }
  SLIPWAY_TRY_ASSIGN(target.user, get_option(session, SSH_OPTIONS_USER, "user name"));
  SLIPWAY_TRY_ASSIGN(target.host, get_option(session, SSH_OPTIONS_HOST, "host"));
  if (ssh_options_get_port(session, &target.port) != SSH_OK || target.port == 0)
    target.port = 22;
  target.proxy_command = proxy_command_of(session, options);
  SLIPWAY_TRY_ASSIGN(target.unknown_host_key,
                     parse_strictness(ssh_option(options, "stricthostkeychecking")));
  if (const auto batch = ssh_option(options, "batchmode"); !batch.empty()) {
    SLIPWAY_TRY_ASSIGN(target.batch_mode, parse_switch("batchmode", batch));
  }
  return target;
}

}  // namespace slipway
