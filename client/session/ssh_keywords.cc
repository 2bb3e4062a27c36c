#include "session/ssh_keywords.h"

#include <libssh/libssh.h>

#include <algorithm>
#include <array>
#include <cctype>

// What libssh makes of ssh_config was read from its keyword table and evaluator (src/config.c of
// 0.10.6 and 0.11). Three kinds of keywords need no refusal: those it honours (HostName, Port,
// User, IdentityFile, IdentityAgent, Ciphers, MACs, KexAlgorithms, HostKeyAlgorithms,
// PubkeyAcceptedAlgorithms, the ...Authentication switches, ProxyCommand, RekeyLimit, ...), those
// that say nothing about who is trusted or reached (Forward..., SendEnv, Control..., BatchMode,
// ...), and StrictHostKeyChecking, which is always strict here unless -o says otherwise.

namespace slipway {

namespace {

constexpr bool kHonoursCertificateFile = LIBSSH_VERSION_INT >= SSH_VERSION_INT(0, 11, 0);

/// A keyword that libssh skips although it decides who is trusted or reached, and the values with
/// which skipping it changes nothing (OpenSSH's defaults).
struct Skipped {
  std::string_view keyword;
  std::array<std::string_view, 3> harmless;
};

constexpr std::array<Skipped, 13> kSkipped = {{
    {"knownhostscommand", {"none"}},
    {"revokedhostkeys", {"none"}},
    {"hostkeyalias", {}},
    {"verifyhostkeydns", {"no"}},
    {"checkhostip", {"no"}},
    {"nohostauthenticationforlocalhost", {"no"}},
    {"canonicalizehostname", {"no", "none"}},
    {"pkcs11provider", {"none"}},
    {"securitykeyprovider", {"internal", "none"}},
    {"proxyusefdpass", {"no"}},
    {"requiredrsasize", {}},
    {"refuseconnection", {}},
    {"certificatefile", {"none"}},
}};

bool equal_ignoring_case(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](unsigned char x, unsigned char y) {
    return std::tolower(x) == std::tolower(y);
  });
}

/// Conditions: `exec` runs a command from within this process, `canonical` and `originalhost` are
/// skipped or never true in libssh, and one that it does not know ends its reading of the file.
std::string why_match_refused(const std::vector<std::string>& values) {
  static constexpr std::array<std::string_view, 5> kKnown = {"all", "final", "host", "user",
                                                             "localuser"};
  for (std::size_t i = 0; i < values.size(); ++i) {
    std::string_view condition = values[i];
    if (!condition.empty() && condition.front() == '!')
      condition.remove_prefix(1);
    const auto known = std::find_if(kKnown.begin(), kKnown.end(), [&](std::string_view name) {
      return equal_ignoring_case(name, condition);
    });
    if (known == kKnown.end())
      return "with '" + std::string(condition.substr(0, 32)) + "' is not supported";
    if (*known != "all" && *known != "final")
      ++i;  // its pattern
  }
  return {};
}

/// libssh takes the first file of a list, and "none" or a relative path as a file of that name.
std::string why_known_hosts_refused(const std::vector<std::string>& values) {
  if (values.size() > 1)
    return "with several files is not supported";
  const std::string_view path = values.empty() ? std::string_view() : values[0];
  if (path.empty() || (path[0] != '/' && path[0] != '~' && path[0] != '%') ||
      path.find("${") != std::string_view::npos || has_home_mark(path))
    return "with a value that is no plain path is not supported";
  return {};
}

}  // namespace

bool has_home_mark(std::string_view path) {
  for (std::size_t at = path.find('%'); at < path.size(); at = path.find('%', at + 2)) {
    if (path.substr(at, 2) == "%d")
      return true;
  }
  return false;
}

std::string why_refused(std::string_view keyword, const std::vector<std::string>& values) {
  const auto skipped = std::find_if(kSkipped.begin(), kSkipped.end(),
                                    [&](const Skipped& entry) { return entry.keyword == keyword; });
  if (skipped != kSkipped.end()) {
    if (keyword == "certificatefile" && kHonoursCertificateFile)
      return {};
    const bool harmless =
        values.size() == 1 &&
        std::any_of(skipped->harmless.begin(), skipped->harmless.end(), [&](std::string_view v) {
          return !v.empty() && equal_ignoring_case(v, values[0]);
        });
    return harmless ? std::string() : "is not supported";
  }
  if (keyword == "match")
    return why_match_refused(values);
  if (keyword == "userknownhostsfile" || keyword == "globalknownhostsfile")
    return why_known_hosts_refused(values);
  if (keyword == "identityfile" && !values.empty() && has_home_mark(values[0]))
    return "with '%d' is not supported";
  if (keyword == "include" && values.size() > 1)
    return "with several patterns is not supported";  // libssh reads the first
  if (keyword == "proxyjump" && !values.empty() && values[0].find(',') != std::string::npos)
    return "with several hops is not supported";  // libssh takes them in another order
  return {};
}

bool is_libssh_option(std::string_view keyword) {
  static constexpr std::array<std::string_view, 23> kOptions = {
      "addressfamily",
      "batchmode",
      "ciphers",
      "connecttimeout",
      "globalknownhostsfile",
      "hostkeyalgorithms",
      "hostname",
      "identitiesonly",
      "identityagent",
      "identityfile",
      "kbdinteractiveauthentication",
      "kexalgorithms",
      "macs",
      "passwordauthentication",
      "port",
      "proxycommand",
      "proxyjump",
      "pubkeyacceptedalgorithms",
      "pubkeyauthentication",
      "serveralivecountmax",
      "serveraliveinterval",
      "stricthostkeychecking",
      "userknownhostsfile",
  };
  return keyword == "user" ||
         std::find(kOptions.begin(), kOptions.end(), keyword) != kOptions.end();
}

}  // namespace slipway
