#pragma once

#include "base/bytes.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "wire/frame.h"
#include "wire/write_messages.h"

#include <cstdint>
#include <map>
#include <optional>
#include <string>

namespace slipway {

/// How a change ended, without its frame: a body, or an error.
struct OperationResult {
  std::uint32_t status = 0;  ///< 0, or an ErrorCode
  Bytes body;                ///< of the reply; of an error: its message

  friend bool operator==(const OperationResult&, const OperationResult&) = default;
};

/// One line of the file. Kinds and their numbers:
///   1 intent     the operation is about to run; data: what tells later whether it did
///   2 result     it has run; status and data: the result
///   3 withdrawn  as if it had never been sent
///   4 boot       what follows was written since this start of the machine; data: its name
///   5 floor      no operation up to this one is known here any more
struct OperationRecord {
  enum class Kind : std::uint8_t { kIntent = 1, kResult, kWithdrawn, kBoot, kFloor };

  Kind kind = Kind::kIntent;
  OperationId operation = 0;
  MessageType type = MessageType::kPing;
  std::uint32_t status = 0;
  Bytes data;
};

/// What is known of one operation.
struct OperationEntry {
  MessageType type = MessageType::kPing;
  std::optional<Bytes> intent;
  std::optional<OperationResult> result;
};

/// The file `ops` of a client and what it says. All integers are little-endian:
///   16 bytes  0a "SLIPWAY-OPS 1" 0a 0a
///   records:  u32 length of the payload, u64 XXH3-64 of the payload,
///             payload: u8 kind, u64 operation, u16 type, u32 status, data
/// A record that is cut off or does not verify ends the file: what follows is cut away. Several
/// processes may append; each calls refresh() under their common lock first. One thread at a time.
class OperationFile {
 public:
  /// `directory`: an open directory; the file in it is made when it is not there. `boot` names this
  /// start of the machine.
  static Result<OperationFile> open(UniqueFd directory, std::string boot);

  /// Reads what other processes appended, or the file that took its place. REQUIRES: the lock.
  Status refresh();

  /// All or nothing. REQUIRES: the lock, and refresh() under it.
  Status append(const OperationRecord& record);

  /// Begins the file anew with the `kept_max` latest operations. REQUIRES: as append().
  Status compact(std::size_t kept_max);

  const OperationEntry* find(OperationId operation) const;

  /// No operation up to this one is known any more.
  OperationId floor() const noexcept { return floor_; }

  std::size_t size() const noexcept { return size_; }

  /// After the last compact().
  std::size_t size_kept() const noexcept { return size_kept_; }

 private:
  OperationFile(UniqueFd directory, std::string boot)
      : directory_(std::move(directory)), boot_(std::move(boot)) {}

  Status read_on();
  void apply(OperationRecord record);
  Status begin_boot();

  UniqueFd directory_;
  std::string boot_;
  UniqueFd fd_;
  std::size_t size_ = 0;  ///< bytes that were read and are good
  std::size_t size_kept_ = 0;
  std::string last_boot_;
  OperationId floor_ = 0;
  std::map<OperationId, OperationEntry> entries_;
};

}  // namespace slipway
