#include "fs/fuse_launcher.h"

#include "fs/pass_fd.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

namespace slipway {
namespace {

/// Bytes of one message: two paths and a few words.
constexpr std::size_t kMessageMax = 16 * 1024;

// Requests: 'm' or 'u', one letter per option, NUL, mountpoint, NUL, source. Replies: the error's
// number in one byte (0: none) and its text; a descriptor comes along with a mount. Both ends are
// one program.

std::string option_letters(const MountSpec& spec) {
  std::string letters;
  letters += spec.read_only ? "r" : "";
  letters += spec.noexec ? "x" : "";
  letters += spec.allow_other ? "a" : "";
  letters += spec.default_permissions ? "d" : "";
  letters += spec.nonempty ? "n" : "";
  return letters;
}

Result<UniqueFd> perform(const std::string& request) {
  const std::size_t first = std::min(request.find('\0'), request.size() - 1);
  const std::size_t second = std::min(request.find('\0', first + 1), request.size());
  const auto has = [&](char letter) { return request.find(letter, 1) < first; };
  MountSpec spec;
  spec.mountpoint = request.substr(first + 1, second - first - 1);
  spec.source = request.substr(std::min(second + 1, request.size()));
  spec.read_only = has('r');
  spec.noexec = has('x');
  spec.allow_other = has('a');
  spec.default_permissions = has('d');
  spec.nonempty = has('n');
  if (request.front() == 'm')
    return mount_fuse(spec);
  SLIPWAY_TRY(unmount_fuse(spec.mountpoint, has('z')));
  return UniqueFd();
}

void serve_requests(int socket) {
  std::array<char, kMessageMax> buffer;
  for (;;) {
    const auto received = receive_with_fd(socket, buffer.data(), buffer.size());
    if (!received || received->length == 0)
      return;
    const auto done = perform(std::string(buffer.data(), received->length));
    std::string reply(1, done ? '\0' : static_cast<char>(done.error().code));
    if (!done)
      reply += done.error().message.substr(0, kMessageMax - 1);
    if (!send_with_fd(socket, as_bytes(reply), done ? done->get() : -1))
      return;
  }
}

[[noreturn]] void run_launcher(int socket) {
  // A terminal's or a service manager's "stop" is for the mount's process: it unmounts, through us.
  for (const int signal : {SIGINT, SIGHUP, SIGTERM})
    ::signal(signal, SIG_IGN);
  ::setsid();
  // Whoever waits for the end of the caller's output must not wait for us; nor any file system.
  const int nothing = ::open("/dev/null", O_RDWR | O_CLOEXEC);
  for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    ::dup2(nothing, standard);
  [[maybe_unused]] const int at_root = ::chdir("/");
  int result = 0;
  try {
    serve_requests(socket);
  } catch (...) {
    result = 1;
  }
  ::_exit(result);
}

}  // namespace

Result<MountLauncher> MountLauncher::spawn() {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
    return fail_errno(errno, "socketpair");
  UniqueFd ours(pair[0]);
  const UniqueFd theirs(pair[1]);
  const pid_t parent = ::getpid();
  const pid_t child = ::fork();
  if (child < 0)
    return fail_errno(errno, "fork");
  if (child == 0) {
    ours.reset();
    run_launcher(theirs.get());
  }
  return MountLauncher(std::move(ours), child, parent);
}

MountLauncher::~MountLauncher() {
  if (!socket_)
    return;
  socket_.reset();
  if (parent_ != ::getpid())
    return;
  // It ends when all holders are gone; if a fork of ours goes on with it, it is not waited for.
  int status = 0;
  ::waitpid(child_, &status, WNOHANG);
}

Result<UniqueFd> MountLauncher::ask(std::string_view request) {
  if (request.size() > kMessageMax)
    return fail(ErrorCode::kNameTooLong, "the mountpoint's or source's name is too long");
  SLIPWAY_TRY(send_with_fd(socket_.get(), as_bytes(request), -1));
  std::array<char, kMessageMax> buffer;
  SLIPWAY_TRY_ASSIGN(Received received,
                     receive_with_fd(socket_.get(), buffer.data(), buffer.size()));
  if (received.length == 0)
    return fail(ErrorCode::kDisconnected, "the launcher process has ended");
  if (buffer[0] != 0) {
    const auto code = error_code_from_wire(static_cast<unsigned char>(buffer[0]));
    return fail({code, std::string(buffer.data() + 1, received.length - 1)});
  }
  return std::move(received.fd);
}

Result<UniqueFd> MountLauncher::mount(const MountSpec& spec) {
  const auto has_nul = [](const std::string& text) { return text.find('\0') != text.npos; };
  if (spec.mountpoint.empty() || spec.mountpoint.front() != '/' || has_nul(spec.mountpoint) ||
      has_nul(spec.source))
    return fail(ErrorCode::kInvalid, "the mountpoint must be an absolute path");
  std::string request = "m" + option_letters(spec);
  request += '\0';
  request += spec.mountpoint;
  request += '\0';
  request += spec.source;
  return ask(request);
}

Status MountLauncher::unmount(const std::string& mountpoint, bool lazy) {
  std::string request = lazy ? "uz" : "u";
  request += '\0';
  request += mountpoint;
  SLIPWAY_TRY(ask(request));
  return {};
}

}  // namespace slipway
