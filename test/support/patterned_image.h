#pragma once

#include "base/bytes.h"
#include "base/units.h"
#include "source/block_source.h"

#include <cstdint>
#include <memory>

namespace slipway {

/// The content of a pretended remote file, computed from a seed: units of noise, of text that
/// compresses, of zeros and holes, in runs, and a short last unit. Immutable; any thread.
class PatternedImage {
 public:
  enum class Kind { kNoise, kText, kZero, kHole };

  explicit PatternedImage(std::uint64_t size, std::uint64_t seed = 1) : size_(size), seed_(seed) {}

  std::uint64_t size() const noexcept { return size_; }

  /// Runs of three units are of one kind.
  Kind kind_of(std::uint64_t unit) const noexcept {
    return static_cast<Kind>(mix(seed_ ^ (unit / 3) * 2 + 1) % 4);
  }

  std::byte at(std::uint64_t offset) const noexcept {
    switch (kind_of(unit_of(offset))) {
      case Kind::kNoise:
        return static_cast<std::byte>(mix(seed_ + offset) & 0xffU);
      case Kind::kText:
        return static_cast<std::byte>('a' + (offset / 64 + offset % 7) % 26);
      case Kind::kZero:
      case Kind::kHole:
        break;
    }
    return std::byte{0};
  }

  Bytes read(const ByteRange& range) const {
    Bytes bytes(range.length);
    for (std::uint64_t i = 0; i < range.length; i++)
      bytes[i] = at(range.offset + i);
    return bytes;
  }

  /// A version record of this size that no other seed has.
  VersionRecord version() const {
    VersionRecord record;
    record.id = {1, 1000 + seed_};
    record.birth = {1'600'000'000, 1};
    record.size = size_;
    record.mtime = {1'700'000'000, 5};
    record.ctime = {1'700'000'000, 6};
    return record;
  }

 private:
  static constexpr std::uint64_t mix(std::uint64_t x) noexcept {
    x = (x ^ (x >> 30U)) * 0xbf58476d1ce4e5b9U;
    x = (x ^ (x >> 27U)) * 0x94d049bb133111ebU;
    return x ^ (x >> 31U);
  }

  std::uint64_t size_;
  std::uint64_t seed_;
};

}  // namespace slipway
