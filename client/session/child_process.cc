#include "session/child_process.h"

#include "base/log.h"
#include "session/interruption.h"

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <utility>

namespace slipway {

namespace {

constexpr std::chrono::seconds kTermPatience{2};          ///< between SIGTERM and SIGKILL
constexpr std::chrono::milliseconds kErrorPatience{300};  ///< for the rest of standard error

/// The two objects that posix_spawn takes, released whatever happens.
class SpawnSetup {
 public:
  SpawnSetup() {
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawnattr_init(&attributes);
  }

  ~SpawnSetup() {
    ::posix_spawn_file_actions_destroy(&actions);
    ::posix_spawnattr_destroy(&attributes);
  }

  SpawnSetup(const SpawnSetup&) = delete;
  SpawnSetup& operator=(const SpawnSetup&) = delete;

  void configure(int socket, int errors, bool own_session) {
    ::posix_spawn_file_actions_adddup2(&actions, socket, STDIN_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions, socket, STDOUT_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions, errors, STDERR_FILENO);
    // Ours are close-on-exec already; this covers what our own parent left open.
    ::posix_spawn_file_actions_addclosefrom_np(&actions, STDERR_FILENO + 1);
    sigset_t all;
    sigset_t none;
    sigfillset(&all);
    sigemptyset(&none);
    ::posix_spawnattr_setsigdefault(&attributes, &all);
    ::posix_spawnattr_setsigmask(&attributes, &none);
    const int flags =
        POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK | (own_session ? POSIX_SPAWN_SETSID : 0);
    ::posix_spawnattr_setflags(&attributes, static_cast<short>(flags));
  }

  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
};

bool wait_readable(int fd, TimePoint deadline) {
  for (;;) {
    pollfd wait{fd, POLLIN, 0};
    const int ready = ::poll(&wait, 1, poll_timeout(deadline));
    if (ready > 0)
      return true;
    if ((ready < 0 && errno != EINTR) || std::chrono::steady_clock::now() >= deadline)
      return false;
  }
}

bool is_executable(const std::string& path) {
  struct stat status {};

  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode) &&
         ::access(path.c_str(), X_OK) == 0;
}

}  // namespace

Result<ChildProcess::Spawned> ChildProcess::spawn(Options options) {
  std::array<int, 2> pair{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) != 0)
    return fail_errno(errno, "socketpair");
  UniqueFd ours(pair[0]);
  const UniqueFd theirs(pair[1]);
  std::array<int, 2> pipe{};
  if (::pipe2(pipe.data(), O_CLOEXEC) != 0)
    return fail_errno(errno, "pipe");
  UniqueFd errors(pipe[0]);
  const UniqueFd errors_end(pipe[1]);

  std::vector<char*> arguments;
  for (std::string& argument : options.arguments)
    arguments.push_back(argument.data());
  arguments.push_back(nullptr);
  SpawnSetup setup;
  setup.configure(theirs.get(), errors_end.get(), !options.interactive);
  pid_t pid = 0;
  const int error = ::posix_spawn(&pid, arguments[0], &setup.actions, &setup.attributes,
                                  arguments.data(), environ);
  if (error != 0)
    return fail(
        ErrorCode::kInvalid, "{}",
        system_error(error, fmt::format("start '{}'", escape(options.arguments[0]))).message);
  return Spawned{std::shared_ptr<ChildProcess>(new ChildProcess(pid, std::move(errors), options)),
                 std::move(ours)};
}

ChildProcess::ChildProcess(pid_t pid, UniqueFd errors, const Options& options)
    : pid_(pid),
      interactive_(options.interactive),
      name_(options.name),
      pid_fd_(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0U))),
      errors_(std::move(errors)),
      stop_(::eventfd(0, EFD_CLOEXEC)),
      errors_done_(::eventfd(0, EFD_CLOEXEC)),
      reader_([this] { read_errors(); }) {}

ChildProcess::~ChildProcess() {
  ::kill(pid_, SIGTERM);
  if (!wait_for_exit(std::chrono::steady_clock::now() + kTermPatience))
    ::kill(pid_, SIGKILL);
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(stop_.get(), &one, sizeof one);
  reader_.join();
}

std::optional<int> ChildProcess::wait_for_exit(TimePoint deadline) const {
  if (!wait_readable(pid_fd_.get(), deadline))
    return std::nullopt;
  siginfo_t info{};
  // Left unreaped, so that the number keeps naming this process until the destructor.
  if (::waitid(P_PID, static_cast<id_t>(pid_), &info, WEXITED | WNOWAIT | WNOHANG) != 0 ||
      info.si_pid == 0)
    return std::nullopt;
  wait_readable(errors_done_.get(), std::chrono::steady_clock::now() + kErrorPatience);
  return info.si_code == CLD_EXITED ? (info.si_status & 0xff) << 8 : (info.si_status & 0x7f);
}

std::string ChildProcess::last_error_line() const {
  return tail_.lock()->last_line();
}

bool ChildProcess::error_output_contains(std::string_view text) const {
  return tail_.lock()->contains(text);
}

void ChildProcess::read_errors() {
  std::array<std::byte, 4096> buffer;
  for (;;) {
    pollfd waits[] = {{errors_.get(), POLLIN, 0}, {stop_.get(), POLLIN, 0}};
    if (::poll(waits, 2, -1) < 0 && errno != EINTR)
      break;
    if (waits[0].revents != 0) {
      const ssize_t got = ::read(errors_.get(), buffer.data(), buffer.size());
      if (got <= 0)
        break;
      const auto lines = tail_.lock()->add(ByteView(buffer).first(static_cast<std::size_t>(got)));
      show(lines);
    } else if (waits[1].revents != 0) {
      break;
    }
  }
  const auto lines = tail_.lock()->finish();
  show(lines);
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(errors_done_.get(), &one, sizeof one);
}

void ChildProcess::show(const std::vector<std::string>& lines) const {
  for (const std::string& line : lines) {
    if (interactive_)
      fmt::print(stderr, "{}: {}\n", name_, line);
    else
      log_info("{}: {}", name_, line);
  }
}

std::string find_program(std::string_view name) {
  if (name.find('/') != std::string_view::npos)
    return is_executable(std::string(name)) ? std::string(name) : std::string();
  const char* from_environment = std::getenv("PATH");
  const std::string path = std::string(from_environment != nullptr ? from_environment : "") +
                           ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
  for (std::size_t begin = 0; begin < path.size();) {
    const std::size_t end = std::min(path.find(':', begin), path.size());
    const std::string candidate = path.substr(begin, end - begin) + "/" + std::string(name);
    // An empty or relative entry would run what lies in the working directory.
    if (candidate.front() == '/' && end > begin && is_executable(candidate))
      return candidate;
    begin = end + 1;
  }
  return {};
}

std::vector<std::string> split_words(std::string_view text) {
  std::vector<std::string> words;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find_first_of(" \t", begin), text.size());
    if (end > begin)
      words.emplace_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return words;
}

}  // namespace slipway
