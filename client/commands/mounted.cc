#include "commands/mounted.h"

#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/log.h"
#include "commands/cache_source.h"
#include "commands/mount_cache.h"
#include "control/control_client.h"
#include "control/runtime_directory.h"
#include "secure/secret.h"
#include "source/readahead_source.h"
#include "source/recording_source.h"
#include "source/remote_source.h"
#include "source/zero_map_source.h"

namespace slipway {

namespace {

using Json = nlohmann::json;

constexpr std::chrono::seconds kSetupDeadline{120};  ///< a person may be typing a passphrase
constexpr std::chrono::seconds kProfileWait{3};  ///< for what was learned to reach the server
constexpr int kStatusSchema = 1;
constexpr std::chrono::seconds kLeaseWait{3};    ///< for leases to be given back
constexpr std::size_t kFlushesKept = 256;  ///< results that nobody may have asked for yet

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
  return out;
}

Json to_json(const PrefetchStats& p, const ImageGuide::Stats& g, std::uint64_t copied) {
  const TouchStats& t = p.touches;
  return {{"images", p.images},
          {"bytes_done", p.bytes_done},
          {"bytes_total", p.bytes_total},
          {"bytes_in_flight", p.bytes_in_flight},
          {"manifests", g.manifests},
          {"copied_bytes", copied},
          {"profiles_received", g.profiles_received},
          {"profiles_sent", g.profiles_sent},
          {"predicted_units", t.predicted_units},
          {"touched_units", t.touched_units},
          {"predicted_touched_units", t.predicted_touched},
          {"precision", t.precision()},
          {"recall", t.recall()},
          {"fetched_bytes", t.fetched_bytes},
          {"wasted_bytes", t.wasted_bytes}};
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
  out.write_published = options.write_published;
  out.write_through = options.write_through;
  out.durable_remote = options.durable_remote;
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

Json to_json(const WriteBackStats& s) {
  return {{"unsent_bytes", s.unsent_bytes},
          {"unsent_files", s.unsent_files},
          {"written_bytes", s.written_bytes},
          {"sent_bytes", s.sent_bytes},
          {"wire_bytes", s.wire_bytes},
          {"checkpoints", s.checkpoints},
          {"waiting_writes", s.waiting_writes},
          {"log_bytes", s.log_bytes},
          {"log_limit", s.log_limit},
          {"recovered_bytes", s.recovered_bytes},
          {"sync_failed", s.sync_failed},
          {"log_damaged", s.damaged},
          {"unsynced_lost", s.unsynced_lost},
          {"waiting_for", s.waiting_for},
          {"conflicts", s.conflicts}};
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
          {"waiting", fs.waiting_reads},
          {"demand_bytes", source.demand_bytes},
          {"prefetch_bytes", source.prefetch_bytes},
          {"duplicate_bytes", source.duplicate_bytes},
          {"open_files", fs.open_files}};
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
  file_system.leases = m->leases_.get();
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
    leases_->end(SteadyClock::instance().now() + kLeaseWait);
  if (writeback_)
    writeback_->stop();
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
  guide_ = std::make_unique<ImageGuide>(*remote_, *prefetcher_, std::move(guide));
}

// What is unsent in the cache is never left aside: a mount that could not send it is refused.
Status Mounted::open_write_back() {
  WriteBackOptions options;
  options.cache_directory = options_.cache.directory;
  options.export_key = export_key(*remote_);
  options.log_size = options_.log_size;
  options.compress = options_.compress;
  const bool has_log = WriteBack::has_log(options.cache_directory);
  if (remote_->can_write() ? options_.read_only && !has_log : !has_log) {
    if (!options_.read_only)
      log_info("the server lets this mount change nothing: it is read-only");
    return {};
  }
  SLIPWAY_TRY_ASSIGN(writeback_, WriteBack::open(options, *remote_, *cache_, *cached_source_));
  if (remote_->can_write()) {
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
  if (!options_.leases || !remote_->has_leases())
    return;
  LeaseOptions options;
  options.wait = options_.lease_wait;
  LeasedWrites writes;
  writes.uses = [this] { return writeback_->uses(); };
  writes.refuse = [this](const auto& which, const Error& why) { writeback_->refuse(which, why); };
  writes.kick = [this] { writeback_->kick(); };
  leases_ = std::make_unique<LeaseKeeper>(options, *remote_, std::move(writes));
}

int Mounted::serve() { return fs_->run(); }

bool Mounted::drain(const std::function<bool()>& give_up) {
  if (writeback_ == nullptr || writeback_->is_clean())
    return true;
  draining_ = true;
  log_info("unmounted; {} of unsent writes go on to the server",
           format_size(writeback_->stats().unsent_bytes));
  if (writeback_->drain([&] { return released_.load() || give_up(); }))
    return true;
  log_warning("{} of writes are NOT on the server: they stay in '{}', and go there at its next "
              "mount or by `slipway recover`",
              format_size(writeback_->stats().unsent_bytes), options_.cache.directory);
  return false;
}

void Mounted::flush(const std::string& path, bool invalidate, std::function<void(Status)> done) {
  const auto finish = [this, path, invalidate, done = std::move(done)](Status flushed) {
    if (flushed && invalidate && fs_ != nullptr)
      fs_->invalidate(path);
    done(std::move(flushed));
  };
  if (writeback_ == nullptr)
    finish({});
  else
    writeback_->flush(finish);
}

std::string Mounted::begin_flush(const std::string& path, bool invalidate) {
  std::uint64_t id = 0;
  {
    auto flushes = flushes_->lock();
    id = ++flushes->last;
    while (flushes->over.size() > kFlushesKept)
      flushes->over.erase(flushes->over.begin());
  }
  flush(path, invalidate, [id, shared = flushes_](const Status& flushed) {
    shared->lock()->over[id] = flushed ? "" : flushed.error().message;
  });
  return Json{{"flush", id}}.dump();
}

std::string Mounted::tell_flush(std::uint64_t id) {
  Json answer = {{"done", false}, {"unsent_bytes", 0}, {"waiting_for", ""}, {"error", ""}};
  if (writeback_) {
    const WriteBackStats stats = writeback_->stats();
    answer["unsent_bytes"] = stats.unsent_bytes;
    answer["waiting_for"] = stats.waiting_for;
  }
  auto flushes = flushes_->lock();
  const auto over = flushes->over.find(id);
  if (over != flushes->over.end()) {
    answer["done"] = true;
    answer["failed"] = over->second;
  }
  return answer.dump(-1, ' ', false, Json::error_handler_t::replace);
}

void Mounted::exit() { fs_->exit(); }

std::string Mounted::status_json() const {
  Json status = {{"schema", kStatusSchema},
                       {"version", SLIPWAY_VERSION},
                       {"source", options_.source},
                       {"mountpoint", mountpoint_},
                       {"pid", ::getpid()},
                       {"link", to_json(remote_->status())},
                       {"cache", to_json(cache_->stats(), options_.cache.directory)},
                       {"reads", to_json(fs_->stats(), cached_source_->stats())},
                       {"prefetch", to_json(prefetcher_->stats(), guide_->stats(),
                                            have_source_ ? have_source_->copied_bytes() : 0)}};
  status["writable"] = writeback_ != nullptr && !options_.read_only;
  status["draining"] = draining_.load();
  if (writeback_)
    status["writes"] = to_json(writeback_->stats());
  status["leases"] = leases_ ? Json::parse(lease_status_json(*leases_)) : Json::array();
  return status.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string Mounted::handle_control(const std::string& line) {
  const Json request = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!request.is_object() || !request.contains("version") ||
      request["version"] != kControlVersion)
    return Json{{"error", "this mount speaks version 1 of the control protocol"}}.dump();
  const std::string command = request.value("command", "");
  if (command == "status")
    return status_json();
  if (command == "release") {
    release();
    return Json{{"draining", draining_.load()}}.dump();
  }
  if (command == "flush" || command == "invalidate")
    return begin_flush(request.value("path", ""), command == "invalidate");
  if (command == "flush-state")
    return tell_flush(request.value("flush", std::uint64_t{0}));
  if (lease_control_ && command == "lease-ls")
    return lease_control_->begin_list();
  if (lease_control_ && command == "lease-break")
    return lease_control_->begin_break(request.value("group", ""),
                                       request.value("epoch", std::uint64_t{0}));
  if (lease_control_ && command == "lease-state")
    return lease_control_->tell(request.value("question", std::uint64_t{0}));
  return Json{{"error", "unknown command"}}.dump();
}

}  // namespace slipway
