#include "commands/mount_options.h"

#include <algorithm>
#include <set>

#include "commands/foreign_options.h"
#include "commands/mount_source.h"
#include "commands/option_values.h"
#include "commands/own_options.h"
#include "secure/secret.h"

namespace slipway {

namespace {

std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j)
    row[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] == b[j - 1] ? 0 : 1)});
      diagonal = above;
    }
  }
  return row[b.size()];
}

tl::unexpected<Error> unknown(const Option& option) {
  std::string nearest;
  std::size_t least = 3;
  const auto consider = [&](const std::string& name) {
    const std::size_t distance = edit_distance(lower(option.key), lower(name));
    if (distance < least) {
      least = distance;
      nearest = name;
    }
  };
  for (const auto& [name, setter] : own_options())
    consider(name);
  for (const char* name : ssh_option_names())
    consider(name);
  return fail(ErrorCode::kInvalid, "unknown option '{}'{}", option.key,
              nearest.empty() ? "" : fmt::format(" (did you mean '{}'?)", nearest));
}

Status check_contradictions(const MountOptions& m, const std::set<std::string>& given) {
  const auto both = [&](const char* a, const char* b) { return given.contains(a) && given.contains(b); };
  if (m.idmap == IdMap::kNone && (given.contains("uid") || given.contains("gid")))
    return fail(ErrorCode::kInvalid, "options 'idmap=none' and 'uid='/'gid=' contradict each other");
  if (both("server_command", "subsystem"))
    return fail(ErrorCode::kInvalid,
                "options 'server_command=' and 'subsystem=' contradict each other");
  if (both("ssh_command", "ssh_config"))
    return fail(ErrorCode::kInvalid,
                "options 'ssh_command=' and 'ssh_config=' contradict each other: give the file to "
                "the command (ssh_command=ssh -F FILE)");
  for (const char* of_writing :
       {"write", "names", "durability", "lease", "lease_wait", "log_size", "log_wait",
        "write_published"}) {
    if (m.read_only && given.contains(of_writing))
      return fail(ErrorCode::kInvalid,
                  "options 'ro' and '{}' contradict each other: a read-only mount writes nothing",
                  of_writing);
  }
  if (given.contains("names") && m.local_names &&
      (m.write_through || m.durable_remote || !m.leases))
    return fail(ErrorCode::kInvalid,
                "option 'names=back' contradicts '{}': the server makes each name at once then",
                !m.leases ? "lease=no" : m.write_through ? "write=through" : "durability=remote");
  if (!m.leases && given.contains("lease_wait"))
    return fail(ErrorCode::kInvalid,
                "options 'lease=no' and 'lease_wait=' contradict each other: there is no lease");
  if (m.names_believed && given.contains("attr_timeout"))
    return fail(ErrorCode::kInvalid,
                "options 'consistency=' and 'attr_timeout=' contradict each other: session and "
                "poll= say themselves how long names and attributes are believed");
  for (const char* of_tcp : {"data_address", "connections", "cipher"}) {
    if (m.transport == RemoteOptions::Transport::kSshOnly && given.contains(of_tcp))
      return fail(ErrorCode::kInvalid,
                  "options 'transport=ssh' and '{}=' contradict each other: no TCP connections",
                  of_tcp);
  }
  if (m.connect.local && (given.contains("ssh_command") || given.contains("ssh_config") ||
                          given.contains("subsystem") || !m.connect.ssh_options.empty()))
    return fail(ErrorCode::kInvalid, "local: uses no SSH, so ssh options can't be given with it");
  for (const CipherSuite suite : m.suites) {
    if (suite == CipherSuite::kAes256Gcm && !aes_in_hardware())
      return fail(ErrorCode::kInvalid, "option 'cipher=aes256-gcm': this processor has no AES");
  }
  return {};
}

}  // namespace

Result<MountOptions> parse_mount_options(const std::string& source, const std::string& mountpoint,
                                         const std::vector<std::string>& option_strings,
                                         const Mounter& mounter) {
  MountOptions m;
  m.source = source;
  m.mountpoint = mountpoint;
  m.option_strings = option_strings;
  m.uid = mounter.uid;
  m.gid = mounter.gid;
  SLIPWAY_TRY(parse_source(source, m));
  std::set<std::string> given;
  for (const std::string& string : option_strings) {
    for (const Option& option : split_options(string)) {
      if (option.key == "remount")
        return fail(ErrorCode::kInvalid, "remount is not supported: unmount, then mount again");
      const auto own = own_options().find(option.key);
      if (own != own_options().end()) {
        SLIPWAY_TRY(own->second(option, m));
        given.insert(option.key);
      } else {
        SLIPWAY_TRY_ASSIGN(const bool taken, take_ssh_option(option, m.connect));
        if (!taken && !is_generic_option(option))
          return unknown(option);
      }
    }
  }
  SLIPWAY_TRY(check_contradictions(m, given));
  m.attr_timeout = m.names_believed.value_or(m.attr_timeout);
  if (mounter.uid == 0 && !given.contains("allow_other"))
    m.allow_other = true;
  if (m.allow_other && !given.contains("default_permissions"))
    m.default_permissions = true;
  if (m.allow_other && !m.default_permissions)
    return fail(ErrorCode::kInvalid,
                "options 'allow_other' and 'default_permissions=no' together would let every user "
                "of this machine act as {}",
                mounter.uid == 0 ? "root" : "you");
  if (m.suites.empty()) {
    m.suites = {CipherSuite::kChaCha20Poly1305};
    if (aes_in_hardware())
      m.suites.insert(m.suites.begin(), CipherSuite::kAes256Gcm);
  }
  return m;
}

}  // namespace slipway
