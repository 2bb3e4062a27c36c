#include "commands/mounted.h"

#include <unistd.h>

#include "base/log.h"
#include "commands/cache_source.h"
#include "commands/mount_cache.h"
#include "commands/mount_note.h"
#include "control/control_client.h"
#include "control/runtime_directory.h"
#include "secure/secret.h"
#include "source/readahead_source.h"
#include "source/recording_source.h"
#include "source/remote_source.h"
#include "source/zero_map_source.h"

namespace slipway {

namespace {

constexpr std::chrono::seconds kSetupDeadline{120};  ///< a person may be typing a passphrase
constexpr std::chrono::seconds kProfileWait{3};  ///< for what was learned to reach the server
constexpr std::chrono::seconds kLeaseWait{10};   ///< for leases to be given back
/// The same, when there is little to give back: the server does not answer, or what is unsent keeps
/// its leases.
constexpr std::chrono::seconds kLeaseWaitShort{2};

std::string host_name() {
  char name[256] = {};
  ::gethostname(name, sizeof name - 1);
  return name;
}

RemoteOptions remote_options(const MountOptions& options,
                             const std::array<std::byte, 16>& client_id) {
  RemoteOptions out;
  out.identity.client_id = client_id;
  fill_random(out.identity.mount_id);
  out.identity.client_name = host_name();
  out.identity.export_path = options.export_path;
  out.identity.suites = options.suites;
  out.identity.connections = static_cast<std::uint8_t>(
      options.transport == RemoteOptions::Transport::kSshOnly ? 0 : options.connections);
  // A mount that only reads asks for no journal, unless there is something to send.
  if (options.read_only && !WriteBack::has_log(options.cache.directory))
    out.identity.features &= ~kFeatureWrites;
  out.io_timeout = options.io_timeout;
  out.soft = options.soft;
  out.transport = options.transport;
  out.accept_zstd = options.compress;
  out.write_published = options.write_published;
  return out;
}

bool is_online(const RemoteSession& remote) {
  const LinkState state = remote.status().state;
  return state == LinkState::kOnline || state == LinkState::kSlow;
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
  out.writable_opens = options.writable_opens;
  out.write_through = options.write_through;
  out.local_names = options.local_names;
  out.durable_remote = options.durable_remote;
  out.export_key = export_key(remote);
  return out;
}

}  // namespace

Mounted::Mounted(const MountOptions& options, std::string mountpoint)
    : options_(options), mountpoint_(std::move(mountpoint)) {}

Result<std::unique_ptr<Mounted>> Mounted::connect(const MountOptions& options,
                                                  const std::string& mountpoint,
                                                  bool interactive) {
  std::unique_ptr<Mounted> m(new Mounted(options, mountpoint));
  SLIPWAY_TRY_ASSIGN(auto connector, make_connector(options.connect));
  // A cache that is there is opened first: nobody should type a password for one that is in use. A
  // new one is made when the server has answered: a mistyped host must not leave it behind.
  CacheOptions cache = options.cache;
  fill_random(cache.new_client_id.emplace());
  if (has_content(cache.directory)) {
    SLIPWAY_TRY_ASSIGN(m->cache_, open_cache(cache));
    cache.new_client_id = m->cache_->client_id();
  }
  SLIPWAY_TRY_ASSIGN(
      m->remote_,
      RemoteSession::start(remote_options(options, *cache.new_client_id), std::move(connector),
                           interactive, SteadyClock::instance().now() + kSetupDeadline));
  if (m->cache_ == nullptr) {
    SLIPWAY_TRY_ASSIGN(m->cache_, open_cache(cache));
    if (m->cache_->client_id() != *cache.new_client_id)
      return fail(ErrorCode::kBusy, "another mount made the cache '{}' a moment ago: mount again",
                  cache.directory);
  }

  log_debug("the session is up over {}; the server has {}", m->remote_->status().session_transport,
            m->remote_->server().data_port != 0
                ? fmt::format("TCP port {}", m->remote_->server().data_port)
                : std::string("no TCP port"));
  log_debug("cache '{}': {} of {} used", cache.directory, format_size(m->cache_->stats().used),
            format_size(m->cache_->stats().limit));

  m->build_sources();
  SLIPWAY_TRY(m->open_write_back());
  note_source(options);
  return m;
}

Result<std::unique_ptr<Mounted>> Mounted::start(const MountOptions& options,
                                                const std::string& mountpoint,
                                                MountLauncher& launcher, bool interactive,
                                                const std::function<void()>& about_to_mount) {
  SLIPWAY_TRY_ASSIGN(auto m, connect(options, mountpoint, interactive));
  MountSpec spec;
  spec.mountpoint = mountpoint;
  spec.source = options.source;
  spec.allow_other = options.allow_other;
  spec.default_permissions = options.default_permissions;
  spec.nonempty = options.nonempty;
  const bool read_only = options.read_only || m->writeback_ == nullptr;
  spec.read_only = read_only && !options.writable_opens;
  about_to_mount();
  SLIPWAY_TRY_ASSIGN(UniqueFd fuse, launcher.mount(spec));
  FileSystemOptions file_system = file_system_options(options, *m->remote_);
  file_system.guide = m->guide_.get();
  file_system.writeback = m->writeback_.get();
  file_system.leases = options.leases ? m->leases_.get() : nullptr;
  auto fs = MountedFileSystem::create(file_system, *m->remote_, *m->cache_, *m->cached_source_,
                                      *m->recording_, std::move(fuse));
  if (fs)
    m->fs_ = std::move(*fs);  // before anybody can ask about it
  auto socket = control_socket_path(mountpoint);
  auto control = !socket ? fail(socket.error())
                         : ControlServer::start(*socket, [mounted = m.get()](const std::string& line) {
                             return mounted->handle_control(line);
                           });
  if (!fs || !control) {
    (void)launcher.unmount(mountpoint, /*lazy=*/true);
    return fail(!fs ? fs.error() : control.error());
  }
  m->control_ = std::move(*control);
  return m;
}

Mounted::~Mounted() {
  control_.reset();
  if (guide_)
    guide_->flush(SteadyClock::instance().now() + kProfileWait);
  if (leases_)
    leases_->end(SteadyClock::instance().now() +
                 (is_online(*remote_) && writeback_->is_clean() ? kLeaseWait
                                                                : kLeaseWaitShort));
  if (writeback_)
    writeback_->stop();
  settle_note();
  if (remote_)
    remote_->stop();  // completes every read that still waits
  fs_.reset();
  lease_control_.reset();
  leases_.reset();
  writeback_.reset();
  guide_.reset();
  prefetcher_.reset();
  recording_.reset();
  readahead_.reset();
  zero_map_.reset();
  cached_source_.reset();
  have_source_.reset();
  have_.reset();
  remote_source_.reset();
  remote_.reset();
  cache_.reset();
}

// From the network up: what is asked of the top goes down until somebody has it.
void Mounted::build_sources() {
  const LinkEstimateFn link = link_estimate_of(*remote_);
  remote_source_ = make_remote_source(*remote_);
  CachedSourceOptions cached;
  cached.link = link;
  BlockSource* below = remote_source_.get();
  if (options_.dedup != Dedup::kOff && options_.manifests) {
    HaveSet::Options have;
    have.directory = options_.cache.directory + "/have";
    have.bytes_max = HaveSet::share_of(cache_->stats().limit);
    have.across_owners = options_.dedup == Dedup::kAll;
    if (auto opened = HaveSet::open(have)) {
      have_ = std::move(*opened);
      have_source_ =
          make_have_source(*below, *remote_, *cache_, *have_, export_key(*remote_));
      below = have_source_.get();
    } else {
      log_warning("images do not share content: {}", opened.error().message);
    }
  }
  cached_source_ = make_cached_source(*cache_, *remote_, *below, cached);
  zero_map_ = make_zero_map_source(*cached_source_);
  ReadaheadOptions readahead;
  readahead.enabled = options_.readahead_max > 0;
  readahead.bytes_max = options_.readahead_max;
  readahead_ = make_readahead_source(*zero_map_, link, readahead);
  recording_ = make_recording_source(*readahead_);
  prefetcher_ = std::make_unique<Prefetcher>(*zero_map_, link);
  ImageGuideOptions guide;
  guide.manifests = options_.manifests;
  guide.bulk = options_.bulk;
  guide.profiles = options_.profiles;
  guide.role = options_.role;
  guide.pins = options_.pins;
  guide.kept_heads = options_.cache.directory + "/manifests";
  guide.export_key = export_key(*remote_);
  WholeFiles::Parts whole{*remote_, *cache_, *zero_map_, export_key(*remote_), {}};
  whole.leave_out = [this](const std::string& path) { return options_.pins.contains(path); };
  guide_ = std::make_unique<ImageGuide>(*remote_, *prefetcher_, std::move(guide),
                                        std::make_unique<WholeFiles>(whole));
}

// What is unsent in the cache is never left aside: a mount that could not send it is refused.
Status Mounted::open_write_back() {
  WriteBackOptions options;
  options.cache_directory = options_.cache.directory;
  options.export_key = export_key(*remote_);
  options.log_size = options_.log_size;
  options.full_wait = options_.log_wait;
  options.compress = options_.compress;
  const bool has_log = WriteBack::has_log(options.cache_directory);
  if (remote_->can_write() ? options_.read_only && !has_log : !has_log) {
    if (!options_.read_only)
      log_warning(
          "the server lets this mount change nothing: it is read-only (-o ro asks for that)");
    return {};
  }
  SLIPWAY_TRY_ASSIGN(writeback_, WriteBack::open(options, *remote_, *cache_, *cached_source_));
  if (remote_->can_write()) {
    write_mount_note({options.cache_directory, mountpoint_, options_.source});
    warn_of_little_room();
    keep_leases();
    return {};
  }
  if (!writeback_->is_clean())
    return fail(ErrorCode::kReadOnly,
                "the cache '{}' holds {} of unsent writes, but the server lets this mount change "
                "nothing",
                options.cache_directory, format_size(writeback_->stats().unsent_bytes));
  writeback_.reset();
  return {};
}

void Mounted::keep_leases() {
  lease_control_ = std::make_unique<LeaseControl>(*remote_);
  if (!remote_->has_leases())
    return;
  LeaseOptions options;
  options.wait = options_.lease_wait;
  if (!options_.leases) {  // an earlier mount may have left some
    options.only_adopted = true;
    options.idle = Duration::zero();
  }
  LeasedWrites writes;
  writes.uses = [this] { return writeback_->uses(); };
  writes.refuse = [this](const auto& which, const Error& why) { writeback_->refuse(which, why); };
  writes.kick = [this] { writeback_->kick(); };
  leases_ = std::make_unique<LeaseKeeper>(options, *remote_, std::move(writes));
}

int Mounted::serve() { return fs_->run(); }

void Mounted::exit() { fs_->exit(); }

}  // namespace slipway
