#pragma once

#include "cache/cached_file.h"
#include "cache/cache_index.h"
#include "cache/region_table.h"

namespace slipway {

/// The bits of a block's units.
UnitSet units_of_block(std::size_t block);

/// Brings the records of the blocks that hold any unit of `changed` to what `after` says; a block
/// without valid units has no record. When the region's records could not be erased earlier, all of
/// them go first: after the write, StoredFile::set_erased(). REQUIRES: the region's writer.
IndexBatch region_records(const StoredFile& file, std::uint64_t region, const RegionContent& after,
                          const UnitSet& changed);

/// Erases all of a region's records.
IndexBatch erase_region(const RegionKey& key);

}  // namespace slipway
