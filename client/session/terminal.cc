#include "session/terminal.h"

#include "secure/secret.h"

#include <cerrno>
#include <fcntl.h>
#include <poll.h>
#include <termios.h>
#include <unistd.h>
#include <utility>

namespace slipway {

namespace {

constexpr std::size_t kAnswerMax = 1023;  ///< bytes; what libssh takes
constexpr char kInterruptKey = 3;         ///< Ctrl-C
constexpr char kEndKey = 4;               ///< Ctrl-D
constexpr char kEraseKeys[] = {8, 127};

/// Reads keys one by one, unshown; puts the terminal back whatever happens. Ctrl-C arrives as a
/// key, so that it can't leave the terminal in this state.
class RawMode {
 public:
  explicit RawMode(int fd) : fd_(fd), changed_(::tcgetattr(fd, &before_) == 0) {
    if (!changed_)
      return;
    termios raw = before_;
    raw.c_lflag &= static_cast<tcflag_t>(~(ECHO | ICANON | ISIG));
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    ::tcsetattr(fd, TCSAFLUSH, &raw);
  }

  ~RawMode() {
    if (changed_)
      ::tcsetattr(fd_, TCSAFLUSH, &before_);
  }

  RawMode(const RawMode&) = delete;
  RawMode& operator=(const RawMode&) = delete;

 private:
  const int fd_;
  termios before_{};
  const bool changed_;
};

void erase_last(std::string& answer) {
  if (answer.empty())
    return;
  answer.back() = 0;
  answer.pop_back();
}

}  // namespace

std::unique_ptr<Terminal> Terminal::open() {
  UniqueFd fd(::open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY));
  if (!fd)
    return nullptr;
  return std::unique_ptr<Terminal>(new Terminal(std::move(fd)));
}

void Terminal::say(std::string_view text) {
  (void)write_full(fd_.get(), as_bytes(text));
}

Result<std::string> Terminal::ask(std::string_view prompt, bool echo,
                                  const Interruption& interruption) {
  const RawMode raw(fd_.get());
  say(prompt);
  std::string answer;
  answer.reserve(kAnswerMax + 1);  // or a reallocation would leave a copy of a password behind
  for (;;) {
    SLIPWAY_TRY(interruption.wait(fd_.get(), POLLIN, TimePoint::max()));
    char key = 0;
    const ssize_t got = ::read(fd_.get(), &key, 1);
    if (got < 0 && errno == EINTR)
      continue;
    if (got <= 0 || key == kInterruptKey || (key == kEndKey && answer.empty())) {
      wipe(std::as_writable_bytes(std::span<char>(answer)));
      say("\n");
      return fail(ErrorCode::kCancelled, "cancelled at the terminal");
    }
    if (key == '\n' || key == '\r')
      break;
    if (key == kEraseKeys[0] || key == kEraseKeys[1]) {
      if (echo && !answer.empty())
        say("\b \b");
      erase_last(answer);
    } else if (answer.size() < kAnswerMax) {
      answer.push_back(key);
      if (echo)
        say(std::string_view(&key, 1));
    }
  }
  say("\n");
  return answer;
}

SecretText::~SecretText() {
  wipe(std::as_writable_bytes(std::span<char>(text_)));
}

}  // namespace slipway
