#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"

namespace slipway {

/// Appends fields to a buffer that it does not own. All integers are little-endian; a string is a
/// u16 length and its bytes; a blob is a u32 length and its bytes. Not thread-safe.
class WireWriter {
 public:
  explicit WireWriter(Bytes& to) noexcept : to_(to) {}

  void u8(std::uint8_t value);
  void u16(std::uint16_t value);
  void u32(std::uint32_t value);
  void u64(std::uint64_t value);
  void i64(std::int64_t value);
  void string(std::string_view text);  ///< REQUIRES: text.size() <= 65535
  void blob(ByteView bytes);           ///< REQUIRES: bytes.size() < 2^32
  void raw(ByteView bytes);            ///< without a length

 private:
  Bytes& to_;
};

/// Takes fields off a view that it does not own. The first field that does not fit makes the reader
/// bad; a bad reader yields zeros and empty views, so a decoder checks once, at its end. Never reads
/// outside the view. Not thread-safe.
class WireReader {
 public:
  explicit WireReader(ByteView from) noexcept : from_(from) {}

  std::uint8_t u8() noexcept;
  std::uint16_t u16() noexcept;
  std::uint32_t u32() noexcept;
  std::uint64_t u64() noexcept;
  std::int64_t i64() noexcept;
  std::string_view string(std::size_t length_max) noexcept;  ///< longer makes the reader bad
  ByteView blob(std::size_t length_max) noexcept;
  ByteView raw(std::size_t length) noexcept;

  std::size_t left() const noexcept { return bad_ ? 0 : from_.size(); }

  bool bad() const noexcept { return bad_; }

  void set_bad() noexcept { bad_ = true; }

  /// kProtocol unless everything was read, exactly, and nothing was out of its limits.
  Status finish(std::string_view what) const;

 private:
  ByteView from_;
  bool bad_ = false;
};

}  // namespace slipway
