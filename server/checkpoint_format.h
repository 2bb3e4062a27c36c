#pragma once

#include "base/bytes.h"
#include "base/result.h"
#include "wire/write_messages.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace slipway {

// The bytes of a redo journal (docs/journal-format.md). Pure functions; whatever is not exactly
// right is kCorrupt.
//
//   journal file: head, records;   record: start, body, checksum
//   applied file: one checkpoint and the reply to its commit
//   small commit: start, a journal file;   small applied: two slots, an applied file in each

using ClientId = std::array<std::byte, 16>;

/// What a journal file is of. It must agree with the names of the file and its directory.
struct JournalHead {
  ClientId client{};
  GroupId group{};
  std::uint64_t checkpoint = 0;

  friend bool operator==(const JournalHead&, const JournalHead&) = default;
};

inline constexpr std::size_t kJournalHeadSize = 8 + 2 + 2 + 16 + 16 + 8 + 8;  ///< bytes

void encode(Bytes& to, const JournalHead& head);
Result<JournalHead> decode_journal_head(ByteView bytes);

enum class JournalRecordKind : std::uint8_t {
  kPart = 1,    ///< body: an encoded StageRequest
  kCommit = 2,  ///< body: an encoded CommitPlan; the last record
};

struct RecordStart {
  JournalRecordKind kind = JournalRecordKind::kPart;
  std::uint32_t part = 0;
  std::uint64_t length = 0;  ///< bytes of the body, at most kRecordBodyMax
};

inline constexpr std::size_t kRecordStartSize = 1 + 3 + 4 + 8;  ///< bytes
inline constexpr std::size_t kRecordEndSize = 8;                ///< bytes: the checksum
inline constexpr std::size_t kRecordBodyMax = 2 * kFrameMax;    ///< bytes

/// A whole record. The checksum depends on the checkpoint too.
Bytes encode_record(JournalRecordKind kind, std::uint32_t part, ByteView body,
                    std::uint64_t checkpoint);

/// The first kRecordStartSize bytes of a record, before its checksum is known.
Result<RecordStart> decode_record_start(ByteView bytes);

/// The body of a whole record, as long as its start says.
Result<ByteView> decode_record(ByteView bytes, std::uint64_t checkpoint);

/// A directory that gets its name by the commit; it has no content.
inline bool is_made_directory(const CommitFile& file) noexcept {
  return file.make && file.make->kind == MakeKind::kDirectory;
}

/// Whether an extent's file is one of the request, and has content.
inline bool is_for_content(const CommitRequest& request, const StageExtent& extent) noexcept {
  return extent.file < request.files.size() && !is_made_directory(request.files[extent.file]);
}

/// What was decided of one file before anything was applied.
struct PlannedOutcome {
  std::uint32_t status = 0;   ///< 0: it is applied; else an ErrorCode
  std::string conflict_name;  ///< the copy that holds its writes, already made; "": none
  bool is_taken = false;  ///< of a directory to be made: one is there, which is taken for it

  friend bool operator==(const PlannedOutcome&, const PlannedOutcome&) = default;
};

/// A commit with what is to be done about each file: applying it again does the same.
struct CommitPlan {
  CommitRequest request;
  std::vector<PlannedOutcome> outcomes;  ///< one per file
};

void encode(Bytes& to, const CommitPlan& plan);
Result<CommitPlan> decode_commit_plan(ByteView body);

/// The last checkpoint of a group that was applied, and what was answered.
struct AppliedRecord {
  std::uint64_t checkpoint = 0;  ///< 0: none yet
  CommitReply reply;
};

inline constexpr std::size_t kAppliedMax = kFrameMax;  ///< bytes of the file

Bytes encode_applied(const AppliedRecord& record);
Result<AppliedRecord> decode_applied(ByteView bytes);

// Files that are made once and written over in place (checkpoint_small.h).

inline constexpr std::size_t kSmallStartSize = 8 + 2 + 2 + 4 + 8;  ///< bytes before the content
inline constexpr std::size_t kSmallCommitSize = 128 * 1024;        ///< bytes of the file
inline constexpr std::size_t kSmallContentMax = kSmallCommitSize - kSmallStartSize;  ///< bytes
inline constexpr std::size_t kSmallAppliedSlot = 4096;                  ///< bytes of one record
inline constexpr std::size_t kSmallAppliedSize = 2 * kSmallAppliedSlot;  ///< bytes of the file

/// `content`: a whole journal file with its commit, at most kSmallContentMax bytes.
Bytes encode_small_commit(ByteView content);

/// The content; `bytes` may go on behind it.
Result<ByteView> decode_small_commit(ByteView bytes);

/// As long as a slot; empty when the record does not fit.
Bytes encode_applied_slot(const AppliedRecord& record);

/// Checkpoint 0: nothing was ever written there.
Result<AppliedRecord> decode_applied_slot(ByteView slot);

}  // namespace slipway
