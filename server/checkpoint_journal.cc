#include "server/checkpoint_journal.h"

#include "base/log.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace slipway {

namespace {

Result<std::uint64_t> size_of(int fd) {
  struct stat info {};

  if (::fstat(fd, &info) != 0)
    return fail_errno(errno, "fstat of a journal");
  return static_cast<std::uint64_t>(info.st_size);
}

Status truncate_to(int fd, std::uint64_t size) {
  if (::ftruncate(fd, static_cast<off_t>(size)) != 0)
    return fail_errno(errno, "ftruncate of a journal");
  return {};
}

}  // namespace

Status check_own(int fd, mode_t type) {
  struct stat info {};

  if (::fstat(fd, &info) != 0)
    return fail_errno(errno, "fstat");
  const bool is_own = (info.st_mode & S_IFMT) == type && info.st_uid == ::geteuid() &&
                      (info.st_mode & (S_IWGRP | S_IWOTH)) == 0 &&
                      (type == S_IFDIR || info.st_nlink <= 1);
  if (!is_own)
    return fail(ErrorCode::kNotPermitted,
                "not believed: it must belong to user {}, have one name and be writable by nobody "
                "else",
                ::geteuid());
  return {};
}

Result<UniqueFd> open_own(int directory, const std::string& name, int flags) {
  const bool is_directory = (flags & O_DIRECTORY) != 0;
  UniqueFd fd(::openat(directory, name.c_str(),
                       flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600));
  if (!fd && (errno == ELOOP || errno == ENOTDIR))
    return fail(ErrorCode::kNotPermitted, "'{}' of the journal is a link, or no {}", escape(name),
                is_directory ? "directory" : "file");
  if (!fd)
    return fail_errno(errno, "'{}' of the journal", escape(name));
  if (Status own = check_own(fd.get(), is_directory ? S_IFDIR : S_IFREG); !own)
    return fail(ErrorCode::kNotPermitted, "'{}' of the journal: {}", escape(name),
                own.error().message);
  return fd;
}

Result<JournalFile> JournalFile::create(int directory, const std::string& name,
                                        const JournalHead& head) {
  SLIPWAY_TRY_ASSIGN(UniqueFd fd, open_own(directory, name, O_RDWR | O_CREAT | O_EXCL));
  JournalFile file(std::move(fd), head);
  Bytes bytes;
  encode(bytes, head);
  if (Status written = pwrite_full(file.fd_.get(), bytes, 0); !written) {
    ::unlinkat(directory, name.c_str(), 0);
    return fail(std::move(written).error());
  }
  file.parts_end_ = file.end_ = bytes.size();
  return file;
}

Result<JournalFile> JournalFile::open(int directory, const std::string& name,
                                      const JournalHead& head) {
  SLIPWAY_TRY_ASSIGN(UniqueFd fd, open_own(directory, name, O_RDWR));
  return read(std::move(fd), head);
}

Result<JournalFile> JournalFile::read(UniqueFd fd, const JournalHead& head) {
  JournalFile file(std::move(fd), head);
  SLIPWAY_TRY(file.scan());
  return file;
}

Status JournalFile::scan() {
  SLIPWAY_TRY_ASSIGN(const std::uint64_t size, size_of(fd_.get()));
  Bytes head(kJournalHeadSize);
  SLIPWAY_TRY_ASSIGN(const std::size_t got, pread_full(fd_.get(), head, 0));
  if (got != head.size())
    return fail(ErrorCode::kCorrupt, "a journal without a head");
  SLIPWAY_TRY_ASSIGN(const JournalHead found, decode_journal_head(head));
  if (!(found == head_))
    return fail(ErrorCode::kCorrupt, "the journal of another checkpoint");
  parts_end_ = end_ = kJournalHeadSize;
  while (!plan_ && size - end_ >= kRecordStartSize + kRecordEndSize) {
    Bytes start_bytes(kRecordStartSize);
    SLIPWAY_TRY(pread_full(fd_.get(), start_bytes, end_));
    const Result<RecordStart> start = decode_record_start(start_bytes);
    if (!start)
      break;
    const Place place{end_, kRecordStartSize + start->length + kRecordEndSize};
    if (place.size > size - end_)
      break;
    Result<Bytes> body = read_record(place);
    if (!body && body.error().code == ErrorCode::kCorrupt)
      break;
    if (!body)
      return fail(std::move(body).error());
    end_ += place.size;
    if (start->kind == JournalRecordKind::kPart) {
      parts_.emplace(start->part, place);
      parts_end_ = end_;
      continue;
    }
    Result<CommitPlan> plan = decode_commit_plan(*body);
    if (!plan || plan->request.group != head_.group ||
        plan->request.checkpoint != head_.checkpoint) {
      end_ = place.offset;
      break;
    }
    plan_ = std::move(*plan);
  }
  has_torn_end_ = end_ != size;
  return {};
}

