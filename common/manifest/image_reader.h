#pragma once

#include "base/bytes.h"
#include "base/result.h"
#include "base/units.h"
#include "manifest/image_facts.h"

#include <algorithm>
#include <bit>
#include <cassert>
#include <concepts>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace slipway {

/// The integer that stands at `at` of `from`. REQUIRES: it lies within.
template <std::unsigned_integral T>
T load_integer(ByteView from, std::size_t at, std::endian order) noexcept {
  assert(at <= from.size() && sizeof(T) <= from.size() - at);
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    const std::size_t byte = order == std::endian::big ? i : sizeof(T) - 1 - i;
    value = static_cast<T>(static_cast<std::uint64_t>(value) << 8 |
                           std::to_integer<std::uint64_t>(from[at + byte]));
  }
  return value;
}

/// An image as its format's reader sees it: every range is checked against the file's size before
/// it is read, and all reads of one image together stay below kFactsBytesMax, so that tables that
/// lie about themselves end in an error instead of in work. One thread; borrows the ImageBytes.
class ImageReader {
 public:
  explicit ImageReader(ImageBytes& bytes) noexcept
      : bytes_(bytes), size_(std::min(bytes.size(), kFileSizeMax)) {}

  std::uint64_t size() const noexcept { return size_; }

  bool contains(const ByteRange& range) const noexcept {
    return range.offset <= size_ && range.length <= size_ - range.offset;
  }

  /// Reads exactly `to.size()` bytes; kInvalid beyond the end of the file or of the budget.
  Status read(std::uint64_t offset, MutableBytes to);

  /// Whether `magic` stands at `offset`. False too where it can't be read.
  bool has(std::uint64_t offset, std::string_view magic);

  /// The text in `range`, up to its first NUL: descriptors are padded with them. kInvalid when it
  /// is longer than kVmTextMax.
  Result<std::string> read_text(const ByteRange& range);

  /// Calls `each(T)` for every entry of a table, in order, with a small buffer; stops at the first
  /// error of either.
  template <std::unsigned_integral T, class Each>
  Status for_each_entry(const ByteRange& table, std::endian order, Each each) {
    Bytes piece;
    for (std::uint64_t done = 0; done < table.length; done += piece.size()) {
      piece.resize(std::min<std::uint64_t>(kTablePiece, table.length - done));
      SLIPWAY_TRY(read(table.offset + done, piece));
      for (std::size_t at = 0; at + sizeof(T) <= piece.size(); at += sizeof(T))
        SLIPWAY_TRY(each(load_integer<T>(piece, at, order)));
    }
    return {};
  }

 private:
  static constexpr std::size_t kTablePiece = 64 * 1024;  // bytes; a multiple of every entry's size

  ImageBytes& bytes_;
  std::uint64_t size_;
  std::uint64_t budget_ = kFactsBytesMax;
};

}  // namespace slipway
