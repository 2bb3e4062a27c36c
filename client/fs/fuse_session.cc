#include "fs/fuse_session.h"

#include "base/log.h"
#include "fs/fuse_mount.h"
#include "fs/fuse_operations.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdarg>
#include <cstdio>
#include <pthread.h>
#include <signal.h>
#include <string>
#include <utility>

namespace slipway {
namespace {

/// Callbacks wait for local disks and RocksDB at most, never for the network.
constexpr unsigned kThreads = 8;

void log_of_libfuse(fuse_log_level level, const char* format, va_list arguments) {
  char line[512];
  const int n = std::vsnprintf(line, sizeof line, format, arguments);
  const std::size_t length = n < 0 ? 0 : static_cast<std::size_t>(n);
  std::string text(line, std::min(length, sizeof line - 1));
  while (!text.empty() && text.back() == '\n')
    text.pop_back();
  if (level <= FUSE_LOG_ERR)
    log_warning("libfuse: {}", text);
  else
    log_debug("libfuse: {}", text);
}

/// Ignored by default, so a late one does no harm.
constexpr int kWakeUp = SIGURG;
constexpr std::chrono::milliseconds kWakeUpAgain{10};

/// The signal has to have a handler to interrupt anything, and no SA_RESTART.
void prepare_wake_up() {
  struct sigaction action = {};
  action.sa_handler = [](int) {};
  ::sigaction(kWakeUp, &action, nullptr);
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, kWakeUp);
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

LocalContentOf local_content_of(const WriteBack* writeback) {
  if (writeback == nullptr)
    return {};
  return [writeback](const FileId& id) -> std::optional<LocalContent> {
    if (writeback->is_clean())
      return std::nullopt;
    const auto file = writeback->find(id);
    if (file == nullptr || file->given_up())
      return std::nullopt;
    const WrittenFile::UnsentState state = file->unsent_state();
    if (!state.any)
      return std::nullopt;
    return LocalContent{state.number, state.size, state.mtime, state.bytes};
  };
}

/// Where every change is to be on the server when it is answered, or nobody else is kept out, the server
/// makes names.
bool makes_names(const FileSystemOptions& options, const RemoteSession& remote) {
  return options.local_names && options.writeback != nullptr && options.leases != nullptr &&
         !options.write_through && !options.durable_remote && remote.can_prepare();
}

}  // namespace

Result<std::unique_ptr<MountedFileSystem>> MountedFileSystem::create(
    const FileSystemOptions& options, RemoteSession& remote, BlockCache& cache,
    CachedSource& confirmer, BlockSource& source, UniqueFd fuse_fd) {
  auto session = std::make_unique<FuseSession>(options, remote, cache, confirmer, source);
  SLIPWAY_TRY(session->attach(std::move(fuse_fd)));
  return session;
}

FuseSession::FuseSession(const FileSystemOptions& options, RemoteSession& remote, BlockCache& cache,
                         CachedSource& confirmer, BlockSource& source)
    : options_(options),
      table_(remote.server().root),
      names_(remote, table_, *this, options.attr_timeout, local_content_of(options.writeback),
             options.writeback == nullptr ? nullptr : &options.writeback->pending()),
      files_(files_parts(remote, cache, confirmer, source)),
      changes_(remote, table_, names_, files_, options.writeback, options.leases,
               makes_names(options, remote)) {}

FilesParts FuseSession::files_parts(RemoteSession& remote, BlockCache& cache,
                                    CachedSource& confirmer, BlockSource& source) {
  FilesParts parts{remote, cache, confirmer, source, table_, *this, options_.export_key,
                   options_.guide};
  parts.writeback = options_.writeback;
  parts.leases = options_.leases;
  parts.writable_opens = options_.writable_opens;
  parts.write_through = options_.write_through;
  parts.durable_remote = options_.durable_remote;
  return parts;
}

FuseSession::~FuseSession() {
  requests_.cancel_all_and_wait();
  files_.release_all();
  invalidator_.stop();
  session_.reset();
}

Status FuseSession::attach(UniqueFd fuse_fd) {
  fuse_set_log_func(log_of_libfuse);
  std::string name = "slipway";
  std::string dash_o = "-o";
  std::string session_options = fmt::format("max_read={}", kMaxRead);
  char* argv[] = {name.data(), dash_o.data(), session_options.data(), nullptr};
  fuse_args arguments = {3, argv, 0};
  session_.reset(fuse_session_new(&arguments, &fuse_operations(), sizeof(fuse_lowlevel_ops), this));
  fuse_opt_free_args(&arguments);
  if (!session_)
    return fail(ErrorCode::kInvalid, "libfuse refused the session");
  // libfuse takes a descriptor that is mounted already by this name, and closes it at the end.
  const std::string adopted = fmt::format("/dev/fd/{}", fuse_fd.get());
  if (fuse_session_mount(session_.get(), adopted.c_str()) != 0)
    return fail(ErrorCode::kInvalid, "libfuse refused the mounted descriptor");
  [[maybe_unused]] const int owned_by_libfuse = fuse_fd.release();
  return {};
}

int FuseSession::run() {
  fuse_loop_config* const config = fuse_loop_cfg_create();
  if (config == nullptr)
    return -ENOMEM;
  fuse_loop_cfg_set_max_threads(config, kThreads);
  fuse_loop_cfg_set_clone_fd(config, 1);  // a queue per thread: twice the small direct reads
  prepare_wake_up();
  {
    const std::lock_guard lock(loop_mutex_);
    loop_ = ::pthread_self();
  }
  const int result = fuse_session_loop_mt(session_.get(), config);
  {
    const std::lock_guard lock(loop_mutex_);
    loop_.reset();
    loop_ended_.notify_all();
  }
  fuse_loop_cfg_destroy(config);
  requests_.cancel_all_and_wait();
  return result;
}

void FuseSession::exit() {
  fuse_session_exit(session_.get());
  // Before 3.17 libfuse's loop sees that only when its sem_wait() is interrupted; and the signal
  // may come just before it waits.
  std::unique_lock lock(loop_mutex_);
  while (loop_) {
    ::pthread_kill(*loop_, kWakeUp);
    loop_ended_.wait_for(lock, kWakeUpAgain);
  }
}

void FuseSession::invalidate(const std::string& path) {
  for (const std::uint64_t nodeid : table_.expire_below(path))
    forget_content(nodeid);
}

FileSystemStats FuseSession::stats() const {
  return files_.stats();
}

void FuseSession::forget_attributes(std::uint64_t nodeid) {
  fuse_lowlevel_notify_inval_inode(session_.get(), nodeid, -1, 0);
}

void FuseSession::forget_content(std::uint64_t nodeid) {
  {
    // At most one job per node, however often a server changes its mind.
    const std::lock_guard lock(invalidations_mutex_);
    if (!invalidations_.insert(nodeid).second)
      return;
  }
  invalidator_.post([this, nodeid] {
    {
      const std::lock_guard lock(invalidations_mutex_);
      invalidations_.erase(nodeid);
    }
    fuse_lowlevel_notify_inval_inode(session_.get(), nodeid, 0, 0);
  });
}

std::uint64_t FuseSession::insert_directory(std::shared_ptr<Directory> directory) {
  const std::lock_guard lock(directories_mutex_);
  const std::uint64_t id = next_directory_++;
  directories_.emplace(id, std::move(directory));
  return id;
}

std::shared_ptr<Directory> FuseSession::find_directory(std::uint64_t id) {
  const std::lock_guard lock(directories_mutex_);
  const auto found = directories_.find(id);
  return found == directories_.end() ? nullptr : found->second;
}

void FuseSession::release_directory(std::uint64_t id) {
  const std::lock_guard lock(directories_mutex_);
  directories_.erase(id);
}

}  // namespace slipway
