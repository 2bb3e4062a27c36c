#include "log_fixture.h"

#include <csignal>
#include <fcntl.h>
#include <random>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace slipway;

namespace {

/// Runs the child until it has reported `reports` appends, kills it, and returns the last number
/// that it reported, also those that were still in the pipe.
std::uint64_t append_and_kill(const std::string& directory, std::uint64_t first,
                              std::uint64_t reports) {
  int ends[2];
  REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
  const UniqueFd output(ends[0]);
  UniqueFd input(ends[1]);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, input.get(), STDOUT_FILENO);
  std::string program = SLIPWAY_WRITELOG_CHILD;
  std::string where = directory;
  std::string number = std::to_string(first);
  char* argv[] = {program.data(), where.data(), number.data(), nullptr};
  pid_t pid = -1;
  REQUIRE(::posix_spawn(&pid, program.c_str(), &actions, nullptr, argv, environ) == 0);
  ::posix_spawn_file_actions_destroy(&actions);
  input.reset();
  std::uint64_t last = 0;
  std::uint64_t read = 0;
  std::uint64_t count = 0;
  while (::read(output.get(), &read, sizeof(read)) == sizeof(read)) {
    last = read;
    if (++count == reports)
      ::kill(pid, SIGKILL);
  }
  int status = 0;
  ::waitpid(pid, &status, 0);
  REQUIRE(WIFSIGNALED(status));
  REQUIRE(count >= reports);
  return last;
}

}  // namespace

TEST_CASE("every append that returned is there after the process was killed") {
  const unsigned seed = 4711;
  CAPTURE(seed);
  std::mt19937 random(seed);
  const TempDir dir;
  std::uint64_t next = 0;
  for (int round = 0; round < 25; round++) {
    const std::uint64_t last = append_and_kill(dir.path(), next, 1 + random() % 800);
    SeenLog seen;
    const auto log = open_log(log_options(dir.path(), nullptr, 8), seen);
    CHECK(!log->recovery().damaged);
    REQUIRE(!seen.changes.empty());
    const std::uint64_t newest = seen.changes.back().change.offset / 65536;
    REQUIRE(newest >= last);
    REQUIRE(newest <= last + 1);  // the one under way
    require_patterns(seen, newest + 1 - seen.changes.size(), seen.changes.size());
    next = newest + 1;
  }
}
