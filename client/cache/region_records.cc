#include "cache/region_records.h"

#include <algorithm>

namespace slipway {
namespace {

void put_block(IndexBatch& batch, const std::string& name, std::size_t block,
               const RegionContent& content) {
  const auto bits = [&](const UnitSet& set) {
    const UnitSet inside = set & units_of_block(block);
    return static_cast<std::uint8_t>((inside >> (block * kUnitsPerBlock)).to_ullong());
  };
  BlockRecord record;
  record.valid = bits(content.units.valid);
  record.zero = bits(content.units.zero & content.units.valid);
  record.hole = bits(content.units.hole & content.units.zero & content.units.valid);
  std::copy_n(content.checksums.begin() + static_cast<std::ptrdiff_t>(block * kUnitsPerBlock),
              kUnitsPerBlock, record.checksums.begin());
  batch.puts.emplace_back(name, encode_block(name, record));
}

}  // namespace

UnitSet units_of_block(std::size_t block) {
  return UnitSet(0xff) << (block * kUnitsPerBlock);
}

IndexBatch region_records(const StoredFile& file, std::uint64_t region, const RegionContent& after,
                          const UnitSet& changed) {
  const RegionKey key = file.region_key(region);
  IndexBatch batch;
  if (file.is_unerased(region))
    batch = erase_region(key);
  for (std::size_t block = 0; block < kBlocksPerRegion; block++) {
    if ((changed & units_of_block(block)).none())
      continue;
    const std::string name = block_key(key.generation, region * kBlocksPerRegion + block);
    if ((after.units.valid & units_of_block(block)).any())
      put_block(batch, name, block, after);
    else
      batch.erases.push_back(name);
  }
  return batch;
}

IndexBatch erase_region(const RegionKey& key) {
  IndexBatch batch;
  for (std::uint64_t block = 0; block < kBlocksPerRegion; block++)
    batch.erases.push_back(block_key(key.generation, key.region * kBlocksPerRegion + block));
  return batch;
}

}  // namespace slipway
