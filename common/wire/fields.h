#pragma once

#include "wire/codec.h"
#include "wire/messages.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <string>
#include <vector>

// Fields that several messages and formats share; only for .cc files. put() appends a field,
// get() takes it off and makes the reader bad when it is outside its limits.

namespace slipway {

void put(WireWriter& to, const Timestamp& m);
void put(WireWriter& to, const FileId& m);
void put(WireWriter& to, const VersionRecord& m);
void put(WireWriter& to, const Attributes& m);
void put(WireWriter& to, const NodeRef& m);

Timestamp get_timestamp(WireReader& from) noexcept;
FileId get_file_id(WireReader& from) noexcept;
/// Refuses what no file can have: the identity "any", a size above kFileSizeMax.
VersionRecord get_version(WireReader& from) noexcept;
Attributes get_attributes(WireReader& from) noexcept;
NodeRef get_node(WireReader& from);
std::string get_name(WireReader& from);

/// The message, if the reader came to its end without harm.
template <class T>
Result<T> finished(const WireReader& from, std::string_view what, T message) {
  SLIPWAY_TRY(from.finish(what));
  return message;
}

inline void put_bool(WireWriter& to, bool value) {
  to.u8(value ? 1 : 0);
}

inline bool get_bool(WireReader& from) noexcept {
  const std::uint8_t value = from.u8();
  if (value > 1)
    from.set_bad();
  return value == 1;
}

/// A handle that a client chose: never 0.
inline std::uint64_t get_handle(WireReader& from) noexcept {
  const std::uint64_t handle = from.u64();
  if (handle == 0)
    from.set_bad();
  return handle;
}

template <std::size_t kSize>
std::array<std::byte, kSize> get_array(WireReader& from) noexcept {
  std::array<std::byte, kSize> out{};
  const ByteView bytes = from.raw(kSize);
  std::copy(bytes.begin(), bytes.end(), out.begin());
  return out;
}

/// The u32 count before a list. A count above `count_max`, or one that the bytes left can't hold
/// even if each element had its smallest size, makes the reader bad and reads as 0: so the caller
/// may reserve what it gets.
inline std::size_t get_count(WireReader& from, std::size_t count_max,
                             std::size_t element_size_min) noexcept {
  const std::size_t count = from.u32();
  if (count > count_max || count > from.left() / element_size_min)
    from.set_bad();
  return from.bad() ? 0 : count;
}

// Smallest encoded sizes, in bytes.
inline constexpr std::size_t kVersionSize = 12 + 12 + 8 + 12 + 12;
inline constexpr std::size_t kAttributesSize = kVersionSize + 8 + 1 + 4 * 4 + 8 + 12 + 1;

}  // namespace slipway
