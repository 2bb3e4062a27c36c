#include "commands/own_options.h"

#include <arpa/inet.h>

namespace slipway {

namespace {

constexpr std::uint64_t kLogSizeMin = std::uint64_t{8} << 20;    ///< bytes; a few segments
constexpr std::uint64_t kCacheSizeMin = std::uint64_t{1} << 20;  ///< bytes; the index needs some

Status yes_or_no(const Option& option, bool& to) {
  return choice(option, to, {{"yes", true}, {"no", false}});
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

/// How long what was seen is believed. An open asks the server in any case.
Status set_consistency(const Option& option, MountOptions& m) {
  static constexpr std::string_view kPoll = "poll=";
  const std::string value = option.value.value_or("");
  m.names_believed.reset();
  if (value == "close-to-open")
    return {};
  if (value == "session") {
    m.names_believed = std::chrono::hours(24 * 365);
    return {};
  }
  if (value.starts_with(kPoll))
    return assign(seconds({"consistency=poll", value.substr(kPoll.size())}),
                  m.names_believed.emplace());
  return bad_value(option, "close-to-open, session or poll=SECONDS");
}

Status set_log_size(const Option& option, MountOptions& m) {
  SLIPWAY_TRY_ASSIGN(const std::uint64_t bytes, size(option));
  if (bytes < kLogSizeMin)
    return bad_value(option, "at least " + format_size(kLogSizeMin));
  m.log_size = bytes;
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

// PATH@ROOT; several are several options.
Status add_pin(const Option& option, MountOptions& m) {
  std::string value;
  SLIPWAY_TRY(text(option, value));
  const std::size_t at = value.rfind('@');
  const auto root = parse_content_hash(std::string_view(value).substr(at + 1));
  if (at == std::string::npos || !root || at == 0 || !is_valid_path(value.substr(0, at)))
    return bad_value(option, "PATH@ROOT, with the 64 digits of `slipwayd manifest show PATH`");
  m.pins[value.substr(0, at)] = *root;
  return {};
}

Status set_role(const Option& option, MountOptions& m) {
  SLIPWAY_TRY(text(option, m.role));
  if (!is_valid_role(m.role))
    return bad_value(option, "up to 32 of a-z, 0-9 and '-'");
  return {};
}

Status set_readahead(const Option& option, MountOptions& m) {
  if (option.value == "off" || option.value == "no") {
    m.readahead_max = 0;
    return {};
  }
  return assign(size(option), m.readahead_max);
}

}  // namespace

const std::map<std::string, OptionSetter, std::less<>>& own_options() {
  static const std::map<std::string, OptionSetter, std::less<>> kSetters = {
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
      {"manifest", [](auto& o, auto& m) { return yes_or_no(o, m.manifests); }},
      {"bulk", [](auto& o, auto& m) { return yes_or_no(o, m.bulk); }},
      {"profile",
       [](auto& o, auto& m) {
         return choice(o, m.profiles,
                       {{"learn", ProfileMode::kLearn},
                        {"use", ProfileMode::kUse},
                        {"off", ProfileMode::kOff}});
       }},
      {"role", set_role},
      {"dedup",
       [](auto& o, auto& m) {
         return choice(o, m.dedup,
                       {{"server", Dedup::kServer}, {"all", Dedup::kAll}, {"off", Dedup::kOff}});
       }},
      {"pin", add_pin},
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
      {"ro", [](auto& o, auto& m) { return flag(o, m.read_only); }},
      {"rw",
       [](const Option& o, MountOptions& m) -> Status {
         bool writable = true;
         SLIPWAY_TRY(flag(o, writable));
         m.read_only = !writable;
         return {};
       }},
      {"write",
       [](auto& o, auto& m) {
         return choice(o, m.write_through, {{"back", false}, {"through", true}});
       }},
      {"names",
       [](auto& o, auto& m) {
         return choice(o, m.local_names, {{"back", true}, {"through", false}});
       }},
      {"durability",
       [](auto& o, auto& m) {
         return choice(o, m.durable_remote, {{"local", false}, {"remote", true}});
       }},
      {"lease", [](auto& o, auto& m) { return yes_or_no(o, m.leases); }},
      {"lease_wait", [](auto& o, auto& m) { return assign(seconds(o), m.lease_wait); }},
      {"log_size", set_log_size},
      {"log_wait", [](auto& o, auto& m) { return assign(seconds(o), m.log_wait); }},
      {"consistency", set_consistency},
      {"write_published", [](auto& o, auto& m) { return flag(o, m.write_published); }},
      {"writable_opens", [](auto& o, auto& m) { return flag(o, m.writable_opens); }},
      {"nonempty", [](auto& o, auto& m) { return flag(o, m.nonempty); }},
      {"server_command", [](auto& o, auto& m) { return text(o, m.connect.server_command); }},
      {"subsystem", [](auto& o, auto& m) { return text(o, m.connect.subsystem); }},
      {"ssh_command", [](auto& o, auto& m) { return text(o, m.connect.ssh_command); }},
      {"ssh_config", [](auto& o, auto& m) { return text(o, m.connect.ssh_config); }},
  };
  return kSetters;
}

}  // namespace slipway
