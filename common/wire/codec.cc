#include "wire/codec.h"

#include <cassert>
#include <limits>
#include <type_traits>

namespace slipway {
namespace {

template <class T>
void put(Bytes& to, T value) {
  static_assert(std::is_unsigned_v<T>);
  for (unsigned shift = 0; shift < 8 * sizeof(T); shift += 8)
    to.push_back(static_cast<std::byte>((value >> shift) & 0xff));
}

template <class T>
T get(ByteView bytes) noexcept {
  static_assert(std::is_unsigned_v<T>);
  T value = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i)
    value = static_cast<T>(value | (std::to_integer<T>(bytes[i]) << (8 * i)));
  return value;
}

}  // namespace

void WireWriter::u8(std::uint8_t value) {
  put(to_, value);
}

void WireWriter::u16(std::uint16_t value) {
  put(to_, value);
}

void WireWriter::u32(std::uint32_t value) {
  put(to_, value);
}

void WireWriter::u64(std::uint64_t value) {
  put(to_, value);
}

void WireWriter::i64(std::int64_t value) {
  put(to_, static_cast<std::uint64_t>(value));
}

void WireWriter::string(std::string_view text) {
  assert(text.size() <= std::numeric_limits<std::uint16_t>::max());
  u16(static_cast<std::uint16_t>(text.size()));
  raw(as_bytes(text));
}

void WireWriter::blob(ByteView bytes) {
  assert(bytes.size() <= std::numeric_limits<std::uint32_t>::max());
  u32(static_cast<std::uint32_t>(bytes.size()));
  raw(bytes);
}

void WireWriter::raw(ByteView bytes) {
  append(to_, bytes);
}

std::uint8_t WireReader::u8() noexcept {
  return get<std::uint8_t>(raw(1));
}

std::uint16_t WireReader::u16() noexcept {
  return get<std::uint16_t>(raw(2));
}

std::uint32_t WireReader::u32() noexcept {
  return get<std::uint32_t>(raw(4));
}

std::uint64_t WireReader::u64() noexcept {
  return get<std::uint64_t>(raw(8));
}

std::int64_t WireReader::i64() noexcept {
  return static_cast<std::int64_t>(u64());
}

std::string_view WireReader::string(std::size_t length_max) noexcept {
  const std::size_t length = u16();
  if (length > length_max)
    bad_ = true;
  return as_text(raw(length));
}

ByteView WireReader::blob(std::size_t length_max) noexcept {
  const std::size_t length = u32();
  if (length > length_max)
    bad_ = true;
  return raw(length);
}

ByteView WireReader::raw(std::size_t length) noexcept {
  if (bad_ || length > from_.size()) {
    bad_ = true;
    return {};
  }
  const ByteView field = from_.first(length);
  from_ = from_.subspan(length);
  return field;
}

Status WireReader::finish(std::string_view what) const {
  if (bad_)
    return fail(ErrorCode::kProtocol, "malformed {}", what);
  if (!from_.empty())
    return fail(ErrorCode::kProtocol, "malformed {}: {} bytes too many", what, from_.size());
  return {};
}

}  // namespace slipway
