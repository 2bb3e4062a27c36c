#pragma once

#include "base/guarded.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "writelog/log_records.h"

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_set>

namespace slipway {

class LogSegment;

/// Where the data of one record lies. Whoever keeps it keeps the segment, and with it (segments go
/// oldest first) everything that was logged later.
struct LogData {
  std::shared_ptr<LogSegment> segment;  ///< owners: the log, unsent changes, readers under way
  std::uint64_t position = 0;           ///< of the data in the segment's file
  std::uint32_t length = 0;             ///< bytes, of the whole record's data
  std::uint64_t checksum = 0;           ///< of the whole record's data

  friend bool operator==(const LogData&, const LogData&) = default;
};

/// One file of the write log. What was appended never changes. Any thread.
class LogSegment {
 public:
  LogSegment(UniqueFd fd, std::string path, const LogSegmentHeader& header,
             std::uint64_t verified_from)
      : fd_(std::move(fd)),
        path_(std::move(path)),
        header_(header),
        record_seed_(log_record_seed(header)),
        verified_from_(verified_from) {}

  LogSegment(const LogSegment&) = delete;
  LogSegment& operator=(const LogSegment&) = delete;

  std::uint64_t number() const noexcept { return header_.number; }

  const LogSegmentHeader& header() const noexcept { return header_; }

  std::uint64_t record_seed() const noexcept { return record_seed_; }

  const std::string& path() const noexcept { return path_; }

  /// For pread and splice of data that check() or read() found right.
  int fd() const noexcept { return fd_.get(); }

  /// Bytes [from, from + out.size()) of a record's data. The first use of a record that an earlier
  /// process wrote checks all of it. kCorrupt: damaged, or unreadable.
  Status read(const LogData& data, std::uint32_t from, MutableBytes out);

  /// That check alone.
  Status check(const LogData& data);

  /// This process goes on writing at `position`. Before the segment is shared.
  void set_verified_from(std::uint64_t position) noexcept { verified_from_ = position; }

  /// The data at `position` is known to be right (recovery has read it).
  void set_verified(std::uint64_t position);

 private:
  bool is_verified(std::uint64_t position);
  Result<Bytes> read_checked(const LogData& data);
  Result<std::size_t> read_bytes(MutableBytes out, std::uint64_t position);

  const UniqueFd fd_;
  const std::string path_;
  const LogSegmentHeader header_;
  const std::uint64_t record_seed_;
  std::uint64_t verified_from_;  ///< from here on written by this process: nothing to check
  Guarded<std::unordered_set<std::uint64_t>> verified_positions_;
};

/// Same as data.segment->read(data, from, out).
inline Status read_log_data(const LogData& data, std::uint32_t from, MutableBytes out) {
  return data.segment->read(data, from, out);
}

}  // namespace slipway
