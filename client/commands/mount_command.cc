#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <mutex>
#include <optional>
#include <thread>

#include "base/log.h"
#include "commands/commands.h"
#include "commands/default_cache.h"
#include "commands/end_signals.h"
#include "commands/exit_codes.h"
#include "commands/mount_note.h"
#include "commands/mount_table.h"
#include "commands/mounted.h"
#include "commands/unsent_writes.h"
#include "control/control_client.h"
#include "control/runtime_directory.h"

namespace slipway {

namespace {

constexpr std::chrono::seconds kDrainWhenTold{10};  ///< for unsent writes after SIGTERM

int report(const Error& error) {
  fmt::print(stderr, "slipway: {}\n", error.message);
  return error.code == ErrorCode::kOutOfMemory ? kExitSystem : kExitFailure;
}

bool is_inside(const std::string& path, const std::string& directory) {
  return path == directory || path.starts_with(directory == "/" ? "/" : directory + "/");
}

/// Whether a process serves the mount there. One that was killed a moment ago may still be on its
/// way out: nobody answers its control socket any more, but the kernel has not noticed.
bool is_served(const std::string& mountpoint) {
  constexpr int kTries = 40;
  constexpr std::chrono::milliseconds kPause{50};
  const auto socket = control_socket_path(mountpoint);
  for (int i = 0; i < kTries; ++i) {
    if (socket && control_request(*socket, "{}").has_value())
      return true;  // asked first: the mount itself may have to wait for its server
    if (is_dead_mount(mountpoint))
      return false;
    if (!socket)
      return true;
    std::this_thread::sleep_for(kPause);
  }
  return true;
}

/// What a dead mount left in this cache goes to the server now; what lies in another one does not.
void warn_of_other_caches(const std::string& mountpoint, const std::string& cache) {
  for (const MountNote& note : mount_notes()) {
    if (note.mountpoint != mountpoint || note.cache == cache)
      continue;
    if (const auto unsent = find_unsent_writes_of_dead(note.cache); unsent && *unsent) {
      warn_of_unsent(**unsent);
      forget_mountpoint(note);
    }
  }
}

/// What can be known about the mountpoint before the network is asked. A mount whose process died
/// is cleared away.
Status prepare_mountpoint(const std::string& mountpoint, const MountOptions& options) {
  SLIPWAY_TRY_ASSIGN(const auto table, read_mount_table());
  if (const auto entry = find_mount(table, mountpoint); entry && entry->type == kMountType) {
    if (is_served(mountpoint))
      return fail(ErrorCode::kBusy, "'{}' is already a slipway mount (of {}): slipway umount it first",
                  mountpoint, entry->source);
    log_warning("'{}' was left behind by a process that died: clearing it away", mountpoint);
    SLIPWAY_TRY(unmount_path(mountpoint, /*lazy=*/true));
    warn_of_other_caches(mountpoint, options.cache.directory);
  }
  struct stat st {};
  if (::stat(mountpoint.c_str(), &st) != 0)
    return errno == ENOENT
               ? fail(ErrorCode::kNotFound, "mountpoint '{}' does not exist: make it with mkdir",
                      mountpoint)
               : fail_errno(errno, "mountpoint '{}'", mountpoint);
  if (!S_ISDIR(st.st_mode))
    return fail(ErrorCode::kNotDirectory, "mountpoint '{}' is not a directory", mountpoint);
  if (is_inside(mountpoint, options.cache.directory) ||
      is_inside(options.cache.directory, mountpoint))
    return fail(ErrorCode::kInvalid,
                "the mountpoint '{}' and the cache '{}' must not be inside each other", mountpoint,
                options.cache.directory);
  std::error_code unreadable;
  if (!options.nonempty && !std::filesystem::is_empty(mountpoint, unreadable) && !unreadable)
    return fail(ErrorCode::kNotEmpty,
                "mountpoint '{}' is not empty (-o nonempty mounts over what is there)", mountpoint);
  return {};
}

void warn_about_other_users(const MountOptions& options, const Mounter& mounter) {
  if (options.allow_other || mounter.uid == 0)
    return;
  fmt::print(stderr,
             "slipway: note: only you can see this mount; monitors that run as root or another user "
             "(VMware, libvirt) will fail: mount with -o allow_other, after putting "
             "'user_allow_other' into /etc/fuse.conf\n");
}

/// Serves until unmounted or told to end by SIGTERM or SIGINT, perhaps before this call.
int serve(Mounted& mounted, MountLauncher& launcher, const std::string& mountpoint,
          EndSignals& signals, std::atomic<bool>& told_to_end) {
  std::once_flag once;
  const auto end = [&] {
    told_to_end = true;
    log_info("told to end: unmounting '{}'", mountpoint);
    // Files may be open: the mount is detached, and those who have them get errors from now on.
    if (!launcher.unmount(mountpoint, /*lazy=*/true))
      log_warning("'{}' could not be unmounted", mountpoint);
    mounted.exit();
  };
  signals.on_signal([&] { std::call_once(once, end); });
  if (told_to_end)
    std::call_once(once, end);
  const int result = mounted.serve();
  signals.on_signal([] {});
  return result;
}

/// The file system must answer before the mount counts as working.
Status check_answers(const std::string& mountpoint) {
  struct stat st {};
  if (::stat(mountpoint.c_str(), &st) != 0)
    return fail_errno(errno, "the new mount on '{}' does not answer", mountpoint);
  return {};
}

void redirect_to_null() {
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  for (const int fd : {0, 1, 2})
    ::dup2(null.get(), fd);
}

/// Runs the mount. `ready` is told once it works: then, in a daemon, the terminal is let go.
int run_mount(const MountOptions& options, const Mounter& mounter, const std::string& mountpoint,
              UniqueFd ready) {
  auto launcher = MountLauncher::spawn();
  if (!launcher)
    return report(launcher.error());
  // Once there is something to unmount, a signal must not just end the process.
  std::atomic<bool> told_to_end = false;
  EndSignals signals;
  const auto about_to_mount = [&] { signals.on_signal([&] { told_to_end = true; }); };
  auto mounted =
      Mounted::start(options, mountpoint, *launcher, /*interactive=*/true, about_to_mount);
  if (!mounted)
    return report(mounted.error());
  // The middleware's signals: write back; write back and let go of what is cached.
  signals.on_user_signal([&](int signal) {
    const bool invalidate = signal == SIGUSR2;
    (*mounted)->flush("", invalidate, [invalidate](const Status& flushed) {
      log_info("told to write back{}: {}", invalidate ? " and invalidate" : "",
               flushed ? "done" : flushed.error().message);
    });
  });
  Error failed;
  std::mutex ending;  // guards `ended`: after that the check must leave the mount alone
  bool ended = false;
  std::thread check([&] {
    const Status status = check_answers(mountpoint);
    const std::lock_guard lock(ending);
    if (ended)
      return;
    if (!status) {
      failed = status.error();
      (void)launcher->unmount(mountpoint, /*lazy=*/true);
      (*mounted)->exit();
      return;
    }
    warn_about_other_users(options, mounter);
    if (ready) {
      ::setsid();
      [[maybe_unused]] const int changed = ::chdir("/");
      log_to(LogSink::kSyslog, "slipway");
      if (!options.verbose)
        set_log_level(LogLevel::kInfo);
      redirect_to_null();
      [[maybe_unused]] const ssize_t n = ::write(ready.get(), "", 1);
      ready.reset();
    }
    log_info("mounted {} on '{}'", options.source, mountpoint);
  });
  const int result = serve(**mounted, *launcher, mountpoint, signals, told_to_end);
  // Told to end, there is little time: the log keeps what does not go in it.
  std::atomic<bool> hurry = told_to_end.load();
  signals.on_signal([&] { hurry = true; });
  std::optional<TimePoint> until;
  (*mounted)->drain([&] {
    if (hurry && !until)
      until = SteadyClock::instance().now() + kDrainWhenTold;
    return until && SteadyClock::instance().now() >= *until;
  });
  {
    const std::lock_guard lock(ending);
    ended = true;
  }
  signals.on_user_signal({});
  // Closes /dev/fuse: a check that came too late to be answered would wait for ever otherwise.
  mounted->reset();
  check.join();
  if (!failed.message.empty())
    return report(failed);
  return result == 0 ? kExitOk : kExitFailure;
}

/// The parent of a daemon: its exit status is the daemon's verdict.
int wait_for_daemon(pid_t child, const UniqueFd& ready) {
  char byte = 0;
  ssize_t n = 0;
  do {
    n = ::read(ready.get(), &byte, 1);
  } while (n < 0 && errno == EINTR);
  if (n == 1)
    return kExitOk;
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFSIGNALED(status)) {
    fmt::print(stderr, "slipway: the mount's process was killed by signal {}\n", WTERMSIG(status));
    return kExitSystem;
  }
  return WEXITSTATUS(status) == kExitOk ? kExitFailure : WEXITSTATUS(status);
}

}  // namespace

