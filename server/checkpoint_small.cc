#include "server/checkpoint_small.h"

#include "base/fault_point.h"
#include "base/log.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace slipway {

namespace {

constexpr const char* kCommitName = "small-commit";
constexpr const char* kAppliedName = "small-applied";
constexpr const char* kAside = ".new";

Bytes zeros(std::size_t size) {
  Bytes bytes;
  bytes.resize(size, std::byte{0});
  return bytes;
}

Status sync_data(int fd, const std::string& name) {
  if (::fdatasync(fd) != 0)
    return fail_errno(errno, "fdatasync of '{}'", name);
  return {};
}

Status sync_file_of(int directory, const char* name) {
  const Result<UniqueFd> fd = open_own(directory, name, O_RDONLY);
  if (!fd && (fd.error().code == ErrorCode::kNotFound ||
              fd.error().code == ErrorCode::kNotPermitted))
    return {};  // nothing of it counts
  if (!fd)
    return fail(fd.error());
  return sync_data(fd->get(), name);
}

// No more than there is; nothing when there is no such file.
Result<Bytes> read_file(int directory, const char* name, std::size_t size) {
  Result<UniqueFd> fd = open_own(directory, name, O_RDONLY);
  if (!fd && fd.error().code == ErrorCode::kNotFound)
    return Bytes();
  if (!fd)
    return fail(std::move(fd).error());
  Bytes content(size);
  SLIPWAY_TRY_ASSIGN(const std::size_t got, pread_full(fd->get(), content, 0));
  content.resize(got);
  return content;
}

Result<JournalHead> head_of(ByteView content) {
  return decode_journal_head(content.first(std::min(content.size(), kJournalHeadSize)));
}

struct Slots {
  std::array<AppliedRecord, 2> records;
  std::array<bool, 2> is_damaged{};

  std::size_t latest() const { return records[1].checkpoint > records[0].checkpoint ? 1 : 0; }
};

Result<Slots> read_slots(int directory) {
  SLIPWAY_TRY_ASSIGN(const Bytes content, read_file(directory, kAppliedName, kSmallAppliedSize));
  Slots slots;
  for (std::size_t i = 0; i < 2 && content.size() == kSmallAppliedSize; ++i) {
    Result<AppliedRecord> record = decode_applied_slot(
        ByteView(content).subspan(i * kSmallAppliedSlot, kSmallAppliedSlot));
    slots.is_damaged[i] = !record;
    if (record)
      slots.records[i] = std::move(*record);
  }
  return slots;
}

}  // namespace

// A file has its size and its blocks from the moment when it has its name.
Status SmallFiles::make(const std::string& name, std::size_t size) {
  const Result<UniqueFd> there = open_own(directory_, name, O_RDWR);
  if (there || there.error().code != ErrorCode::kNotFound)
    return there ? Status() : Status(fail(there.error()));
  const std::string aside = name + kAside;
  SLIPWAY_TRY_ASSIGN(const UniqueFd fd, open_own(directory_, aside, O_RDWR | O_CREAT | O_TRUNC));
  SLIPWAY_TRY(write_full(fd.get(), zeros(size)));
  if (::fsync(fd.get()) != 0)
    return fail_errno(errno, "fsync of '{}'", aside);
  if (::renameat(directory_, aside.c_str(), directory_, name.c_str()) != 0)
    return fail_errno(errno, "rename of '{}'", aside);
  return {};
}

// A session that was killed may have made them and not synced their names.
Status SmallFiles::make_both() {
  if (is_durable_)
    return {};
  SLIPWAY_TRY(make(kAppliedName, kSmallAppliedSize));
  SLIPWAY_TRY(make(kCommitName, kSmallCommitSize));
  fault_point("checkpoint-small-made");
  if (::fsync(directory_) != 0)
    return fail_errno(errno, "fsync of a journal's directory");
  is_durable_ = true;
  return {};
}

Result<UniqueFd> SmallFiles::open_made(const std::string& name, std::size_t size) {
  SLIPWAY_TRY(make_both());
  SLIPWAY_TRY_ASSIGN(UniqueFd fd, open_own(directory_, name, O_RDWR));

  struct stat info {};

  if (::fstat(fd.get(), &info) != 0)
    return fail_errno(errno, "fstat of '{}'", name);
  if (static_cast<std::uint64_t>(info.st_size) != size)
    return fail(ErrorCode::kCorrupt, "'{}' has another size", name);
  return fd;
}

bool SmallFiles::place_commit(const JournalFile& staged, const CommitPlan& plan) {
  const Result<Bytes> content = staged.with_commit(plan, kSmallContentMax);
  if (content && content->empty())
    return false;
  const Status placed = content ? write_commit(*content) : Status(fail(content.error()));
  if (!placed)
    log_info("checkpoint {} is not committed in place: {}", staged.checkpoint(),
             placed.error().message);
  return placed.has_value();
}

