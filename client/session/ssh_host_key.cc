#include "session/ssh_host_key.h"

#include "base/log.h"
#include "base/unique_fd.h"
#include "session/ssh_keywords.h"

#include <algorithm>
#include <cctype>
#include <string_view>
#include <utility>

namespace slipway {

namespace {

constexpr std::size_t kKnownHostsMax = 16 * 1024 * 1024;  ///< bytes of one file

struct HostKey {
  std::string type;
  std::string fingerprint;
};

/// "ED25519" for "ssh-ed25519", as ssh shows it.
std::string short_type(const char* type) {
  const std::string_view name(type != nullptr ? type : "unknown");
  if (name == "ssh-ed25519")
    return "ED25519";
  if (name == "ssh-rsa")
    return "RSA";
  return name.starts_with("ecdsa-") ? "ECDSA" : std::string(name);
}

Result<HostKey> host_key_of(const SshSetup& setup) {
  ssh_key raw = nullptr;
  if (ssh_get_server_publickey(setup.session(), &raw) != SSH_OK)
    return fail(ErrorCode::kProtocol, "the server showed no host key");
  const SshKeyPtr key(raw);
  unsigned char* hash = nullptr;
  std::size_t size = 0;
  if (ssh_get_publickey_hash(key.get(), SSH_PUBLICKEY_HASH_SHA256, &hash, &size) != SSH_OK)
    return fail(ErrorCode::kProtocol, "the host key has no fingerprint");
  char* text = ssh_get_fingerprint_hash(SSH_PUBLICKEY_HASH_SHA256, hash, size);
  ssh_clean_pubkey_hash(&hash);
  if (text == nullptr)
    return fail(ErrorCode::kOutOfMemory, "no memory for a fingerprint");
  HostKey result{short_type(ssh_key_type_to_char(ssh_key_type(key.get()))), text};
  ssh_string_free_char(text);
  return result;
}

std::string host_and_port(const SshTarget& target) {
  std::string host = target.host;
  std::transform(host.begin(), host.end(), host.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return target.port == 22 ? host : fmt::format("[{}]:{}", host, target.port);
}

/// The files that libssh consults, the user's first.
std::vector<std::string> known_hosts_files(const SshSetup& setup) {
  std::vector<std::string> files;
  for (const auto option : {SSH_OPTIONS_KNOWNHOSTS, SSH_OPTIONS_GLOBAL_KNOWNHOSTS}) {
    char* text = nullptr;
    if (ssh_options_get(setup.session(), option, &text) == SSH_OK) {
      files.emplace_back(text);
      ssh_string_free_char(text);
    }
  }
  return files;
}

std::string joined(const std::vector<std::string>& files) {
  std::string text;
  for (const std::string& file : files)
    text += (text.empty() ? "" : ", ") + file;
  return text;
}

/// The command with which a person reaches the host once and answers ssh's question.
std::string connect_once(const SshTarget& target) {
  std::string command = "ssh ";
  if (target.port != 22)
    command += fmt::format("-p {} ", target.port);
  return command + target.user + "@" + target.name;
}

Error unknown_key(const SshTarget& target, const HostKey& key,
                  const std::vector<std::string>& files) {
  return Error{
      ErrorCode::kAuthentication,
      fmt::format("{}: the host key is not known ({} {}): compare it, connect once with: "
                  "{} (or mount with -o StrictHostKeyChecking=accept-new); looked in {}",
                  target.name, key.type, key.fingerprint, connect_once(target), joined(files))};
}

Error changed_key(const SshTarget& target, const HostKey& key,
                  const std::vector<KnownHostsLine>& lines, bool other_type) {
  const std::string file = lines.empty() ? std::string() : lines.front().file;
  const std::string place = lines.empty() ? std::string("known_hosts")
                                          : fmt::format("{} line {}", file, lines.front().number);
  return Error{
      ErrorCode::kAuthentication,
      fmt::format("{}: {} (now {} {}): somebody may be in between; if the key was really replaced: "
                  "ssh-keygen -f '{}' -R '{}', then connect once with: {}",
                  target.name,
                  other_type ? "the host key is of another type than the one in " + place
                             : "THE HOST KEY HAS CHANGED from the one in " + place,
                  key.type, key.fingerprint, file, host_and_port(target), connect_once(target))};
}

Status refuse_markers(const SshTarget& target, const std::vector<std::string>& files) {
  std::vector<std::string> all = files;
  for (const std::string& file : files)
    all.push_back(file + "2");  // OpenSSH reads these by default; libssh does not
  SLIPWAY_TRY_ASSIGN(const auto lines, find_known_hosts_lines(host_and_port(target), all));
  for (const KnownHostsLine& line : lines) {
    if (!line.marker.empty())
      return fail(ErrorCode::kInvalid,
                  "{} line {}: '{}' concerns {} and is not supported over "
                  "libssh: {}",
                  line.file, line.number, line.marker, target.name, kSshWayOut);
  }
  return {};
}

Status add_key(SshSetup& setup, const SshTarget& target, const HostKey& key) {
  if (ssh_session_update_known_hosts(setup.session()) != SSH_OK)
    return fail(ErrorCode::kAuthentication, "{}: the host key could not be added: {}", target.name,
                setup.link().last_error());
  log_info("{}: host key {} {} added to known_hosts", target.name, key.type, key.fingerprint);
  return {};
}

Status handle_unknown(SshSetup& setup, const SshTarget& target, const HostKey& key,
                      const std::vector<std::string>& files) {
  // libssh calls a host unknown also when it could not read a line about it.
  SLIPWAY_TRY_ASSIGN(const auto lines, find_known_hosts_lines(host_and_port(target), files));
  if (!lines.empty())
    return fail(changed_key(target, key, lines, false));
  switch (target.unknown_host_key) {
    case UnknownHostKey::kRefuse:
      break;
    case UnknownHostKey::kAccept:
      return add_key(setup, target, key);
    case UnknownHostKey::kAsk: {
      if (!setup.can_ask())
        break;
      setup.say(
          fmt::format("The authenticity of host '{}' can't be established.\n"
                      "{} key fingerprint is {}.\n",
                      host_and_port(target), key.type, key.fingerprint));
      SLIPWAY_TRY_ASSIGN(
          std::string answer,
          setup.ask("Are you sure you want to continue connecting (yes/no/fingerprint)? ", true));
      while (answer != "yes" && answer != "no" && answer != key.fingerprint) {
        SLIPWAY_TRY_ASSIGN(answer, setup.ask("Please type 'yes', 'no' or the fingerprint: ", true));
      }
      if (answer == "no")
        return fail(ErrorCode::kAuthentication, "{}: the host key was not accepted", target.name);
      return add_key(setup, target, key);
    }
  }
  return fail(unknown_key(target, key, files));
}

bool concerns(const std::string& host, std::string line) {
  std::replace(line.begin(), line.end(), '\t', ' ');
  ssh_knownhosts_entry* entry = nullptr;
  const int result = ssh_known_hosts_parse_line(host.c_str(), line.c_str(), &entry);
  ssh_knownhosts_entry_free(entry);
  return result != SSH_AGAIN;  // an error comes after the host has matched
}

}  // namespace

Result<std::vector<KnownHostsLine>> find_known_hosts_lines(const std::string& host_and_port,
                                                           const std::vector<std::string>& files) {
  std::vector<KnownHostsLine> lines;
  for (const std::string& file : files) {
    const auto text = read_small_file(file, kKnownHostsMax);
    if (!text && text.error().code == ErrorCode::kNotFound)
      continue;
    if (!text)
      return fail(ErrorCode::kInvalid, "{}", text.error().message);
    std::size_t number = 0;
    for (std::size_t begin = 0; begin < text->size();) {
      const std::size_t end = std::min(text->find('\n', begin), text->size());
      std::string_view line(text->data() + begin, end - begin);
      begin = end + 1;
      ++number;
      line.remove_prefix(std::min(line.find_first_not_of(" \t\r"), line.size()));
      if (line.empty() || line.front() == '#')
        continue;
      std::string marker;
      if (line.front() == '@') {
        marker = line.substr(0, line.find_first_of(" \t"));
        line.remove_prefix(marker.size());
        line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
      }
      if (line.find('\0') != std::string_view::npos || concerns(host_and_port, std::string(line)))
        lines.push_back({file, number, escape(marker)});
    }
  }
  return lines;
}

Result<std::string> verify_host_key(SshSetup& setup, const SshTarget& target) {
  SLIPWAY_TRY_ASSIGN(const HostKey key, host_key_of(setup));
  const std::vector<std::string> files = known_hosts_files(setup);
  SLIPWAY_TRY(refuse_markers(target, files));
  const ssh_known_hosts_e verdict = ssh_session_is_known_server(setup.session());
  switch (verdict) {
    case SSH_KNOWN_HOSTS_OK:
      return key.fingerprint;
    case SSH_KNOWN_HOSTS_UNKNOWN:
    case SSH_KNOWN_HOSTS_NOT_FOUND:
      SLIPWAY_TRY(handle_unknown(setup, target, key, files));
      return key.fingerprint;
    case SSH_KNOWN_HOSTS_CHANGED:
    case SSH_KNOWN_HOSTS_OTHER: {
      SLIPWAY_TRY_ASSIGN(const auto lines, find_known_hosts_lines(host_and_port(target), files));
      return fail(changed_key(target, key, lines, verdict == SSH_KNOWN_HOSTS_OTHER));
    }
    case SSH_KNOWN_HOSTS_ERROR:
      break;
  }
  return fail(ErrorCode::kAuthentication, "{}: the host key can't be checked: {}; looked in {}",
              target.name, setup.link().last_error(), joined(files));
}

}  // namespace slipway
