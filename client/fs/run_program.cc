#include "fs/run_program.h"

#include "base/unique_fd.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

namespace slipway {
namespace {

constexpr std::size_t kErrorsMax = 4096;  ///< bytes
constexpr int kNoSuchProgram = 127;

[[noreturn]] void become(std::vector<char*> arguments, const std::string& variable, int passed,
                         int errors) {
  ::dup2(errors, STDERR_FILENO);
  if (!variable.empty()) {
    ::fcntl(passed, F_SETFD, 0);
    ::setenv(variable.c_str(), std::to_string(passed).c_str(), 1);
  }
  ::execvp(arguments[0], arguments.data());
  for (const char* directory : {"/bin/", "/usr/bin/", "/sbin/"}) {
    const std::string path = directory + std::string(arguments[0]);
    ::execv(path.c_str(), arguments.data());
  }
  ::_exit(kNoSuchProgram);
}

std::string read_all(int fd) {
  std::string text;
  char buffer[512];
  for (;;) {
    const ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return text;
    text.append(buffer, std::min(static_cast<std::size_t>(n), kErrorsMax - text.size()));
  }
}

}  // namespace

Result<ProgramEnd> run_program(const std::vector<std::string>& command, const std::string& variable,
                               int passed) {
  int pipe_ends[2];
  if (::pipe2(pipe_ends, O_CLOEXEC) != 0)
    return fail_errno(errno, "pipe");
  const UniqueFd from(pipe_ends[0]);
  UniqueFd to(pipe_ends[1]);
  std::vector<char*> arguments;
  for (const std::string& argument : command)
    arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);

  const pid_t child = ::fork();
  if (child < 0)
    return fail_errno(errno, "fork");
  if (child == 0)
    become(std::move(arguments), variable, passed, to.get());
  to.reset();

  ProgramEnd end;
  end.errors = read_all(from.get());
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  end.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  if (end.status == kNoSuchProgram)
    return fail(ErrorCode::kNotSupported, "'{}' is missing (Debian: apt install fuse3)",
                command.front());
  return end;
}

}  // namespace slipway
