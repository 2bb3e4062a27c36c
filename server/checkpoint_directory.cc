#include "server/checkpoint_directory.h"

#include "base/fault_point.h"
#include "base/log.h"
#include "server/checkpoint_journal.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <ctime>
#include <dirent.h>
#include <fcntl.h>
#include <memory>
#include <optional>
#include <sys/file.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

namespace slipway {

namespace {

constexpr const char* kApplied = "applied";
constexpr const char* kAppliedAside = "applied.new";

std::optional<std::uint64_t> checkpoint_of(std::string_view name, std::string_view prefix) {
  std::uint64_t checkpoint = 0;
  if (!name.starts_with(prefix))
    return std::nullopt;
  const auto [end, error] =
      std::from_chars(name.data() + prefix.size(), name.data() + name.size(), checkpoint);
  const bool is_exact = error == std::errc() && end == name.data() + name.size() &&
                        checkpoint != 0 && name == journal_name(prefix, checkpoint);
  return is_exact ? std::optional(checkpoint) : std::nullopt;
}

}  // namespace

std::string journal_name(std::string_view prefix, std::uint64_t checkpoint) {
  return fmt::format("{}{}", prefix, checkpoint);
}

Result<std::vector<std::uint64_t>> JournalDirectory::list(std::string_view prefix) const {
  const int fd = ::openat(fd_.get(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(fd >= 0 ? ::fdopendir(fd) : nullptr, &::closedir);
  if (dir == nullptr)
    return fail_errno(errno, "a journal's directory");
  std::vector<std::uint64_t> found;
  for (;;) {
    errno = 0;
    const struct dirent* const entry = ::readdir(dir.get());
    if (entry == nullptr && errno != 0)
      return fail_errno(errno, "readdir of a journal");
    if (entry == nullptr)
      break;
    if (const auto checkpoint = checkpoint_of(entry->d_name, prefix))
      found.push_back(*checkpoint);
  }
  std::sort(found.begin(), found.end());
  return found;
}

bool JournalDirectory::contains(std::string_view prefix, std::uint64_t checkpoint) const {
  struct stat info {};

  return ::fstatat(fd_.get(), journal_name(prefix, checkpoint).c_str(), &info,
                   AT_SYMLINK_NOFOLLOW) == 0;
}

// Each is written at one of two places; what came last has the highest number.
Result<AppliedRecord> JournalDirectory::read_applied() const {
  SLIPWAY_TRY_ASSIGN(AppliedRecord small, small_.read_applied());
  SLIPWAY_TRY_ASSIGN(AppliedRecord in_file, read_applied_file());
  return std::move(small.checkpoint > in_file.checkpoint ? small : in_file);
}

Result<AppliedRecord> JournalDirectory::read_applied_file() const {
  const Result<UniqueFd> fd = open_own(fd_.get(), kApplied, O_RDONLY);
  if (!fd && fd.error().code == ErrorCode::kNotFound)
    return AppliedRecord{};
  if (!fd)
    return fail(fd.error());

  struct stat info {};

  if (::fstat(fd->get(), &info) != 0)
    return fail_errno(errno, "fstat of '{}'", kApplied);
  Bytes content(std::min<std::size_t>(static_cast<std::size_t>(info.st_size), kAppliedMax));
  SLIPWAY_TRY_ASSIGN(const std::size_t got, pread_full(fd->get(), content, 0));
  content.resize(got);
  Result<AppliedRecord> record = decode_applied(content);
  if (record)
    return record;
  // What was applied shows in the files: a commit that comes again is a conflict then, no loss.
  log_error("a journal does not know any more what was applied: {}", record.error().message);
  return AppliedRecord{};
}

Status JournalDirectory::write_applied(const AppliedRecord& record) {
  fault_point("checkpoint-before-applied");
  if (!small_.write_applied(record))
    SLIPWAY_TRY(write_applied_file(record));
  fault_point("checkpoint-after-applied");
  return {};
}

Status JournalDirectory::write_applied_file(const AppliedRecord& record) {
  {
    SLIPWAY_TRY_ASSIGN(const UniqueFd fd,
                       open_own(fd_.get(), kAppliedAside, O_RDWR | O_CREAT | O_TRUNC));
    SLIPWAY_TRY(write_full(fd.get(), encode_applied(record)));
    if (::fsync(fd.get()) != 0)
      return fail_errno(errno, "fsync of '{}'", kAppliedAside);
  }
  if (::renameat(fd_.get(), kAppliedAside, fd_.get(), kApplied) != 0)
    return fail_errno(errno, "rename of '{}'", kAppliedAside);
  return sync();
}

Status JournalDirectory::sync_applied() const {
  SLIPWAY_TRY(small_.sync_applied());
  return sync();
}

Status JournalDirectory::sync() const {
  if (::fsync(fd_.get()) != 0)
    return fail_errno(errno, "fsync of a journal's directory");
  return {};
}

void JournalDirectory::remove(std::string_view prefix, std::uint64_t checkpoint) {
  ::unlinkat(fd_.get(), journal_name(prefix, checkpoint).c_str(), 0);
}

void JournalDirectory::remove_stages_older_than(std::chrono::seconds age) {
  const auto staged = list(kStagePrefix);
  if (!staged)
    return;
  for (const std::uint64_t checkpoint : *staged) {
    struct stat info {};

    if (::fstatat(fd_.get(), journal_name(kStagePrefix, checkpoint).c_str(), &info,
                  AT_SYMLINK_NOFOLLOW) == 0 &&
        info.st_mtim.tv_sec + age.count() < ::time(nullptr))
      remove(kStagePrefix, checkpoint);
  }
}

Status lock_journal(int fd, int operation) {
  static constexpr std::chrono::milliseconds kPause{10};
  const auto deadline = std::chrono::steady_clock::now() + kJournalLockWait;
  while (::flock(fd, operation | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK && errno != EINTR)
      return fail_errno(errno, "flock of a journal");
    if (std::chrono::steady_clock::now() >= deadline)
      return fail(ErrorCode::kBusy, "another session works on this journal");
    std::this_thread::sleep_for(kPause);
  }
  return {};
}

}  // namespace slipway
