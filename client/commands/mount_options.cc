#include "commands/mount_options.h"

#include <arpa/inet.h>
#include <pwd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdlib>
#include <functional>
#include <map>
#include <optional>
#include <set>

#include "secure/secret.h"

namespace slipway {

namespace {

struct Option {
  std::string key;
  std::optional<std::string> value;
};

// Options that mount(8), fstab and mount.fuse3 hand to every helper. They say how and when to mount,
// which is not ours to decide, or ask for what always holds (nosuid, nodev) or can't be (rw while
// mounts are read-only: the file system answers EROFS).
constexpr std::array kGeneric = {
    "ro",       "rw",         "defaults",    "auto",     "noauto",      "user",     "nouser",
    "users",    "owner",      "group",       "_netdev",  "nofail",      "suid",     "nosuid",
    "dev",      "nodev",      "exec",        "noexec",   "async",       "atime",    "noatime",
    "diratime", "nodiratime", "relatime",    "norelatime", "strictatime", "nostrictatime",
    "lazytime", "nolazytime", "silent",      "loud",     "iversion",    "noiversion", "nosymfollow",
    "symfollow", "netdev"};

constexpr std::uint64_t kCacheSizeMin = std::uint64_t{1} << 20;  ///< bytes; the index needs some

// The ssh configuration keywords that may be given as -o options, in ssh's spelling.
constexpr std::array kSshNames = {
    "Port", "User", "HostName", "IdentityFile", "IdentitiesOnly", "IdentityAgent", "ProxyJump",
    "ProxyCommand", "UserKnownHostsFile", "GlobalKnownHostsFile", "StrictHostKeyChecking",
    "BatchMode", "ConnectTimeout", "BindAddress", "AddressFamily", "Ciphers", "MACs",
    "KexAlgorithms", "HostKeyAlgorithms", "PubkeyAcceptedAlgorithms", "PreferredAuthentications",
    "PubkeyAuthentication", "PasswordAuthentication", "KbdInteractiveAuthentication",
    "ServerAliveInterval", "ServerAliveCountMax", "Compression", "LogLevel"};

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return out;
}

std::vector<Option> split_options(std::string_view text) {
  std::vector<Option> out;
  std::string word;
  const auto flush = [&] {
    if (word.empty())
      return;
    const auto equals = word.find('=');
    if (equals == std::string::npos)
      out.push_back({word, std::nullopt});
    else
      out.push_back({word.substr(0, equals), word.substr(equals + 1)});
    word.clear();
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 1 < text.size() && (text[i + 1] == ',' || text[i + 1] == '\\'))
      word += text[++i];
    else if (text[i] == ',')
      flush();
    else
      word += text[i];
  }
  flush();
  return out;
}

tl::unexpected<Error> bad_value(const Option& option, std::string_view expected) {
  return fail(ErrorCode::kInvalid, "option '{}={}': expected {}", option.key,
              option.value.value_or(""), expected);
}

Status need_value(const Option& option) {
  if (!option.value || option.value->empty())
    return fail(ErrorCode::kInvalid, "option '{}' needs a value: -o {}=...", option.key,
                option.key);
  return {};
}

Result<std::uint64_t> number(const Option& option, std::uint64_t least, std::uint64_t most,
                             int base = 10) {
  SLIPWAY_TRY(need_value(option));
  std::uint64_t value = 0;
  const char* end = option.value->data() + option.value->size();
  const auto [rest, status] = std::from_chars(option.value->data(), end, value, base);
  if (status != std::errc{} || rest != end || value < least || value > most)
    return bad_value(option, fmt::format("a number from {} to {}", least, most));
  return value;
}

Result<std::uint64_t> size(const Option& option) {
  SLIPWAY_TRY(need_value(option));
  auto bytes = parse_size(*option.value);
  if (!bytes)
    return bad_value(option, "a size such as 512M or 20G");
  return *bytes;
}

Result<Duration> seconds(const Option& option) {
  SLIPWAY_TRY(need_value(option));
  char* end = nullptr;
  const double value = std::strtod(option.value->c_str(), &end);
  if (*end != '\0' || !(value >= 0) || value > 1e6)
    return bad_value(option, "a number of seconds");
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(value));
}

Status flag(const Option& option, bool& to) {
  if (option.value && *option.value != "yes" && *option.value != "no")
    return bad_value(option, "yes or no");
  to = !option.value || *option.value == "yes";
  return {};
}

template <class T>
Status choice(const Option& option, T& to, std::initializer_list<std::pair<const char*, T>> names) {
  std::string expected;
  for (const auto& [name, value] : names) {
    if (option.value == name) {
      to = value;
      return {};
    }
    expected += (expected.empty() ? "" : ", ") + std::string(name);
  }
  return bad_value(option, "one of " + expected);
}

Status text(const Option& option, std::string& to) {
  SLIPWAY_TRY(need_value(option));
  to = *option.value;
  return {};
}

template <class T>
Status assign(Result<std::uint64_t> from, T& to) {
  SLIPWAY_TRY(from);
  to = static_cast<T>(*from);
  return {};
}

