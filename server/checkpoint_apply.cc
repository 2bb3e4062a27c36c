#include "server/checkpoint_apply.h"

#include "base/fault_point.h"
#include "base/log.h"
#include "wire/compression.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace slipway {

namespace {

Status write_zeros(int fd, const ByteRange& range) {
  static const Bytes kZeros = [] {
    Bytes zeros(kBlockSize);
    std::fill(zeros.begin(), zeros.end(), std::byte{0});
    return zeros;
  }();
  for (std::uint64_t at = range.offset; at < range.end();) {
    const auto length =
        static_cast<std::size_t>(std::min<std::uint64_t>(kZeros.size(), range.end() - at));
    SLIPWAY_TRY(pwrite_full(fd, ByteView(kZeros).first(length), at));
    at += length;
  }
  return {};
}

// Zeros by the file system's own means where it has them.
Status make_zero(int fd, const ByteRange& range, int mode) {
  if (range.empty())
    return {};
  int made = 0;
  do {
    made = ::fallocate(fd, mode | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(range.offset),
                       static_cast<off_t>(range.length));
  } while (made != 0 && errno == EINTR);
  if (made == 0)
    return {};
  if (errno != EOPNOTSUPP && errno != ENOSYS && errno != EINVAL)
    return fail_errno(errno, "fallocate");
  return write_zeros(fd, range);
}

// Best effort: that space is kept is a promise of the file system, not of content.
void allocate(int fd, const StageExtent& extent) {
  const int made = ::fallocate(fd, FALLOC_FL_KEEP_SIZE, static_cast<off_t>(extent.offset),
                               static_cast<off_t>(extent.length));
  if (made != 0)
    log_info("{} bytes could not be allocated: {}", extent.length,
             system_error(errno, "fallocate").message);
}

Status truncate_to(int fd, std::uint64_t size) {
  int done = 0;
  do {
    done = ::ftruncate(fd, static_cast<off_t>(size));
  } while (done != 0 && errno == EINTR);
  if (done != 0)
    return fail_errno(errno, "ftruncate");
  return {};
}

Error as_damage(Error error) {
  error.code = ErrorCode::kCorrupt;
  return error;
}

/// Applies one plan; remembers what each file came to.
class PlanRun {
 public:
  PlanRun(const CommitPlan& plan, std::vector<CheckpointTarget>& targets)
      : plan_(plan), targets_(targets) {}

  Status begin() {
    for (std::size_t i = 0; i < targets_.size(); ++i)
      if (has_content(i))
        SLIPWAY_TRY(note(i, begin_file(targets_[i].fd, file(i))));
    return {};
  }

  Status extent(const StageExtent& extent, ByteView stored) {
    if (!has_content(extent.file))
      return {};
    fault_point("checkpoint-between-extents");
    return note(extent.file, apply_extent(targets_[extent.file].fd, extent, stored,
                                          file(extent.file).size, scratch_));
  }

  Status finish() {
    for (std::size_t i = 0; i < targets_.size(); ++i) {
      if (!has_content(i))
        continue;
      SLIPWAY_TRY(note(i, begin_to_finish_file(targets_[i].fd, file(i))));
      if (targets_.size() > 1)  // a hint: the disk works on all while the first is waited for
        (void)::sync_file_range(targets_[i].fd, 0, 0, SYNC_FILE_RANGE_WRITE);
    }
    for (std::size_t i = 0; i < targets_.size(); ++i) {
      if (!has_content(i))
        continue;
      SLIPWAY_TRY(note(i, sync_file(targets_[i].fd)));
      fault_point("checkpoint-between-files");
    }
    return {};
  }

  Result<CommitReply> reply(DirectoryStore& store) {
    CommitReply reply;
    for (std::size_t i = 0; i < targets_.size(); ++i) {
      CommitResult& result = reply.files.emplace_back();
      result.conflict_name = plan_.outcomes[i].conflict_name;
      if (is_good(i)) {
        SLIPWAY_TRY(note(i, take_attributes(i, store, result)));
      }
      result.status = plan_.outcomes[i].status != 0 ? plan_.outcomes[i].status : targets_[i].status;
    }
    return reply;
  }

 private:
  const CommitFile& file(std::size_t i) const { return plan_.request.files[i]; }

  bool is_good(std::size_t i) const {
    return plan_.outcomes[i].status == 0 && targets_[i].status == 0;
  }

