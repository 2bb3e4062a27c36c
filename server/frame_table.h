#pragma once

#include "base/bytes.h"
#include "base/result.h"
#include "secure/content_hash.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace slipway {

// The format of a frame pack (docs/manifest-format.md, "Frame packs"), as pure functions: a header,
// the frames, a table of them, a checksum over header and table.

/// Where a unit's frame stands.
struct FrameEntry {
  std::uint64_t offset = 0;  ///< in the file
  std::uint32_t unit = 0;
  std::uint32_t length = 0;

  friend bool operator==(const FrameEntry&, const FrameEntry&) = default;
};

struct PackHeader {
  std::uint32_t count = 0;  ///< frames
  std::uint64_t bytes = 0;  ///< of all frames and their checksums
  ContentHash root{};

  /// Table and checksum follow each other from here to the end of the file.
  std::uint64_t table_begin() const noexcept;
  std::uint64_t table_size() const noexcept;  ///< with its checksum
};

inline constexpr std::size_t kPackHeaderSize = 8 + 2 + 2 + 4 + 8 + sizeof(ContentHash);
inline constexpr std::size_t kFrameEntrySize = 8 + 4 + 4;
inline constexpr std::size_t kFrameChecksumSize = 8;  ///< behind each frame
inline constexpr std::uint32_t kPackFramesMax = 8 * 1024 * 1024;  ///< frames: 128 GiB of content

Bytes encode_pack_header(const PackHeader& header);

/// kInvalid for another magic, format, or anything that does not fit a file of this size.
Result<PackHeader> parse_pack_header(ByteView bytes, std::uint64_t file_size);

/// What stands behind a frame: XXH3-64 of it, its unit's number being the seed.
std::array<std::byte, kFrameChecksumSize> frame_checksum(std::uint32_t unit,
                                                         ByteView frame) noexcept;

/// The table with the checksum behind it.
Bytes encode_frame_table(const PackHeader& header, const std::vector<FrameEntry>& entries);

/// kInvalid unless the checksum fits and the frames, in order, are exactly what is between header
/// and table. REQUIRES: `bytes` has header.table_size().
Result<std::vector<FrameEntry>> parse_frame_table(const PackHeader& header, ByteView bytes);

}  // namespace slipway
