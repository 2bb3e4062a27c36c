#include "server/session_command.h"

#include "base/log.h"
#include "server/handle_table.h"
#include "server/session.h"

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace slipway {

namespace {

// Authentication is over by now; what is left are two messages.
constexpr std::chrono::seconds kSetupDeadline{60};

void point_at_null(int fd) noexcept {
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (null)
    ::dup2(null.get(), fd);
}

// Takes a standard descriptor away from everything that might print to it.
UniqueFd take_over(int fd) noexcept {
  UniqueFd own(::fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
  point_at_null(fd);
  return own;
}

int wait_for(pid_t worker) {
  int status = 0;
  while (::waitpid(worker, &status, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(status))
    return WEXITSTATUS(status);
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : EXIT_FAILURE;
}

std::string origin() {
  std::string text;
  if (const char* const connection = std::getenv("SSH_CONNECTION"); connection != nullptr)
    text += fmt::format(" from '{}'", escape(connection));
  // As a forced command we decide ourselves what runs; what was asked for is only worth a line.
  if (const char* const command = std::getenv("SSH_ORIGINAL_COMMAND"); command != nullptr)
    text += fmt::format(" (asked for '{}')", escape(command));
  return text;
}

}  // namespace

int run_session_command(const SessionOptions& options) {
  if (::isatty(STDIN_FILENO) != 0) {
    log_error("this command is for `slipway mount`, which runs it through SSH; see slipwayd(8)");
    return EXIT_FAILURE;
  }
  const pid_t worker = ::fork();
  if (worker < 0) {
    log_error("fork: {}", system_error(errno, "fork").message);
    return EXIT_FAILURE;
  }
  if (worker > 0) {
    // The streams are the worker's alone, so that their ends mean what the worker does with them.
    point_at_null(STDIN_FILENO);
    point_at_null(STDOUT_FILENO);
    point_at_null(STDERR_FILENO);
    return wait_for(worker);
  }
  ::setsid();
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGHUP, SIG_IGN);
  UniqueFd input = take_over(STDIN_FILENO);
  UniqueFd output = take_over(STDOUT_FILENO);
  return serve_session(std::move(input), std::move(output), options, /*log_to_syslog=*/true);
}

int serve_session(UniqueFd input, UniqueFd output, const SessionOptions& options,
                  bool log_to_syslog) {
  std::unique_ptr<Transport> transport =
      make_fd_transport(std::move(input), std::move(output), "ssh");
  Result<SetUpSession> set_up =
      set_up_session(*transport, options, SteadyClock::instance().now() + kSetupDeadline);
  if (log_to_syslog) {
    log_to(LogSink::kSyslog, "slipwayd");
    point_at_null(STDERR_FILENO);
    if (::chdir("/") != 0)  // so that no directory is kept busy
      log_debug("chdir: {}", errno);
  }
  if (!set_up) {
    log_info("no session{}: {}", origin(), escape(set_up.error().message));
    return EXIT_FAILURE;
  }
  log_info("session{}: {}", origin(), set_up->description);

  SessionLimits limits;
  limits.handles_max = make_room_for_handles();
  Session session(*set_up->store, std::move(set_up->ticket), set_up->connections, limits,
                  std::move(set_up->profiles), set_up->write_side());
  session.start_connection0(make_plain_channel(std::move(transport)));
  if (set_up->listener != nullptr)
    set_up->listener->start(session);
  const std::string why = session.run();
  if (set_up->listener != nullptr)
    set_up->listener->stop();
  log_info("session ended: {}", why);
  return EXIT_SUCCESS;
}

}  // namespace slipway