  bool has_content(std::size_t i) const { return is_good(i) && !is_made_directory(file(i)); }

  // A local process of the server may have cut it in between: what is there then is not what was
  // committed, and its client must not go on as if it were.
  Status take_attributes(std::size_t i, DirectoryStore& store, CommitResult& result) const {
    SLIPWAY_TRY_ASSIGN(result.attributes, store.attributes_of_fd(targets_[i].fd));
    if (!is_made_directory(file(i)) && result.attributes.version.size != file(i).size)
      return fail(ErrorCode::kStale, "its size has changed while it was written");
    return {};
  }

  Status note(std::size_t i, Status done) {
    return note_failure(file(i), targets_[i], std::move(done));
  }

  const CommitPlan& plan_;
  std::vector<CheckpointTarget>& targets_;
  Bytes scratch_;
};

}  // namespace

Status begin_file(int fd, const CommitFile& file) {
  struct stat info {};

  if (file.keep < file.base.size)
    SLIPWAY_TRY(truncate_to(fd, file.keep));
  if (::fstat(fd, &info) != 0)
    return fail_errno(errno, "fstat");
  if (static_cast<std::uint64_t>(info.st_size) != file.size)
    return truncate_to(fd, file.size);
  return {};
}

Status apply_extent(int fd, const StageExtent& extent, ByteView stored, std::uint64_t size,
                    Bytes& scratch) {
  const ByteRange range = clamp_to_size({extent.offset, extent.length}, size);
  const auto length = static_cast<std::size_t>(range.length);
  switch (extent.kind) {
    case StageKind::kData:
      if (stored.size() != extent.length)
        return fail(ErrorCode::kCorrupt, "an extent without its data");
      return pwrite_full(fd, stored.first(length), range.offset);
    case StageKind::kZstd: {
      scratch.resize(static_cast<std::size_t>(extent.length));
      if (Status content = decompress_unit(stored, scratch); !content)
        return fail(as_damage(std::move(content).error()));
      return pwrite_full(fd, ByteView(scratch).first(length), range.offset);
    }
    case StageKind::kZero:
      return make_zero(fd, range, FALLOC_FL_ZERO_RANGE);
    case StageKind::kHole:
      return make_zero(fd, range, FALLOC_FL_PUNCH_HOLE);
    case StageKind::kAllocate:
      allocate(fd, extent);
      return {};
  }
  return fail(ErrorCode::kCorrupt, "an extent of unknown kind");
}

Status finish_file(int fd, const CommitFile& file) {
  SLIPWAY_TRY(begin_to_finish_file(fd, file));
  return sync_file(fd);
}

Status begin_to_finish_file(int fd, const CommitFile& file) {
  const struct timespec times[2] = {
      {0, UTIME_OMIT},
      {static_cast<time_t>(file.mtime.seconds), static_cast<long>(file.mtime.nanoseconds)}};
  if (::futimens(fd, times) != 0 && errno != EPERM && errno != EACCES)
    return fail_errno(errno, "futimens");
  return {};
}

Status sync_file(int fd) {
  if (::fsync(fd) != 0)
    return fail_errno(errno, "fsync");
  return {};
}

Status for_each_extent(const StageRequest& part, const UseExtent& use) {
  ByteView data = part.data;
  for (const StageExtent& extent : part.extents) {
    if (extent.stored > data.size())
      return fail(ErrorCode::kCorrupt, "a part without its data");
    SLIPWAY_TRY(use(extent, data.first(extent.stored)));
    data = data.subspan(extent.stored);
  }
  return {};
}

Result<CommitReply> apply_plan(const CommitPlan& plan, JournalFile& journal,
                               std::vector<CheckpointTarget>& targets, CheckpointMakes& makes,
                               DirectoryStore& store) {
  PlanRun run(plan, targets);
  SLIPWAY_TRY(makes.begin(targets));
  SLIPWAY_TRY(run.begin());
  SLIPWAY_TRY(journal.for_each_part(plan.request.parts, [&](const StageRequest& part) {
    return for_each_extent(part, [&](const StageExtent& extent, ByteView stored) {
      return run.extent(extent, stored);
    });
  }));
  SLIPWAY_TRY(run.finish());
  SLIPWAY_TRY(makes.place(targets));
  SLIPWAY_TRY(makes.finish(targets));
  return run.reply(store);
}

}  // namespace slipway
