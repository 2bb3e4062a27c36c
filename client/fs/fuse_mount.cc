#include "fs/fuse_mount.h"

#include "fs/pass_fd.h"
#include "fs/run_program.h"

#include <fmt/format.h>

#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <signal.h>
#include <sstream>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace slipway {
namespace {

constexpr const char* kType = "fuse.slipway";
constexpr std::size_t kMountTableMax = 64 * 1024 * 1024;

/// mountinfo writes blanks and backslashes as \ooo.
std::string unescape(const std::string& text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 3 < text.size()) {
      plain += static_cast<char>(std::stoi(text.substr(i + 1, 3), nullptr, 8));
      i += 3;
    } else {
      plain += text[i];
    }
  }
  return plain;
}

/// Commas and backslashes would end a mount option.
std::string escape_option(const std::string& text) {
  std::string escaped;
  for (const char c : text) {
    if (c == ',' || c == '\\')
      escaped += '\\';
    escaped += c;
  }
  return escaped;
}

/// Waits up to a second for a child; its status, or -1.
int wait_a_second(pid_t child) {
  int status = 0;
  for (int tries = 0; tries < 100; ++tries) {
    if (::waitpid(child, &status, WNOHANG) == child)
      return status;
    ::usleep(10'000);
  }
  return -1;
}

/// Whether nobody serves the mount any more. A child asks, since a hung mount would not answer.
bool is_dead(const std::string& mountpoint) {
  const pid_t child = ::fork();
  if (child < 0)
    return false;
  if (child == 0) {
    struct statx st = {};  // forced: the kernel may still know attributes of a mount that just died
    ::_exit(::statx(AT_FDCWD, mountpoint.c_str(), AT_STATX_FORCE_SYNC, STATX_TYPE, &st) != 0 &&
                    errno == ENOTCONN
                ? 1
                : 0);
  }
  const int status = wait_a_second(child);
  if (status >= 0)
    return WIFEXITED(status) && WEXITSTATUS(status) == 1;
  ::kill(child, SIGKILL);
  wait_a_second(child);  // while it dies, it keeps the mount busy
  return false;
}

Status check_mountpoint(const MountSpec& spec) {
  const std::string& path = spec.mountpoint;
  if (const std::string source = slipway_mount_at(path); !source.empty()) {
    if (is_dead(path))
      return fail(ErrorCode::kStale,
                  "'{}' is the dead mount of '{}' (its process is gone): slipway umount {}", path,
                  source, path);
    return fail(ErrorCode::kBusy, "'{}' is mounted already: '{}'", path, source);
  }
  struct stat st = {};
  if (::stat(path.c_str(), &st) != 0) {
    if (errno == ENOTCONN)
      return fail(ErrorCode::kStale, "'{}' is a dead FUSE mount: slipway umount {}", path, path);
    return fail_errno(errno, "mountpoint '{}'", path);
  }
  if (!S_ISDIR(st.st_mode))
    return fail(ErrorCode::kNotDirectory, "mountpoint '{}' is not a directory", path);
  std::error_code error;
  const bool empty = std::filesystem::is_empty(path, error);
  if (!error && !empty && !spec.nonempty)
    return fail(ErrorCode::kNotEmpty,
                "mountpoint '{}' is not empty (-o nonempty mounts over what is there)", path);
  return {};
}

Result<UniqueFd> open_device() {
  UniqueFd device(::open("/dev/fuse", O_RDWR | O_CLOEXEC));
  if (device)
    return device;
  if (errno == ENOENT || errno == ENODEV || errno == ENXIO)
    return fail(ErrorCode::kNotSupported, "no FUSE in this kernel: modprobe fuse");
  return fail_errno(errno, "open '/dev/fuse'");
}

Result<UniqueFd> mount_as_root(const MountSpec& spec) {
  SLIPWAY_TRY_ASSIGN(UniqueFd device, open_device());
  std::string data = fmt::format("fd={},rootmode=40000,user_id={},group_id={},max_read={}",
                                 device.get(), ::geteuid(), ::getegid(), kMaxRead);
  data += spec.allow_other ? ",allow_other" : "";
  data += spec.default_permissions ? ",default_permissions" : "";
  unsigned long flags = MS_NOSUID | MS_NODEV;
  if (spec.read_only)
    flags |= MS_RDONLY;
  if (spec.noexec)
    flags |= MS_NOEXEC;
  // Pinned by a descriptor: whoever may rename things above the mountpoint must not lead root's
  // mount elsewhere by a link.
  const UniqueFd place(
      ::open(spec.mountpoint.c_str(), O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  if (!place)
    return fail_errno(errno, "mountpoint '{}'", spec.mountpoint);
  const std::string by_descriptor = fmt::format("/proc/self/fd/{}", place.get());
  std::error_code error;
  if (std::filesystem::read_symlink(by_descriptor, error) != spec.mountpoint)
    return fail(ErrorCode::kInvalid, "the mountpoint '{}' is now behind a symbolic link",
                spec.mountpoint);
  if (::mount(spec.source.c_str(), by_descriptor.c_str(), kType, flags, data.c_str()) != 0) {
    if (errno == ENODEV)
      return fail(ErrorCode::kNotSupported, "no FUSE in this kernel: modprobe fuse");
    return fail_errno(errno, "mount on '{}'", spec.mountpoint);
  }
  return device;
}

Error explain_fusermount(const std::string& said, const std::string& mountpoint) {
  if (said.find("user_allow_other") != std::string::npos)
    return {ErrorCode::kNotPermitted,
            "allow_other needs the line 'user_allow_other' in /etc/fuse.conf; as root: "
            "echo user_allow_other >> /etc/fuse.conf"};
  const std::string line = said.substr(0, said.find('\n'));
  return {ErrorCode::kAccessDenied, fmt::format("can't mount on '{}': {}", mountpoint,
                                                line.empty() ? "fusermount3 gave no reason" : line)};
}

Result<UniqueFd> mount_as_user(const MountSpec& spec) {
  int pair[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
    return fail_errno(errno, "socketpair");
  const UniqueFd ours(pair[0]);
  UniqueFd theirs(pair[1]);
  std::string options =
      fmt::format("{},nosuid,nodev,subtype=slipway,max_read={},fsname={}",
                  spec.read_only ? "ro" : "rw", kMaxRead, escape_option(spec.source));
  options += spec.noexec ? ",noexec" : "";
  options += spec.allow_other ? ",allow_other" : "";
  options += spec.default_permissions ? ",default_permissions" : "";
  SLIPWAY_TRY_ASSIGN(const ProgramEnd end,
                     run_program({"fusermount3", "-o", options, "--", spec.mountpoint},
                                 "_FUSE_COMMFD", theirs.get()));
  theirs.reset();
  if (end.status != 0)
    return fail(explain_fusermount(end.errors, spec.mountpoint));
  char byte = 0;
  SLIPWAY_TRY_ASSIGN(Received received, receive_with_fd(ours.get(), &byte, 1));
  if (!received.fd)
    return fail(ErrorCode::kIo, "fusermount3 handed no descriptor over");
  return std::move(received.fd);
}

}  // namespace

std::string slipway_mount_at(const std::string& mountpoint) {
  const auto table = read_small_file("/proc/self/mountinfo", kMountTableMax);
  std::string found;
  std::istringstream lines(table.value_or(""));
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string word;
    std::string path;
    for (int i = 0; i < 5 && words >> word; ++i)
      path = word;
    while (words >> word && word != "-") {
    }
    std::string type;
    std::string source;
    if (words >> type >> source && unescape(path) == mountpoint)
      found = type == kType ? unescape(source) : "";
  }
  return found;
}

Result<UniqueFd> mount_fuse(const MountSpec& spec) {
  SLIPWAY_TRY(check_mountpoint(spec));
  return ::geteuid() == 0 ? mount_as_root(spec) : mount_as_user(spec);
}

Status unmount_fuse(const std::string& mountpoint, bool lazy) {
  if (::geteuid() == 0) {
    if (::umount2(mountpoint.c_str(), UMOUNT_NOFOLLOW | (lazy ? MNT_DETACH : 0)) != 0)
      return fail_errno(errno, "unmount '{}'", mountpoint);
    return {};
  }
  std::vector<std::string> command = {"fusermount3", "-u"};
  if (lazy)
    command.push_back("-z");
  command.insert(command.end(), {"--", mountpoint});
  SLIPWAY_TRY_ASSIGN(const ProgramEnd end, run_program(command, "", -1));
  if (end.status != 0)
    return fail(ErrorCode::kBusy, "can't unmount '{}': {}", mountpoint,
                end.errors.substr(0, end.errors.find('\n')));
  return {};
}

}  // namespace slipway
