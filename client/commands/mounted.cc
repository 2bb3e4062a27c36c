#include "commands/mounted.h"

#include <sys/stat.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/log.h"
#include "control/control_client.h"
#include "control/runtime_directory.h"
#include "secure/secret.h"
#include "source/readahead_source.h"
#include "source/remote_source.h"

namespace slipway {

namespace {

using Json = nlohmann::json;

constexpr std::chrono::seconds kSetupDeadline{120};  ///< a person may be typing a passphrase
constexpr std::chrono::seconds kCacheCloseWait{3};
constexpr std::chrono::milliseconds kCacheCloseRetry{50};
constexpr int kStatusSchema = 1;

std::string host_name() {
  char name[256] = {};
  ::gethostname(name, sizeof name - 1);
  return name;
}

RemoteOptions remote_options(const MountOptions& options, const BlockCache& cache) {
  RemoteOptions out;
  out.identity.client_id = cache.client_id();
  fill_random(out.identity.mount_id);
  out.identity.client_name = host_name();
  out.identity.export_path = options.export_path;
  out.identity.suites = options.suites;
  out.identity.connections = static_cast<std::uint8_t>(
      options.transport == RemoteOptions::Transport::kSshOnly ? 0 : options.connections);
  out.io_timeout = options.io_timeout;
  out.soft = options.soft;
  out.transport = options.transport;
  out.accept_zstd = options.compress;
  return out;
}

/// What cached files belong to: who the server is, which export, as which remote user.
ExportKey export_key(const RemoteSession& remote) {
  const std::uint32_t uid = remote.server().uid;
  return hash16({as_bytes(remote.anchor()), remote.server().export_id,
                 as_bytes(fmt::format("{}", uid))});
}

FileSystemOptions file_system_options(const MountOptions& options, const RemoteSession& remote) {
  FileSystemOptions out;
  out.idmap = options.idmap;
  out.uid = options.uid;
  out.gid = options.gid;
  out.umask = options.umask;
  out.attr_timeout = options.attr_timeout;
  out.export_key = export_key(remote);
  return out;
}

Json to_json(const RemoteStatus& s) {
  Json connections = Json::array();
  for (const RemoteStatus::Connection& c : s.connections)
    connections.push_back({{"number", c.number},
                           {"peer", c.peer},
                           {"cipher", c.cipher},
                           {"bytes_sent", c.bytes_sent},
                           {"bytes_received", c.bytes_received}});
  return {{"state", name_of(s.state)},
          {"why", s.why},
          {"transport", s.transport},
          {"session_transport", s.session_transport},
          {"survives_ssh", s.survives_ssh},
          {"rtt_ms", s.rtt_ms},
          {"goodput_bytes_per_s", s.goodput},
          {"bytes_sent", s.bytes_sent},
          {"bytes_received", s.bytes_received},
          {"requests", s.requests},
          {"requests_in_flight", s.requests_in_flight},
          {"sessions", s.sessions},
          {"redials", s.redials},
          {"connections", std::move(connections)}};
}

Json to_json(const CacheStats& s, const std::string& directory) {
  return {{"directory", directory},
          {"used", s.used},
          {"limit", s.limit},
          {"files", s.files},
          {"hit_bytes", s.hit_bytes},
          {"stored_bytes", s.stored_bytes},
          {"not_stored_bytes", s.not_stored_bytes},
          {"evicted_bytes", s.evicted_bytes},
          {"corrupt_units", s.corrupt_units},
          {"index_rebuilt", s.index_rebuilt}};
}

Json to_json(const FileSystemStats& fs, const CachedSourceStats& source) {
  return {{"reads", fs.reads},
          {"read_bytes", fs.read_bytes},
          {"hits", source.hit_reads},
          {"misses", source.miss_reads},
          {"joined", source.joined_reads},
          {"waiting", source.waiting_reads},
          {"demand_bytes", source.demand_bytes},
          {"prefetch_bytes", source.prefetch_bytes},
          {"duplicate_bytes", source.duplicate_bytes},
          {"open_files", fs.open_files}};
}

/// Makes the directory and those above it, 0700; existing ones are left as they are. Whether the
/// last one is new.
Result<bool> make_directories(const std::string& path) {
  bool is_new = false;
  for (std::size_t at = 1; at != std::string::npos;) {
    at = path.find('/', at);
    const std::string part = path.substr(0, at);
    is_new = ::mkdir(part.c_str(), 0700) == 0;
    if (!is_new && errno != EEXIST)
      return fail_errno(errno, "create the cache directory '{}'", part);
    if (at != std::string::npos)
      ++at;
  }
  return is_new;
}

/// umount(8), unlike `slipway umount`, does not wait for the mount's process, which may still be
/// closing the cache when the next mount wants it.
Result<std::unique_ptr<BlockCache>> open_cache(const CacheOptions& options) {
  SLIPWAY_TRY_ASSIGN(const bool is_new, make_directories(options.directory));
  const auto deadline = SteadyClock::instance().now() + kCacheCloseWait;
  for (;;) {
    auto cache = BlockCache::open(options);
    if (cache)
      return cache;
    if (cache.error().code != ErrorCode::kBusy || SteadyClock::instance().now() > deadline) {
      if (is_new)
        ::rmdir(options.directory.c_str());  // a refused place is left as it was
      if (cache.error().code == ErrorCode::kNoSpace)
        return fail(ErrorCode::kNoSpace,
                    "no space for the cache '{}': make room there, or name another place with "
                    "-o cache=DIR",
                    options.directory);
      return cache;
    }
    std::this_thread::sleep_for(kCacheCloseRetry);
  }
}

}  // namespace

Mounted::Mounted(const MountOptions& options, std::string mountpoint)
    : options_(options), mountpoint_(std::move(mountpoint)) {}

Result<std::unique_ptr<Mounted>> Mounted::start(const MountOptions& options,
                                                const std::string& mountpoint,
                                                MountLauncher& launcher, bool interactive,
                                                const std::function<void()>& about_to_mount) {
  std::unique_ptr<Mounted> m(new Mounted(options, mountpoint));
  SLIPWAY_TRY_ASSIGN(auto connector, make_connector(options.connect));
  SLIPWAY_TRY_ASSIGN(m->cache_, open_cache(options.cache));
  SLIPWAY_TRY_ASSIGN(
      m->remote_, RemoteSession::start(remote_options(options, *m->cache_), std::move(connector),
                                       interactive, SteadyClock::instance().now() + kSetupDeadline));

  const LinkEstimateFn link = link_estimate_of(*m->remote_);
  m->remote_source_ = make_remote_source(*m->remote_);
  CachedSourceOptions cached;
  cached.link = link;
  m->cached_source_ = make_cached_source(*m->cache_, *m->remote_, *m->remote_source_, cached);
  ReadaheadOptions readahead;
  readahead.enabled = options.readahead_max > 0;
  readahead.bytes_max = options.readahead_max;
  m->readahead_ = make_readahead_source(*m->cached_source_, link, readahead);

  MountSpec spec;
  spec.mountpoint = mountpoint;
  spec.source = options.source;
  spec.allow_other = options.allow_other;
  spec.default_permissions = options.default_permissions;
  spec.nonempty = options.nonempty;
  about_to_mount();
  SLIPWAY_TRY_ASSIGN(UniqueFd fuse, launcher.mount(spec));
  auto fs = MountedFileSystem::create(file_system_options(options, *m->remote_), *m->remote_,
                                      *m->cache_, *m->cached_source_, *m->readahead_,
                                      std::move(fuse));
  auto socket = control_socket_path(mountpoint);
  auto control = !socket ? fail(socket.error())
                         : ControlServer::start(*socket, [mounted = m.get()](const std::string& line) {
                             return mounted->handle_control(line);
                           });
  if (!fs || !control) {
    (void)launcher.unmount(mountpoint, /*lazy=*/true);
    return fail(!fs ? fs.error() : control.error());
  }
  m->fs_ = std::move(*fs);
  m->control_ = std::move(*control);
  return m;
}

Mounted::~Mounted() {
  control_.reset();
  if (remote_)
    remote_->stop();  // completes every read that still waits
  fs_.reset();
  readahead_.reset();
  cached_source_.reset();
  remote_source_.reset();
  remote_.reset();
  cache_.reset();
}

int Mounted::serve() { return fs_->run(); }

void Mounted::exit() { fs_->exit(); }

std::string Mounted::status_json() const {
  const Json status = {{"schema", kStatusSchema},
                       {"version", SLIPWAY_VERSION},
                       {"source", options_.source},
                       {"mountpoint", mountpoint_},
                       {"pid", ::getpid()},
                       {"link", to_json(remote_->status())},
                       {"cache", to_json(cache_->stats(), options_.cache.directory)},
                       {"reads", to_json(fs_->stats(), cached_source_->stats())}};
  return status.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string Mounted::handle_control(const std::string& line) {
  const Json request = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!request.is_object() || !request.contains("version") ||
      request["version"] != kControlVersion)
    return Json{{"error", "this mount speaks version 1 of the control protocol"}}.dump();
  if (request.contains("command") && request["command"] == "status")
    return status_json();
  return Json{{"error", "unknown command"}}.dump();
}

}  // namespace slipway
