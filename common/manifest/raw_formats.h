#pragma once

#include "manifest/facts_builder.h"
#include "manifest/image_reader.h"

#include <string_view>

namespace slipway {

/// What the name alone says about a file, and so which formats are looked for in it. A raw disk's
/// or plain memory's content is its guest's: a guest must not be able to make its disk pass for an
/// image that names other files, so nothing is looked for where the name says raw.
enum class NameKind {
  kUnknown,     ///< any format may be in it
  kDisk,        ///< .img, .vhd: any disk format
  kQcow2,       ///< .qcow2: has to be one
  kVmdk,        ///< .vmdk: descriptor, sparse or flat
  kRawDisk,     ///< .raw, .iso, -flat.vmdk: taken as it stands
  kMemory,      ///< memory*, mem_file*: plain memory, or a format that holds it
  kRawMemory,   ///< .vmem, .mem: taken as it stands
  kSavedState,  ///< .vmss, .vmsn: has to be one
  kVmx,
  kVmsd,
  kConfig,  ///< other small text of machines, and nvram
  kPlain,   ///< belongs to a machine without being any of these
};

struct NameFacts {
  NameKind kind = NameKind::kUnknown;
  ImageClass image_class = ImageClass::kOther;
  std::string_view format = "raw";
};

/// Pure; `size` is that of the file: a name like "memory" counts only for whole pages.
NameFacts facts_of_name(std::string_view name, std::uint64_t size) noexcept;

/// Looks for what a disk starts with (partition tables, file systems, volumes) and for formats of
/// which no more than the class is known. Adds no names and no metadata.
void read_raw_disk(ImageReader& image, FactsBuilder& facts);

}  // namespace slipway
