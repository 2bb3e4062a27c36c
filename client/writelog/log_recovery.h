#pragma once

#include "base/result.h"
#include "writelog/segment_set.h"
#include "writelog/write_log.h"

#include <cstdint>
#include <deque>
#include <map>
#include <memory>

namespace slipway {

/// A log as it was found: what WriteLog goes on with.
struct RecoveredLog {
  LogId id{};
  std::deque<std::shared_ptr<LogSegment>> segments;  ///< oldest first
  bool can_continue = false;  ///< the last segment may be appended to, at `tail`
  std::uint64_t tail = 0;     ///< where its records end
  std::uint64_t next_sequence = 1;
  std::uint64_t synced = 0;       ///< records up to this one are known to have been synced
  std::uint64_t next_number = 1;  ///< of a segment; never used before
  std::uint64_t next_file = 1;
  std::map<std::uint64_t, LogFile> files;
  LogRecovery report;
};

/// Reads the log in `set` and hands its longest valid prefix to the visitor. What follows a gap or
/// a bad record is set aside: as `damaged-*` files if some of it had been synced, else as
/// `unsynced-*` ones, which the next recovery removes. kVersionMismatch, kIo: nothing was changed.
Result<RecoveredLog> recover_log(SegmentSet& set, LogVisitor& visitor);

}  // namespace slipway