int mount_command(MountOptions options, const Mounter& mounter) {
  auto mountpoint = absolute_mountpoint(options.mountpoint);
  if (!mountpoint)
    return report(mountpoint.error());
  if (options.cache.directory.empty()) {
    auto directory = default_cache_directory(options, mounter);
    if (!directory)
      return report(directory.error());
    options.cache.directory = *directory;
  }
  // The daemon changes to "/": a relative path means here. Links and dots would hide a mountpoint
  // inside the cache.
  std::error_code error;
  if (!options.connect.ssh_config.empty())
    options.connect.ssh_config = std::filesystem::absolute(options.connect.ssh_config, error);
  // Made absolute by itself: what does not exist yet stays relative otherwise.
  const auto real = std::filesystem::weakly_canonical(
      std::filesystem::absolute(options.cache.directory, error), error);
  if (error)
    return report(system_error(error.value(),
                               fmt::format("cache directory '{}'", options.cache.directory)));
  options.cache.directory = real.string();
  if (options.cache.directory.size() > 1 && options.cache.directory.back() == '/')
    options.cache.directory.pop_back();
  if (const Status status = prepare_mountpoint(*mountpoint, options); !status)
    return report(status.error());
  ::signal(SIGPIPE, SIG_IGN);
  if (options.foreground)
    return run_mount(options, mounter, *mountpoint, UniqueFd());
  int pipe_fds[2];
  if (::pipe2(pipe_fds, O_CLOEXEC) != 0)
    return report(system_error(errno, "pipe"));
  UniqueFd read_end(pipe_fds[0]);
  UniqueFd write_end(pipe_fds[1]);
  // Forked before any secret exists; the child asks for passwords on the same terminal.
  const pid_t child = ::fork();
  if (child < 0)
    return report(system_error(errno, "fork"));
  if (child == 0) {
    read_end.reset();
    return run_mount(options, mounter, *mountpoint, std::move(write_end));
  }
  write_end.reset();
  return wait_for_daemon(child, read_end);
}

}  // namespace slipway
