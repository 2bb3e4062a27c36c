#include "commands/mount_table.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdlib>

#include "base/unique_fd.h"
#include "fs/fuse_mount.h"

namespace slipway {

namespace {

/// A dead mount answers at once; a live one may wait for its server.
constexpr int kDeadAnswerMs = 1000;

std::string unescape_octal(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size() && text[i + 1] >= '0' && text[i + 1] <= '3') {
      const int value = (text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0');
      out += static_cast<char>(value);
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> out;
  while (!text.empty()) {
    const auto end = text.find(separator);
    out.push_back(text.substr(0, end));
    if (end == std::string_view::npos)
      break;
    text.remove_prefix(end + 1);
  }
  return out;
}

}  // namespace

std::vector<MountEntry> parse_mountinfo(std::string_view text) {
  std::vector<MountEntry> out;
  for (const std::string_view line : split(text, '\n')) {
    // id parent major:minor root MOUNTPOINT options [optional fields] - TYPE SOURCE super-options
    const auto dash = line.find(" - ");
    if (dash == std::string_view::npos)
      continue;
    const auto head = split(line.substr(0, dash), ' ');
    const auto tail = split(line.substr(dash + 3), ' ');
    if (head.size() < 5 || tail.size() < 2)
      continue;
    out.push_back({unescape_octal(head[4]), std::string(tail[0]), unescape_octal(tail[1])});
  }
  return out;
}

Result<std::vector<MountEntry>> read_mount_table() {
  SLIPWAY_TRY_ASSIGN(const std::string text,
                     read_small_file("/proc/self/mountinfo", 16 * 1024 * 1024));
  return parse_mountinfo(text);
}

std::optional<MountEntry> find_mount(const std::vector<MountEntry>& table,
                                     std::string_view mountpoint) {
  for (auto entry = table.rbegin(); entry != table.rend(); ++entry) {
    if (entry->mountpoint == mountpoint)
      return *entry;
  }
  return std::nullopt;
}

Result<std::string> absolute_mountpoint(const std::string& typed) {
  std::string path = typed;
  while (path.size() > 1 && path.back() == '/')
    path.pop_back();
  if (path.empty())
    return fail(ErrorCode::kInvalid, "the mountpoint is empty");
  const auto slash = path.rfind('/');
  std::string parent = slash == std::string::npos ? "." : path.substr(0, slash);
  std::string name = slash == std::string::npos ? path : path.substr(slash + 1);
  if (name == "." || name == ".." || path == "/") {
    parent = path;
    name.clear();
  } else if (parent.empty()) {
    parent.assign(1, '/');  // not = "/", for which g++ 12 has a false warning here
  }
  char resolved[PATH_MAX];
  // A link at the end is followed while it can be: mount(8) does so too. readlink, unlike lstat,
  // asks no file system that is mounted there, whose server may be away.
  char ignored = 0;
  if (::readlink(path.c_str(), &ignored, 1) >= 0 && ::realpath(path.c_str(), resolved) != nullptr)
    return std::string(resolved);
  if (::realpath(parent.c_str(), resolved) == nullptr)
    return fail_errno(errno, "mountpoint '{}'", typed);
  std::string out = resolved;
  if (!name.empty())
    out += (out == "/" ? "" : "/") + name;
  return out;
}

bool is_dead_mount(const std::string& mountpoint) {
  const pid_t child = ::fork();
  if (child < 0)
    return false;
  if (child == 0) {
    // The kernel may still believe the attributes that the dead process gave it: ask past them.
    struct statx st {};
    const int result = ::statx(AT_FDCWD, mountpoint.c_str(), AT_STATX_FORCE_SYNC, STATX_TYPE, &st);
    ::_exit(result != 0 && errno == ENOTCONN ? 1 : 0);
  }
  const UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, child, 0U)));
  pollfd fd{process.get(), POLLIN, 0};
  if (process && ::poll(&fd, 1, kDeadAnswerMs) == 0)
    ::kill(child, SIGKILL);
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == 1;
}

Status unmount_path(const std::string& mountpoint, bool lazy) {
  const Status status = unmount_fuse(mountpoint, lazy);
  if (!status && status.error().message.find("busy") != std::string::npos)
    return fail(ErrorCode::kBusy,
                "can't unmount '{}': it is in use (fuser -vm '{}' shows by whom); "
                "slipway umount -l detaches it nevertheless",
                mountpoint, mountpoint);
  return status;
}

}  // namespace slipway