Status assign(Result<Duration> from, Duration& to) {
  SLIPWAY_TRY(from);
  to = *from;
  return {};
}

Status set_cipher(const Option& option, MountOptions& m) {
  enum class Cipher { kAuto, kAes, kChaCha } cipher = Cipher::kAuto;
  SLIPWAY_TRY(choice(option, cipher,
                     {{"auto", Cipher::kAuto},
                      {"aes256-gcm", Cipher::kAes},
                      {"chacha20-poly1305", Cipher::kChaCha}}));
  m.suites.clear();
  if (cipher == Cipher::kAes)
    m.suites = {CipherSuite::kAes256Gcm};
  if (cipher == Cipher::kChaCha)
    m.suites = {CipherSuite::kChaCha20Poly1305};
  return {};
}

Status set_umask(const Option& option, MountOptions& m) {
  const auto bits = number(option, 0, 0777, 8);
  if (!bits)
    return bad_value(option, "an octal number from 0 to 777");
  m.umask = static_cast<std::uint32_t>(*bits);
  return {};
}

Status set_cache_size(const Option& option, MountOptions& m) {
  SLIPWAY_TRY_ASSIGN(const std::uint64_t bytes, size(option));
  if (bytes < kCacheSizeMin)
    return bad_value(option, "at least " + format_size(kCacheSizeMin));
  m.cache.size_max = bytes;
  return {};
}

Status set_data_address(const Option& option, MountOptions& m) {
  SLIPWAY_TRY(text(option, m.connect.data_address));
  in6_addr ignored{};
  if (::inet_pton(AF_INET, option.value->c_str(), &ignored) != 1 &&
      ::inet_pton(AF_INET6, option.value->c_str(), &ignored) != 1)
    return bad_value(option, "a numeric address");
  return {};
}

Status set_readahead(const Option& option, MountOptions& m) {
  if (option.value == "off" || option.value == "no") {
    m.readahead_max = 0;
    return {};
  }
  return assign(size(option), m.readahead_max);
}

using Setter = std::function<Status(const Option&, MountOptions&)>;

const std::map<std::string, Setter, std::less<>>& own_options() {
  static const std::map<std::string, Setter, std::less<>> kSetters = {
      {"cache", [](auto& o, auto& m) { return text(o, m.cache.directory); }},
      {"cache_size", set_cache_size},
      {"cache_min_free",
       [](const Option& o, MountOptions& m) {
         Option bare = o;  // "5%" and "5" are the same
         if (bare.value && bare.value->ends_with('%'))
           bare.value->pop_back();
         return assign(number(bare, 0, 99), m.cache.min_free_percent);
       }},
      {"cache_unsafe",
       [](auto& o, auto& m) { return flag(o, m.cache.allow_unsafe_file_system); }},
      {"verify",
       [](auto& o, auto& m) {
         return choice(o, m.cache.verify,
                       {{"first", CacheOptions::Verify::kFirst},
                        {"always", CacheOptions::Verify::kAlways}});
       }},
      {"readahead", set_readahead},
      {"connections",
       [](auto& o, auto& m) { return assign(number(o, 1, kConnectionsMax), m.connections); }},
      {"compress",
       [](auto& o, auto& m) {
         return choice(o, m.compress, {{"auto", true}, {"yes", true}, {"no", false}});
       }},
      {"cipher", set_cipher},
      {"transport",
       [](auto& o, auto& m) {
         return choice(o, m.transport,
                       {{"auto", RemoteOptions::Transport::kAuto},
                        {"ssh", RemoteOptions::Transport::kSshOnly},
                        {"tcp", RemoteOptions::Transport::kTcpOnly}});
       }},
      {"data_address", set_data_address},
      {"io_timeout", [](auto& o, auto& m) { return assign(seconds(o), m.io_timeout); }},
      {"soft", [](auto& o, auto& m) { return flag(o, m.soft); }},
      {"attr_timeout", [](auto& o, auto& m) { return assign(seconds(o), m.attr_timeout); }},
      {"idmap",
       [](auto& o, auto& m) {
         return choice(o, m.idmap, {{"user", IdMap::kUser}, {"none", IdMap::kNone}});
       }},
      {"uid", [](auto& o, auto& m) { return assign(number(o, 0, 0xfffffffe), m.uid); }},
      {"gid", [](auto& o, auto& m) { return assign(number(o, 0, 0xfffffffe), m.gid); }},
      {"umask", set_umask},
      {"allow_other", [](auto& o, auto& m) { return flag(o, m.allow_other); }},
      {"default_permissions", [](auto& o, auto& m) { return flag(o, m.default_permissions); }},
      {"nonempty", [](auto& o, auto& m) { return flag(o, m.nonempty); }},
      {"server_command", [](auto& o, auto& m) { return text(o, m.connect.server_command); }},
      {"subsystem", [](auto& o, auto& m) { return text(o, m.connect.subsystem); }},
      {"ssh_command", [](auto& o, auto& m) { return text(o, m.connect.ssh_command); }},
      {"ssh_config", [](auto& o, auto& m) { return text(o, m.connect.ssh_config); }},
  };
  return kSetters;
}

