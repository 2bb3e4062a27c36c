#pragma once

#include "base/bytes.h"
#include "base/result.h"
#include "secure/channel.h"
#include "secure/noise.h"
#include "wire/setup.h"

#include <cstdint>
#include <span>

namespace slipway {

// Internal to common/secure: the records of an encrypted connection, one class for each direction.
// A record is its 8-byte header (associated data), the encrypted content, and a tag.

/// What one key has been used for, counted alike by its sender and its receiver. The age counts
/// from the first use: a key that protects nothing yet needs no successor. Not thread-safe.
class KeyUsage {
 public:
  explicit KeyUsage(const RekeyPolicy& policy) : policy_(policy) {}

  /// Whether a further record of `bytes` would go over `times` the policy's limits. The first
  /// record of a key never does.
  bool is_spent(std::uint64_t bytes, unsigned times) const;
  bool is_too_old(unsigned times) const;

  void add(std::uint64_t bytes);
  void start_again();

  bool unused() const noexcept { return records_ == 0; }

 private:
  RekeyPolicy policy_;
  std::uint64_t records_ = 0;
  std::uint64_t bytes_ = 0;
  TimePoint first_use_{};
};

/// Makes the records of one direction. Not thread-safe.
class RecordSealer {
 public:
  RecordSealer(CipherState key, const RekeyPolicy& policy) : key_(std::move(key)), usage_(policy) {}

  /// The bytes to write for one record made of the parts, with a kRekey record in front of it when
  /// the key has done its work. Valid until the next call.
  ByteView seal(RecordKind kind, std::span<const ByteView> parts);

 private:
  void append_record(RecordKind kind, std::span<const ByteView> parts, std::size_t content_size);

  CipherState key_;
  KeyUsage usage_;
  Bytes buffer_;  // kept, so that a large frame does not map and fault its pages each time
};

/// Verifies the records of one direction. After an error it must not be asked again. Not
/// thread-safe.
class RecordOpener {
 public:
  RecordOpener(CipherState key, const RekeyPolicy& policy) : key_(std::move(key)), usage_(policy) {}

  using HeaderBytes = std::array<std::byte, kRecordHeaderSize>;

  /// What can be judged before the body is read: the kind, and a length that may be allocated.
  static Result<RecordHeader> check_header(const HeaderBytes& bytes);

  /// Verifies `body` (content and tag), decrypts it in place and takes the tag off. A kRekey record
  /// has changed the key when this returns.
  Status open(const HeaderBytes& header_bytes, RecordKind kind, Bytes& body);

 private:
  CipherState key_;
  KeyUsage usage_;
};

}  // namespace slipway