Status SmallFiles::write_commit(ByteView content) {
  SLIPWAY_TRY_ASSIGN(const UniqueFd fd, open_made(kCommitName, kSmallCommitSize));
  Status written = pwrite_full(fd.get(), encode_small_commit(content), 0);
  if (written) {
    fault_point("checkpoint-after-record");
    written = sync_data(fd.get(), kCommitName);
  }
  if (written)
    return {};
  // Nobody knows what of it is on the disk. It must not be found there when the commit fails on the
  // other way too.
  if (Status wiped = pwrite_full(fd.get(), zeros(kSmallStartSize), 0); !wiped)
    log_error("'{}' can't be written to: {}", kCommitName, wiped.error().message);
  (void)::fdatasync(fd.get());
  return written;
}

Result<Bytes> SmallFiles::read_content() const {
  SLIPWAY_TRY_ASSIGN(const Bytes start, read_file(directory_, kCommitName, 1));
  if (start.empty() || start[0] == std::byte{0})
    return Bytes();  // the usual case, before each commit
  SLIPWAY_TRY_ASSIGN(const Bytes file, read_file(directory_, kCommitName, kSmallCommitSize));
  const Result<ByteView> content = decode_small_commit(file);
  if (!content)
    return Bytes();  // it was never finished, or has been forgotten
  return Bytes(content->begin(), content->end());
}

Result<std::optional<JournalFile>> SmallFiles::open_commit(const ClientId& client,
                                                           const GroupId& group) const {
  Result<Bytes> content = read_content();
  if (!content && content.error().code == ErrorCode::kNotPermitted) {
    log_warning("a small commit is left alone: {}", content.error().message);
    return std::nullopt;
  }
  if (!content)
    return fail(std::move(content).error());
  const Result<JournalHead> head = head_of(*content);
  if (!head || head->client != client || head->group != group)
    return std::nullopt;
  UniqueFd copy(::memfd_create("small-commit", MFD_CLOEXEC));
  if (!copy)
    return fail_errno(errno, "memfd_create");
  SLIPWAY_TRY(write_full(copy.get(), *content));
  SLIPWAY_TRY_ASSIGN(JournalFile journal, JournalFile::read(std::move(copy), *head));
  if (!journal.plan())
    return std::nullopt;
  return std::optional(std::move(journal));
}

bool SmallFiles::is_committed(const JournalHead& head) const {
  Bytes start(kSmallStartSize + kJournalHeadSize);
  const Result<UniqueFd> fd = open_own(directory_, kCommitName, O_RDONLY);
  if (!fd || pread_full(fd->get(), start, 0).value_or(0) != start.size())
    return false;
  const Result<JournalHead> there = head_of(ByteView(start).subspan(kSmallStartSize));
  return there && *there == head && !read_content().value_or(Bytes()).empty();
}

Status SmallFiles::sync_commit() const {
  return sync_file_of(directory_, kCommitName);
}

Status SmallFiles::sync_applied() const {
  return sync_file_of(directory_, kAppliedName);
}

void SmallFiles::forget_commit() {
  const Result<UniqueFd> fd = open_own(directory_, kCommitName, O_RDWR);
  if (fd)
    (void)pwrite_full(fd->get(), zeros(kSmallStartSize), 0);
}

Status SmallFiles::copy_commit(const std::string& name) const {
  SLIPWAY_TRY_ASSIGN(const Bytes content, read_content());
  SLIPWAY_TRY_ASSIGN(const UniqueFd fd, open_own(directory_, name, O_RDWR | O_CREAT | O_TRUNC));
  SLIPWAY_TRY(write_full(fd.get(), content));
  if (::fsync(fd.get()) != 0 || ::fsync(directory_) != 0)
    return fail_errno(errno, "fsync of '{}'", name);
  return {};
}

Result<AppliedRecord> SmallFiles::read_applied() const {
  Result<Slots> slots = read_slots(directory_);
  if (!slots && slots.error().code == ErrorCode::kNotPermitted) {
    log_warning("what was applied is not known: {}", slots.error().message);
    return AppliedRecord{};
  }
  if (!slots)
    return fail(std::move(slots).error());
  AppliedRecord& latest = slots->records[slots->latest()];
  // One that is torn beside one that is not is what a power cut leaves.
  if (latest.checkpoint == 0 && (slots->is_damaged[0] || slots->is_damaged[1]))
    log_error("a journal does not know any more what was applied in small commits");
  return std::move(latest);
}

bool SmallFiles::write_applied(const AppliedRecord& record) {
  const Bytes slot = encode_applied_slot(record);
  if (slot.empty())
    return false;
  const Status written = [&]() -> Status {
    SLIPWAY_TRY_ASSIGN(const UniqueFd fd, open_made(kAppliedName, kSmallAppliedSize));
    SLIPWAY_TRY_ASSIGN(const Slots slots, read_slots(directory_));
    SLIPWAY_TRY(pwrite_full(fd.get(), slot, (1 - slots.latest()) * kSmallAppliedSlot));
    fault_point("checkpoint-applied-written");
    return sync_data(fd.get(), kAppliedName);
  }();
  if (!written)
    log_info("checkpoint {} is not noted in place: {}", record.checkpoint,
             written.error().message);
  return written.has_value();
}

}  // namespace slipway
