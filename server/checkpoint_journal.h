#pragma once

#include "base/bytes.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "server/checkpoint_format.h"

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <sys/types.h>

namespace slipway {

/// One journal file: the staged parts of a checkpoint and, once it is committed, the plan of what
/// to do with them. Append-only. Owns its descriptor and an index of its parts; one thread at a
/// time, under its group's lock.
class JournalFile {
 public:
  static constexpr std::uint64_t kBytesMax = std::uint64_t{1} << 30;  ///< of one checkpoint

  /// Made anew as `name`; kExists when it is there.
  static Result<JournalFile> create(int directory, const std::string& name,
                                    const JournalHead& head);

  /// Reads all of it. What follows the last intact record is left out of the index: a crash tore
  /// it, or it is damaged. kNotFound; kCorrupt: not the journal of `head`; kNotPermitted: no file
  /// to be believed.
  static Result<JournalFile> open(int directory, const std::string& name, const JournalHead& head);

  /// As open(), of an open file, for tests.
  static Result<JournalFile> read(UniqueFd fd, const JournalHead& head);

  bool has(std::uint32_t part) const { return parts_.contains(part); }

  /// Whether a part was staged with these very bytes.
  bool is_part(std::uint32_t part, ByteView body) const;

  std::uint64_t checkpoint() const noexcept { return head_.checkpoint; }

  /// The last record, if that is a commit.
  const std::optional<CommitPlan>& plan() const noexcept { return plan_; }

  /// Whether anything follows what is in the index.
  bool has_torn_end() const noexcept { return has_torn_end_; }

  /// Whether `name` in `directory` is this file, as long as this knows it to be.
  bool is_current(int directory, const std::string& name) const;

  /// Cuts off a torn end, or a commit that was never placed.
  Status make_appendable();

  /// `body`: the encoded request. Not durable before append_commit(). kFileTooBig past kBytesMax;
  /// at an error the file is as before.
  Status append_part(std::uint32_t part, ByteView body);

  /// Makes all of it durable.
  Status append_commit(const CommitPlan& plan);

  /// What the whole file would be with this commit, which is not appended; nothing when that is
  /// more than `max` bytes.
  Result<Bytes> with_commit(const CommitPlan& plan, std::size_t max) const;

  /// Parts 0 .. parts - 1 in order; `use` gets views that last for its call. kCorrupt for a missing
  /// or damaged part: what is damaged, and what follows it in the file, is then no longer in the
  /// index and may be staged again after make_appendable().
  using UsePart = std::function<Status(const StageRequest& part)>;
  Status for_each_part(std::uint32_t parts, const UsePart& use);

 private:
  struct Place {
    std::uint64_t offset = 0;  ///< of the whole record
    std::uint64_t size = 0;
  };

  JournalFile(UniqueFd fd, const JournalHead& head) : fd_(std::move(fd)), head_(head) {}

  Status scan();
  Result<Bytes> read_record(const Place& place) const;
  Status append(const Bytes& record);
  void forget_from(std::uint64_t offset);

  UniqueFd fd_;
  JournalHead head_;
  std::map<std::uint32_t, Place> parts_;
  std::optional<CommitPlan> plan_;
  std::uint64_t parts_end_ = 0;  ///< bytes of head and intact parts
  std::uint64_t end_ = 0;        ///< with the commit
  bool has_torn_end_ = false;
};

/// A regular file with one name (or none: it was just replaced) that belongs to this user and that
/// nobody else may write to, or a directory of this kind; else kNotPermitted.
Status check_own(int fd, mode_t type);

/// Opens a file of the journal and believes it only so.
Result<UniqueFd> open_own(int directory, const std::string& name, int flags);

}  // namespace slipway
