#pragma once

#include "base/checksum.h"
#include "base/units.h"
#include "cache/block_cache.h"
#include "wire/messages.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace slipway {

// Keys and values of the index (docs/cache-format.md, "Index"). Pure functions. Numbers in keys are
// big-endian, so that a region's and a generation's records are ranges; numbers in values are
// little-endian. A value starts with a checksum seeded by its key: a damaged value, or one found
// under another key, does not decode.

/// A remote file, as the cache tells files apart.
struct FileKey {
  ExportKey owner{};
  FileId id;

  friend auto operator<=>(const FileKey&, const FileKey&) = default;
};

/// Which generation holds a file's content, and which version of the file that is.
struct FileRecord {
  std::uint64_t generation = 0;
  std::uint64_t epoch = 0;  ///< another one than the index's: confirm the content first
  bool young = false;       ///< may hold units that were read while the file was young
  bool complete = false;    ///< every unit was valid when this was written
  VersionRecord version;    ///< its id is the key's
};

/// One bit per unit of a block, and the checksums of those that are data.
struct BlockRecord {
  std::uint8_t valid = 0;
  std::uint8_t zero = 0;                             ///< valid, all zero and not on disk; holes too
  std::uint8_t hole = 0;                             ///< zero, and a hole on the server
  std::array<Checksum, kUnitsPerBlock> checksums{};  ///< meaningful where valid and not zero

  friend bool operator==(const BlockRecord&, const BlockRecord&) = default;
};

std::string file_key(const FileKey& key);
std::optional<FileKey> parse_file_key(std::string_view key);
std::string encode_file(std::string_view key, const FileRecord& record);
std::optional<FileRecord> decode_file(std::string_view key, std::string_view value);

std::string block_key(std::uint64_t generation, std::uint64_t block);
/// Generation and block.
std::optional<std::pair<std::uint64_t, std::uint64_t>> parse_block_key(std::string_view key);
std::string encode_block(std::string_view key, const BlockRecord& record);
std::optional<BlockRecord> decode_block(std::string_view key, std::string_view value);

/// Small facts about the whole cache: a number, or 16 bytes.
std::string meta_key(std::string_view name);
std::string encode_number(std::string_view key, std::uint64_t number);
std::optional<std::uint64_t> decode_number(std::string_view key, std::string_view value);
std::string encode_id(std::string_view key, const std::array<std::byte, 16>& id);
std::optional<std::array<std::byte, 16>> decode_id(std::string_view key, std::string_view value);

/// The ranges [first, last) of all file records, of all block records, of one generation's.
struct KeyRange {
  std::string first;
  std::string last;
};

KeyRange all_files();
KeyRange all_blocks();
KeyRange blocks_of(std::uint64_t generation);
KeyRange blocks_of_region(std::uint64_t generation, std::uint64_t region);

}  // namespace slipway
