#include "commands/foreign_options.h"

#include <algorithm>
#include <array>

namespace slipway {

namespace {

// Options that mount(8), fstab and mount.fuse3 hand to every helper. They say how and when to mount,
// which is not ours to decide, or ask for what always holds (nosuid, nodev).
constexpr std::array kGeneric = {
    "defaults",    "auto",     "noauto",      "user",     "nouser",
    "users",    "owner",      "group",       "_netdev",  "nofail",      "suid",     "nosuid",
    "dev",      "nodev",      "exec",        "noexec",   "async",       "atime",    "noatime",
    "diratime", "nodiratime", "relatime",    "norelatime", "strictatime", "nostrictatime",
    "lazytime", "nolazytime", "silent",      "loud",     "iversion",    "noiversion", "nosymfollow",
    "symfollow", "netdev"};

constexpr std::array kSshNames = {
    "Port", "User", "HostName", "IdentityFile", "IdentitiesOnly", "IdentityAgent", "ProxyJump",
    "ProxyCommand", "UserKnownHostsFile", "GlobalKnownHostsFile", "StrictHostKeyChecking",
    "BatchMode", "ConnectTimeout", "BindAddress", "AddressFamily", "Ciphers", "MACs",
    "KexAlgorithms", "HostKeyAlgorithms", "PubkeyAcceptedAlgorithms", "PreferredAuthentications",
    "PubkeyAuthentication", "PasswordAuthentication", "KbdInteractiveAuthentication",
    "ServerAliveInterval", "ServerAliveCountMax", "Compression", "LogLevel"};

/// What would be misread later: libssh takes a port modulo 2^16 and other words for 0.
Status check_ssh_number(const Option& option) {
  const std::string key = lower(option.key);
  if (key == "port")
    return number(option, 1, 65535).map([](std::uint64_t) {});
  if (key == "connecttimeout" || key == "serveraliveinterval" || key == "serveralivecountmax")
    return number(option, 0, 1'000'000).map([](std::uint64_t) {});
  return {};
}

}  // namespace

bool is_generic_option(const Option& option) {
  const std::string& key = option.key;
  return std::find(kGeneric.begin(), kGeneric.end(), key) != kGeneric.end() ||
         key.starts_with("x-") || key.starts_with("X-") || key == "comment" || key == "user" ||
         key == "fsname" || key == "subtype";
}

std::span<const char* const> ssh_option_names() {
  return kSshNames;
}

Result<bool> take_ssh_option(const Option& option, ConnectOptions& connect) {
  const std::string key = lower(option.key);
  for (const char* name : kSshNames) {
    // `user` without a value is fstab's word, not ssh's.
    if (lower(name) != key || !option.value)
      continue;
    SLIPWAY_TRY(check_ssh_number(option));
    std::string& value = connect.ssh_options[key];
    if (key == "identityfile" && !value.empty())
      value += '\n' + *option.value;
    else
      value = *option.value;
    return true;
  }
  return false;
}

}  // namespace slipway