Result<Bytes> JournalFile::read_record(const Place& place) const {
  Bytes record(static_cast<std::size_t>(place.size));
  SLIPWAY_TRY_ASSIGN(const std::size_t got, pread_full(fd_.get(), record, place.offset));
  record.resize(got);
  SLIPWAY_TRY_ASSIGN(const ByteView body, decode_record(record, head_.checkpoint));
  const std::size_t length = body.size();
  record.erase(record.begin(), record.begin() + kRecordStartSize);
  record.resize(length);
  return record;
}

bool JournalFile::is_part(std::uint32_t part, ByteView body) const {
  const auto found = parts_.find(part);
  if (found == parts_.end())
    return false;
  const Result<Bytes> staged = read_record(found->second);
  return staged && std::equal(staged->begin(), staged->end(), body.begin(), body.end());
}

bool JournalFile::is_current(int directory, const std::string& name) const {
  struct stat there {};

  struct stat here {};

  return ::fstatat(directory, name.c_str(), &there, AT_SYMLINK_NOFOLLOW) == 0 &&
         ::fstat(fd_.get(), &here) == 0 && there.st_dev == here.st_dev &&
         there.st_ino == here.st_ino && static_cast<std::uint64_t>(here.st_size) == end_;
}

Status JournalFile::make_appendable() {
  if (!has_torn_end_ && !plan_)
    return {};
  SLIPWAY_TRY(truncate_to(fd_.get(), parts_end_));
  plan_.reset();
  end_ = parts_end_;
  has_torn_end_ = false;
  return {};
}

Status JournalFile::append_part(std::uint32_t part, ByteView body) {
  const Bytes record = encode_record(JournalRecordKind::kPart, part, body, head_.checkpoint);
  const Place place{end_, record.size()};
  if (place.offset + place.size > kBytesMax)
    return fail(ErrorCode::kFileTooBig, "a checkpoint of more than {} bytes", kBytesMax);
  SLIPWAY_TRY(append(record));
  parts_end_ = end_;
  parts_.emplace(part, place);
  // The commit shall not have to wait for all of it. What is small goes another way to the disk.
  if (end_ <= kSmallContentMax)
    return {};
  const std::uint64_t from = place.offset <= kSmallContentMax ? 0 : place.offset;
  (void)::sync_file_range(fd_.get(), static_cast<off64_t>(from), static_cast<off64_t>(end_ - from),
                          SYNC_FILE_RANGE_WRITE);
  return {};
}

Result<Bytes> JournalFile::with_commit(const CommitPlan& plan, std::size_t max) const {
  if (parts_end_ > max)
    return Bytes();
  Bytes body;
  encode(body, plan);
  const Bytes record = encode_record(JournalRecordKind::kCommit, 0, body, head_.checkpoint);
  if (record.size() > max - parts_end_)
    return Bytes();
  Bytes whole(static_cast<std::size_t>(parts_end_));
  SLIPWAY_TRY_ASSIGN(const std::size_t got, pread_full(fd_.get(), whole, 0));
  if (got != whole.size())
    return fail(ErrorCode::kIo, "a journal has become shorter");
  slipway::append(whole, record);
  return whole;
}

Status JournalFile::append_commit(const CommitPlan& plan) {
  Bytes body;
  encode(body, plan);
  if (body.size() > kRecordBodyMax)
    return fail(ErrorCode::kFileTooBig, "a commit of {} bytes", body.size());
  SLIPWAY_TRY(append(encode_record(JournalRecordKind::kCommit, 0, body, head_.checkpoint)));
  plan_ = plan;
  if (::fdatasync(fd_.get()) == 0)
    return {};
  const int error = errno;
  SLIPWAY_TRY(make_appendable());
  return fail_errno(error, "fdatasync of a journal");
}

Status JournalFile::append(const Bytes& record) {
  Status written = pwrite_full(fd_.get(), record, end_);
  if (!written) {
    // When even that fails the end is torn, which the next one to read it sees.
    has_torn_end_ = !truncate_to(fd_.get(), end_);
    return written;
  }
  end_ += record.size();
  return {};
}

void JournalFile::forget_from(std::uint64_t offset) {
  std::erase_if(parts_, [&](const auto& part) { return part.second.offset >= offset; });
  parts_end_ = end_ = offset;
  plan_.reset();
  has_torn_end_ = true;
}

Status JournalFile::for_each_part(std::uint32_t parts, const UsePart& use) {
  for (std::uint32_t number = 0; number < parts; ++number) {
    const auto found = parts_.find(number);
    if (found == parts_.end())
      return fail(ErrorCode::kCorrupt, "part {} of {} is not there", number, parts);
    Result<Bytes> body = read_record(found->second);
    if (!body && body.error().code != ErrorCode::kCorrupt)
      return fail(std::move(body).error());
    const Result<StageRequest> part =
        body ? decode_stage_request(*body) : Result<StageRequest>(fail(body.error()));
    if (!part || part->part != number || part->group != head_.group ||
        part->checkpoint != head_.checkpoint) {
      forget_from(found->second.offset);
      return fail(ErrorCode::kCorrupt, "part {} of {} is damaged", number, parts);
    }
    SLIPWAY_TRY(use(*part));
  }
  return {};
}

}  // namespace slipway
