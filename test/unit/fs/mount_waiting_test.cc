#include "mounted.h"
#include "support/catch.h"

#include <chrono>
#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <vector>

using namespace slipway;

namespace {

/// A child process that reads one byte at `offset`: only calls that are safe after fork().
pid_t fork_reader(int fd, off_t offset, bool handle_alarm) {
  const pid_t child = ::fork();
  if (child != 0)
    return child;
  if (handle_alarm) {
    struct sigaction action = {};
    action.sa_handler = [](int) {};
    ::sigaction(SIGALRM, &action, nullptr);
  }
  char byte = 0;
  ::_exit(::pread(keep_only(fd), &byte, 1, offset) == 1 ? 0 : 1);
}

int wait_for(pid_t child) {
  int status = 0;
  ::waitpid(child, &status, 0);
  return status;
}

}  // namespace

TEST_CASE("a read that waits for the server can be killed") {
  const bool direct = GENERATE(false, true);
  const int signal = direct ? SIGKILL : GENERATE(SIGKILL, SIGTERM, SIGINT);
  Mounted mount;
  mount.tree.add("disk", FileType::kRegular, pattern(2 * kMiB, 1));
  const UniqueFd fd = open_file(mount / "disk", O_RDONLY);
  ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_RANDOM);
  const UniqueFd direct_fd = open_file(mount / "disk", O_RDONLY | O_DIRECT);
  mount.network.cut();
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(signal, SIG_DFL);
    alignas(4096) static char page[4096];
    const int only = keep_only(direct ? direct_fd.get() : fd.get());
    ::_exit(::pread(only, page, sizeof page, 4096) > 0 ? 0 : 1);
  }
  mount.network.wait_until_waiting(1);
  ::kill(child, signal);
  const int status = wait_for(child);
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == signal);
}

