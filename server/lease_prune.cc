// What nobody needs any more in a directory of leases: without this it would grow with each name
// that ever was a group.
#include "server/lease_directory.h"

#include "server/lease_files.h"

#include <ctime>
#include <fcntl.h>
#include <set>
#include <sys/stat.h>
#include <unistd.h>

namespace slipway {

namespace {

constexpr time_t kAbandonedAge = 3600;  // seconds after which nobody comes back to a file
constexpr std::size_t kPrunedMax = 1024;  // files, each time

std::string before_last(const std::string& name, char mark) {
  return name.substr(0, name.rfind(mark));
}

}  // namespace

void LeaseDirectory::prune() const {
  const auto names = list("");
  if (!names)
    return;
  std::set<std::string> recorded;
  for (const std::string& name : *names)
    if (lease_record_uid(name))
      recorded.insert(before_last(name, '-'));
  std::size_t pruned = 0;
  for (const std::string& name : *names) {
    struct stat info {};

    if (::fstatat(directory_.get(), name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0 ||
        (info.st_uid != ::geteuid() && ::geteuid() != 0))
      continue;  // the sticky directory would not let us
    const bool is_old = info.st_mtim.tv_sec + kAbandonedAge < ::time(nullptr);
    const bool is_passing = name.starts_with(kLeaseUnfinished) || name.ends_with(kLeaseWishSuffix);
    if (is_passing && is_old)
      ::unlinkat(directory_.get(), name.c_str(), 0);
    else if (name.ends_with(kLeaseLockSuffix) && !recorded.contains(before_last(name, '.')))
      prune_lock(before_last(name, '.'));
    else if (is_old && lease_record_uid(name) == ::geteuid())
      prune_record(name);
    else
      continue;
    if (++pruned == kPrunedMax)
      return;
  }
}

void LeaseDirectory::prune_lock(const std::string& hash) const {
  Result<LeaseLock> lock = LeaseLock::take(directory_.get(), hash, LeaseLock::Mode::kAlone,
                                           std::chrono::milliseconds(0));
  if (lock)
    lock->set_unused(true);
}

// This user's, and not written for a while: nobody renews it.
void LeaseDirectory::prune_record(const std::string& name) const {
  Result<LeaseLock> lock = LeaseLock::take(directory_.get(), before_last(name, '-'),
                                           LeaseLock::Mode::kAlone, std::chrono::milliseconds(0));
  const std::optional<Bytes> content =
      lock ? read_believed(name, ::geteuid()) : std::optional<Bytes>();
  const Result<LeaseRecord> own = content ? decode_lease_record(*content)
                                          : fail(ErrorCode::kNotFound, "no record");
  if (!own || name != lease_record_name(own->group, ::geteuid()))
    return;
  const Result<Found> found = read(own->group);
  if (!found)
    return;
  const bool is_over = !own->held || (own->unsent_bytes == 0 && !exists(own->group));
  if (found->record && found->record->epoch > own->epoch) {
    ::unlinkat(directory_.get(), name.c_str(), 0);  // another user's counts, also without it
  } else if (is_over && !found->others) {
    remove(own->group);
    lock->set_unused(true);
  }
}

}  // namespace slipway
