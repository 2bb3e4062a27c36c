#include "server/lease_watch.h"

#include "base/log.h"
#include "server/lease_files.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <linux/magic.h>
#include <poll.h>
#include <string_view>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/vfs.h>
#include <unistd.h>

namespace slipway {

namespace {

// What several machines may have at the same time, or what tells us of nothing for other reasons.
constexpr std::uint32_t kElsewhere[] = {
    NFS_SUPER_MAGIC, SMB_SUPER_MAGIC,  SMB2_SUPER_MAGIC,  CIFS_SUPER_MAGIC, FUSE_SUPER_MAGIC,
    V9FS_MAGIC,      CEPH_SUPER_MAGIC, OCFS2_SUPER_MAGIC, AFS_SUPER_MAGIC,  CODA_SUPER_MAGIC,
    0x01161970,  // GFS2
    0x0bd00bd0,  // Lustre
    0x47504653,  // GPFS
};

bool is_elsewhere(const struct statfs& info) {
  return std::find(std::begin(kElsewhere), std::end(kElsewhere),
                   static_cast<std::uint32_t>(info.f_type)) != std::end(kElsewhere);
}

// The hash in the name of a record or wish; "": it is none.
std::string hash_of(std::string_view name) {
  const auto dash = name.find('-');
  if (dash == std::string_view::npos || name.starts_with(kLeaseUnfinished))
    return "";
  return std::string(name.substr(0, dash));
}

}  // namespace

Result<LeaseWatch> LeaseWatch::open(const std::string& directory) {
  struct statfs info {};

  if (::statfs(directory.c_str(), &info) != 0)
    return fail_errno(errno, "'{}'", escape(directory));
  if (is_elsewhere(info))
    return fail(ErrorCode::kNotSupported, "'{}' may be changed by other machines",
                escape(directory));
  UniqueFd changes(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
  if (!changes || ::inotify_add_watch(changes.get(), directory.c_str(),
                                      IN_MOVED_TO | IN_DELETE | IN_ONLYDIR) < 0)
    return fail_errno(errno, "inotify on '{}'", escape(directory));
  UniqueFd wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake)
    return fail_errno(errno, "eventfd");
  return LeaseWatch(std::move(changes), std::move(wake));
}

LeaseWatch::Seen LeaseWatch::wait(TimePoint until) {
  const auto left =
      std::chrono::ceil<std::chrono::milliseconds>(until - SteadyClock::instance().now());
  static constexpr std::int64_t kLongest = 60'000;  // ms
  std::array<struct pollfd, 2> fds{};
  fds[0] = {changes_.get(), POLLIN, 0};
  fds[1] = {wake_.get(), POLLIN, 0};
  if (::poll(fds.data(), fds.size(),
             static_cast<int>(std::clamp<std::int64_t>(left.count(), 0, kLongest))) <= 0)
    return {};
  std::uint64_t woken = 0;
  if (fds[1].revents != 0 && ::read(wake_.get(), &woken, sizeof(woken)) < 0)
    return {};
  return fds[0].revents != 0 ? read_changes() : Seen{};
}

LeaseWatch::Seen LeaseWatch::read_changes() const {
  alignas(struct inotify_event) std::array<char, 64 * 1024> buffer;
  Seen seen;
  const ssize_t got = ::read(changes_.get(), buffer.data(), buffer.size());
  if (got < 0)
    return seen;
  const auto end = static_cast<std::size_t>(got);
  for (std::size_t at = 0; at < end;) {
    struct inotify_event event {};
    std::memcpy(&event, buffer.data() + at, sizeof(event));
    // Too many to be kept, or the directory itself has gone.
    seen.overlooked = seen.overlooked || (event.mask & (IN_Q_OVERFLOW | IN_IGNORED)) != 0;
    if (event.len != 0)
      if (std::string hash = hash_of(buffer.data() + at + sizeof(event)); !hash.empty())
        seen.hashes.insert(std::move(hash));
    at += sizeof(event) + event.len;
  }
  return seen;
}

void LeaseWatch::wake() const noexcept {
  const std::uint64_t one = 1;
  static_cast<void>(!::write(wake_.get(), &one, sizeof(one)));
}

}  // namespace slipway