bool is_generic(const Option& option) {
  const std::string& key = option.key;
  return std::find(kGeneric.begin(), kGeneric.end(), key) != kGeneric.end() ||
         key.starts_with("x-") || key.starts_with("X-") || key == "comment" || key == "user" ||
         key == "fsname" || key == "subtype";
}

/// What would be misread later: libssh takes a port modulo 2^16 and other words for 0.
Status check_ssh_number(const Option& option) {
  const std::string key = lower(option.key);
  if (key == "port")
    return number(option, 1, 65535).map([](std::uint64_t) {});
  if (key == "connecttimeout" || key == "serveraliveinterval" || key == "serveralivecountmax")
    return number(option, 0, 1'000'000).map([](std::uint64_t) {});
  return {};
}

/// True when it was one of ssh's names; IdentityFile may be given several times.
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
  for (const char* name : kSshNames)
    consider(name);
  return fail(ErrorCode::kInvalid, "unknown option '{}'{}", option.key,
              nearest.empty() ? "" : fmt::format(" (did you mean '{}'?)", nearest));
}

Status parse_source(const std::string& source, MountOptions& m) {
  std::string host;
  if (source.starts_with('[')) {  // user@[2001:db8::1]:/dir is written [user@]... below
    const auto close = source.find("]:");
    if (close == std::string::npos)
      return fail(ErrorCode::kInvalid, "'{}' is not [user@]host:/dir", source);
    host = source.substr(1, close - 1);
    m.export_path = source.substr(close + 2);
  } else {
    const auto at = source.find('@');
    const auto bracket = source.find("@[");
    const auto colon = bracket != std::string::npos && bracket == at
                           ? source.find("]:", bracket) + 1
                           : source.find(':');
    if (colon == std::string::npos || colon == 0)
      return fail(ErrorCode::kInvalid,
                  "'{}' is not a source: expected [user@]host:/dir or local:/dir", source);
    host = source.substr(0, colon);
    m.export_path = source.substr(colon + 1);
    const auto last_at = host.rfind('@');
    if (last_at != std::string::npos) {
      m.connect.user = host.substr(0, last_at);
      host = host.substr(last_at + 1);
      if (m.connect.user.empty())
        return fail(ErrorCode::kInvalid, "'{}': the user before '@' is empty", source);
    }
    if (host.size() > 2 && host.front() == '[' && host.back() == ']')
      host = host.substr(1, host.size() - 2);
  }
  if (host.empty() || host.front() == '-' || m.connect.user.starts_with('-'))
    return fail(ErrorCode::kInvalid, "'{}': the host (or user) is empty or begins with '-'",
                source);
  if (m.export_path.empty())
    m.export_path = ".";  // the remote home, as with sshfs
  m.connect.local = host == "local" && m.connect.user.empty();
  if (m.connect.local && !m.export_path.starts_with('/'))
    return fail(ErrorCode::kInvalid, "'{}': local: needs an absolute path", source);
  m.connect.host = host;
  return {};
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

/// mount(8) takes HOME out of the environment when a user mounts what fstab lets him mount.
std::string home_directory(const Mounter& mounter) {
  if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/')
    return home;
  const passwd* const entry = ::getpwuid(mounter.uid);
  return entry != nullptr && entry->pw_dir != nullptr ? entry->pw_dir : "";
}

}  // namespace

Result<MountOptions> parse_mount_options(const std::string& source, const std::string& mountpoint,
                                         const std::vector<std::string>& option_strings,
                                         const Mounter& mounter) {
  MountOptions m;
  m.source = source;
  m.mountpoint = mountpoint;
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
        if (!taken && !is_generic(option))
          return unknown(option);
      }
    }
  }
  SLIPWAY_TRY(check_contradictions(m, given));
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

Result<std::string> default_cache_directory(const MountOptions& options, const Mounter& mounter) {
  std::string base;
  if (mounter.uid == 0) {
    base = "/var/lib/slipway";
  } else if (const char* state = std::getenv("XDG_STATE_HOME"); state != nullptr && *state == '/') {
    base = std::string(state) + "/slipway";
  } else if (const std::string home = home_directory(mounter); home.starts_with('/')) {
    base = home + "/.local/state/slipway";
  } else {
    return fail(ErrorCode::kInvalid,
                "neither XDG_STATE_HOME nor HOME is set: name the cache with -o cache=DIR");
  }
  // One directory per export as it is typed; who the server really is stands inside the cache.
  std::string name;
  for (const char c : options.connect.host + options.export_path)
    name += (std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '-') ? c : '_';
  if (name.size() > 80)
    name.resize(80);
  const auto digest = hash16({as_bytes(options.connect.user), as_bytes(options.connect.host),
                              as_bytes(options.export_path)});
  std::string hex;
  for (std::size_t i = 0; i < 4; ++i)
    hex += fmt::format("{:02x}", static_cast<unsigned>(digest[i]));
  return fmt::format("{}/{}-{}", base, name, hex);
}

}  // namespace slipway