TEST_CASE("a signal that the reader handles does not fail its read") {
  Mounted mount;
  mount.tree.add("disk", FileType::kRegular, pattern(2 * kMiB, 1));
  const UniqueFd fd = open_file(mount / "disk");
  ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_RANDOM);
  mount.network.cut();
  const pid_t child = fork_reader(fd.get(), kMiB, true);
  mount.network.wait_until_waiting(1);
  ::kill(child, SIGALRM);
  ::usleep(200'000);  // several looks of the interrupt watch, which must not give up
  mount.network.restore();
  const int status = wait_for(child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("an open that waits for the server can be killed") {
  Mounted mount;
  mount.tree.add("disk", FileType::kRegular, pattern(2 * kMiB, 1));
  stat_path(mount / "disk");
  const std::string path = mount / "disk";
  mount.network.cut();
  const pid_t child = ::fork();
  if (child == 0) {
    keep_only(STDIN_FILENO);
    ::_exit(::open(path.c_str(), O_RDONLY) < 0 ? 1 : 0);
  }
  mount.network.wait_until_waiting(1);
  ::kill(child, SIGKILL);
  CHECK(WIFSIGNALED(wait_for(child)));
}

TEST_CASE("cached content and names go on while two hundred reads wait, which then finish") {
  Mounted mount;
  const std::string content = pattern(16 * kMiB, 1);
  mount.tree.add("disk", FileType::kRegular, content);
  mount.tree.add("cached", FileType::kRegular, pattern(2 * kMiB, 2));
  const UniqueFd cached = open_file(mount / "cached");
  read_all(mount / "cached");
  const UniqueFd fd = open_file(mount / "disk", O_RDONLY | O_DIRECT);
  REQUIRE(fd);
  mount.network.cut();

  constexpr int kReaders = 200;
  std::vector<std::future<bool>> readers;
  for (int i = 0; i < kReaders; ++i) {
    readers.push_back(std::async(std::launch::async, [&, i] {
      void* memory = nullptr;
      if (::posix_memalign(&memory, 4096, 4096) != 0)
        return false;
      const std::size_t offset = static_cast<std::size_t>(i) * 65536;
      const bool same = ::pread(fd.get(), memory, 4096, static_cast<off_t>(offset)) == 4096 &&
                        content.compare(offset, 4096, static_cast<char*>(memory), 4096) == 0;
      std::free(memory);
      return same;
    }));
  }
  mount.network.wait_until_waiting(kReaders);
  // A read is counted once its call has returned, a moment after the network has it.
  for (int i = 0; i < 1000 && mount.fs().stats().waiting_reads != kReaders; ++i)
    ::usleep(1000);
  CHECK(mount.fs().stats().waiting_reads == kReaders);

  // With the kernel's pages dropped, each of these is a request that we answer.
  for (int round = 0; round < 10; ++round) {
    ::posix_fadvise(cached.get(), 0, 0, POSIX_FADV_DONTNEED);
    CHECK(difference(read_at(cached.get(), 2 * kMiB, 0), pattern(2 * kMiB, 2)) == "");
    // Also at the end of the file, where the kernel asks for the size.
    CHECK(read_at(cached.get(), 10, 2 * kMiB) == "");
  }
  struct stat st = {};
  CHECK(::fstat(cached.get(), &st) == 0);

  // Names are asked for, and fail in bounded time.
  auto listing = std::async(std::launch::async, [&] {
    struct stat missing = {};
    return errno_of(::stat((mount / "other").c_str(), &missing));
  });
  mount.network.wait_until_waiting(kReaders + 1);
  CHECK(listing.wait_for(std::chrono::seconds(0)) == std::future_status::timeout);

  mount.network.restore();
  for (auto& reader : readers)
    CHECK(reader.get());
  CHECK(listing.get() == ENOENT);
  CHECK(mount.fs().stats().waiting_reads == 0);
}

TEST_CASE("a name that can't be asked for in time answers ETIMEDOUT") {
  Mounted mount;
  mount.network.cut();
  auto asking = std::async(std::launch::async, [&] {
    struct stat st = {};
    return errno_of(::stat((mount / "name").c_str(), &st));
  });
  mount.network.wait_until_waiting(1);
  mount.network.fail_with(ErrorCode::kTimedOut);
  CHECK(asking.get() == ETIMEDOUT);
}

TEST_CASE("exit() ends the loop of an idle mount, and of one where reads wait") {
  const bool waiting = GENERATE(false, true);
  Mounted mount;
  mount.tree.add("disk", FileType::kRegular, pattern(2 * kMiB, 1));
  const UniqueFd fd = open_file(mount / "disk");
  pid_t child = -1;
  if (waiting) {
    mount.network.cut();
    child = fork_reader(fd.get(), 0, false);
    mount.network.wait_until_waiting(1);
  }
  mount.fs().exit();
  mount.serving().join();
  CHECK(mount.fs().stats().waiting_reads == 0);
  if (waiting) {
    // The kernel asks again, and nobody serves: what has not been taken up can be killed.
    ::kill(child, SIGKILL);
    wait_for(child);
  }
}

TEST_CASE("exit() right after the start ends the loop") {
  for (int i = 0; i < 5; ++i) {
    Mounted mount;
    mount.fs().exit();
    mount.serving().join();
  }
}

TEST_CASE("a lazily unmounted file system goes on for open files") {
  Mounted mount;
  const std::string content = pattern(2 * kMiB, 1);
  mount.tree.add("disk", FileType::kRegular, content);
  UniqueFd fd = open_file(mount / "disk");
  auto unmounting = std::async(std::launch::async, [&] { return mount.unmount(); });
  for (int i = 0; i < 1000 && ::access((mount / "disk").c_str(), F_OK) == 0; ++i)
    ::usleep(1000);
  CHECK(difference(read_at(fd.get(), 2 * kMiB, 0), content) == "");
  fd.reset();
  CHECK(unmounting.get() == 0);
}
