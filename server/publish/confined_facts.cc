#include "publish/confined_facts.h"

#include "base/clock.h"
#include "base/unique_fd.h"

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

namespace slipway {

namespace {

constexpr rlim_t kCpuSeconds = 10;
[[maybe_unused]] constexpr rlim_t kMemoryMax = 512 * 1024 * 1024;  // bytes of address space
constexpr rlim_t kFilesMax = 16;                                   // descriptors
constexpr std::chrono::seconds kTimeMax{60};                       // with all waiting for the disk
constexpr std::size_t kAnswerMax = 2 * 1024 * 1024;                // bytes: more than facts can be
constexpr uid_t kNobody = 65534;

class FileBytes final : public ImageBytes {
 public:
  FileBytes(int fd, std::uint64_t size) : fd_(fd), size_(size) {}

  std::uint64_t size() const noexcept override { return size_; }

  Status read(std::uint64_t offset, MutableBytes to) override {
    if (offset > size_ || to.size() > size_ - offset)
      return fail(ErrorCode::kInvalid, "beyond the end");
    SLIPWAY_TRY_ASSIGN(const std::size_t got, pread_full(fd_, to, offset));
    if (got != to.size())
      return fail(ErrorCode::kInvalid, "the file became shorter");
    return {};
  }

 private:
  const int fd_;
  const std::uint64_t size_;
};

bool limit(int resource, rlim_t value) noexcept {
  const rlimit both{value, value};
  return ::setrlimit(static_cast<__rlimit_resource>(resource), &both) == 0;
}

bool drop_rights(uid_t owner, gid_t group) noexcept {
  if (::geteuid() == 0) {
    const uid_t uid = owner == 0 ? kNobody : owner;
    const gid_t gid = owner == 0 ? kNobody : group;
    if (::setgroups(0, nullptr) != 0 || ::setresgid(gid, gid, gid) != 0 ||
        ::setresuid(uid, uid, uid) != 0)
      return false;
  }
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
}

bool confine(uid_t owner, gid_t group) noexcept {
  bool done = limit(RLIMIT_CPU, kCpuSeconds) && limit(RLIMIT_FSIZE, 0) && limit(RLIMIT_CORE, 0) &&
              limit(RLIMIT_NOFILE, kFilesMax);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // they reserve far more
  done = done && limit(RLIMIT_AS, kMemoryMax);
#endif
  return done && drop_rights(owner, group);
}

// The child: never returns, and runs no handler of the parent's exit.
[[noreturn]] void serve(std::string_view name, int image, std::uint64_t size, uid_t owner,
                        gid_t group, int answer) {
  static constexpr int kImage = 3;
  static constexpr int kAnswer = 4;
  // Out of the way first, so that neither overwrites the other.
  const int image_high = ::fcntl(image, F_DUPFD, kAnswer + 1);
  const int answer_high = ::fcntl(answer, F_DUPFD, kAnswer + 1);
  if (::dup2(image_high, kImage) != kImage || ::dup2(answer_high, kAnswer) != kAnswer ||
      ::close_range(kAnswer + 1, ~0U, 0) != 0 || !confine(owner, group))
    ::_exit(EXIT_FAILURE);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  sigset_t none;
  ::sigemptyset(&none);
  ::pthread_sigmask(SIG_SETMASK, &none, nullptr);
  try {
    FileBytes bytes(kImage, size);
    const Bytes facts = encode_facts(read_image_facts(name, bytes));
    ::_exit(write_full(kAnswer, facts) ? EXIT_SUCCESS : EXIT_FAILURE);
  } catch (...) {
    ::_exit(EXIT_FAILURE);
  }
}

// Everything up to the end, within the limits of time and size; else what came so far.
Bytes receive(int from) {
  const TimePoint deadline = SteadyClock::instance().now() + kTimeMax;
  Bytes answer(kAnswerMax);
  std::size_t size = 0;
  while (size < answer.size()) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(
        deadline - SteadyClock::instance().now());
    pollfd readable{from, POLLIN, 0};
    const int ready = ::poll(&readable, 1, static_cast<int>(std::max<long>(left.count(), 0)));
    if (ready < 0 && errno == EINTR)
      continue;
    const ssize_t got = ready > 0 ? ::read(from, answer.data() + size, answer.size() - size) : 0;
    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0)
      break;
    size += static_cast<std::size_t>(got);
  }
  answer.resize(size);
  return answer;
}

ImageFacts complain(std::string_view what) {
  ImageFacts facts;
  facts.complaint = what;
  return facts;
}

}  // namespace

ImageFacts read_confined_facts(std::string_view name, int fd, std::uint64_t size, uid_t owner,
                               gid_t group) {
  int ends[2] = {-1, -1};
  if (::pipe2(ends, O_CLOEXEC) != 0)
    return complain("its format was not read: no pipe");
  const UniqueFd from(ends[0]);
  UniqueFd to(ends[1]);
  const pid_t child = ::fork();
  if (child < 0)
    return complain("its format was not read: no process");
  if (child == 0)
    serve(name, fd, size, owner, group, to.get());
  to.reset();
  const Bytes answer = receive(from.get());
  ::kill(child, SIGKILL);  // it has said all it may say
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  Result<ImageFacts> facts = decode_facts(answer, size);
  return facts ? std::move(*facts) : complain(facts.error().message);
}

}  // namespace slipway
