#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "writelog/log_file_ops.h"
#include "writelog/log_segment.h"

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace slipway {

/// What the name of a file in the log's directory says.
struct LogFileName {
  enum class Kind { kSegment, kSpare, kDamaged, kUnsynced, kOther } kind = Kind::kOther;
  std::uint64_t number = 0;
};

LogFileName parse_log_file_name(const std::string& name);
std::string segment_file_name(std::uint64_t number);

/// The files of the log's directory: makes, recycles and removes segments and knows how much room
/// all of them take. Not thread-safe.
class SegmentSet {
 public:
  static constexpr std::size_t kSparesMax = 2;

  /// Makes the directory if it is missing and locks it against others (kBusy).
  static Result<SegmentSet> open(const std::string& directory, std::uint64_t segment_size,
                                 std::uint64_t size_max, std::shared_ptr<LogFileOps> ops);

  /// All names, sorted.
  Result<std::vector<std::string>> list() const;

  std::string path_of(const std::string& name) const { return directory_ + "/" + name; }

  int directory_fd() const noexcept { return directory_fd_.get(); }

  /// A file that is there counts from now on.
  void add_bytes(std::uint64_t bytes) noexcept { bytes_ += bytes; }

  void subtract_bytes(std::uint64_t bytes) noexcept { bytes_ -= bytes; }

  /// Takes a file that holds nothing of value: as a spare if it fits, else it is removed. It must
  /// not have been counted. A spare is not used before the directory was synced: a power cut could
  /// give it its old name back, and then it must have its old content.
  Status add_spare(const std::string& name);

  /// A new segment of `header.size` bytes with its header written. `beyond` allows for one more
  /// than size_max. kNoSpace, kIo: nothing is left of it.
  Result<std::shared_ptr<LogSegment>> make(const LogSegmentHeader& header, bool beyond);

  /// A counted segment that nobody needs: becomes a spare or is removed.
  Status retire(std::uint64_t number);

  /// The spares that wait for that. The caller syncs the directory and gives them back.
  std::vector<std::string> take_unsettled() { return std::exchange(unsettled_, {}); }
  void settle(std::vector<std::string> spares);

  /// From now on remove(), rename() and link() do nothing, and say that they did.
  void leave_names_alone() noexcept { leaves_names_alone_ = true; }

  Status remove(const std::string& name);
  Status rename(const std::string& from, const std::string& to);
  /// A second name for a file, so that it outlives the first one. Fine if it is there already.
  Status link(const std::string& name, const std::string& other);

  std::uint64_t bytes() const noexcept { return bytes_; }

  std::uint64_t size_max() const noexcept { return size_max_; }

  std::uint64_t segment_size() const noexcept { return segment_size_; }

  bool is_over() const noexcept { return bytes_ > size_max_; }

 private:
  SegmentSet(std::string directory, UniqueFd directory_fd, std::uint64_t segment_size,
             std::uint64_t size_max, std::shared_ptr<LogFileOps> ops)
      : directory_(std::move(directory)),
        directory_fd_(std::move(directory_fd)),
        segment_size_(segment_size),
        size_max_(size_max),
        ops_(std::move(ops)) {}

  Result<UniqueFd> make_file(const std::string& name);

  std::string directory_;
  UniqueFd directory_fd_;
  std::uint64_t segment_size_;
  std::uint64_t size_max_;
  std::shared_ptr<LogFileOps> ops_;
  std::uint64_t bytes_ = 0;          ///< counted files, spares too
  std::vector<std::string> spares_;     ///< names; each of segment_size_ bytes
  std::vector<std::string> unsettled_;  ///< spares whose names may not be on the disk yet
  bool leaves_names_alone_ = false;
};

/// Writes all parts at `offset`, through EINTR and short counts. kNoSpace, kIo.
Status write_parts(LogFileOps& ops, int fd, std::vector<iovec> parts, std::uint64_t offset);

}  // namespace slipway
