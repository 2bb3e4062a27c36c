#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "cache/block_cache.h"
#include "fs/file_system.h"
#include "remote/remote_session.h"
#include "session/connect_options.h"
#include "source/image_guide.h"

namespace slipway {

/// Between which images content is shared in the cache: none, those of the same server and user,
/// all.
enum class Dedup { kOff, kServer, kAll };

/// Everything that `slipway mount` was told: the source, the mountpoint and the `-o` options.
struct MountOptions {
  std::string source;      ///< as typed: [user@]host:/dir or local:/dir
  std::string mountpoint;  ///< as typed
  std::vector<std::string> option_strings;  ///< as typed
  std::string export_path;
  ConnectOptions connect;
  CacheOptions cache;  ///< directory empty: the default for this source
  std::uint64_t readahead_max = std::uint64_t{32} << 20;  ///< bytes; 0: off
  unsigned connections = 4;
  bool compress = true;
  bool manifests = true;
  bool bulk = true;
  Dedup dedup = Dedup::kServer;
  ProfileMode profiles = ProfileMode::kLearn;
  std::string role = "start";
  std::map<std::string, ContentHash, std::less<>> pins;  ///< path below the export -> root
  std::vector<CipherSuite> suites;  ///< empty: the best that this machine does in hardware first
  RemoteOptions::Transport transport = RemoteOptions::Transport::kAuto;
  Duration io_timeout = std::chrono::seconds(30);
  bool soft = false;
  Duration attr_timeout = std::chrono::seconds(1);
  std::optional<Duration> names_believed;  ///< by consistency=session or poll=; is in attr_timeout
  IdMap idmap = IdMap::kUser;
  std::uint32_t uid = 0;  ///< shown as the owner with idmap=user
  std::uint32_t gid = 0;
  std::uint32_t umask = 0;
  bool allow_other = false;
  bool default_permissions = false;
  bool nonempty = false;
  bool writable_opens = false;
  bool read_only = false;
  bool write_published = false;
  bool write_through = false;   ///< write=through
  bool local_names = true;      ///< names=back
  bool durable_remote = false;  ///< durability=remote
  bool leases = true;           ///< lease=yes
  Duration lease_wait = std::chrono::seconds(5);  ///< for a lease that another mount holds
  std::uint64_t log_size = std::uint64_t{4} << 30;  ///< bytes of unsent writes
  Duration log_wait = std::chrono::seconds(60);  ///< of a write for room in the log
  bool foreground = false;
  bool verbose = false;
};

/// Who mounts: decides defaults (a root mount defaults to allow_other,default_permissions).
struct Mounter {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
};

/// Parses SOURCE and the `-o` strings (several; each a comma-separated list; a comma inside a value
/// is written "\,"). Any option that is unknown, malformed, or contradicts another is refused by
/// name (kInvalid). fstab's generic options are accepted and mean nothing here.
Result<MountOptions> parse_mount_options(const std::string& source, const std::string& mountpoint,
                                         const std::vector<std::string>& option_strings,
                                         const Mounter& mounter);

}  // namespace slipway
