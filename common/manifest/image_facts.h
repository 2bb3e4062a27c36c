#pragma once

#include "base/bytes.h"
#include "base/result.h"
#include "base/units.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace slipway {

/// What an image is for. The numbers are those of docs/manifest-format.md.
enum class ImageClass : std::uint8_t { kOther = 0, kDisk = 1, kMemory = 2, kConfig = 3 };

/// How an image travels: on demand, everything at once in bulk, or whole with its directory.
enum class TransferPlan : std::uint8_t { kDemand = 0, kBulk = 1, kWhole = 2 };

std::string_view name_of(ImageClass image_class) noexcept;  ///< "other", "disk", ...
std::string_view name_of(TransferPlan plan) noexcept;       ///< "demand", "bulk", "whole"

/// A file that a reader of VM formats looks at. One thread; owned by the caller.
class ImageBytes {
 public:
  virtual ~ImageBytes() = default;

  virtual std::uint64_t size() const noexcept = 0;

  /// Reads exactly `to.size()` bytes; kInvalid when the range reaches beyond the end.
  virtual Status read(std::uint64_t offset, MutableBytes to) = 0;
};

/// What is known of a file from its name and its own format. Nothing here is trusted: the image may
/// be hostile, and whoever uses the names resolves them beneath the export.
struct ImageFacts {
  ImageClass image_class = ImageClass::kOther;
  TransferPlan plan = TransferPlan::kDemand;
  /// "raw", "qcow2", "vmdk-sparse", "vmdk-descriptor", "vmdk-flat", "vmx", "vmem", "vmss", "vmsn",
  /// "vmsd", "nvram", "libvirt-save", "qemu-migration", "firecracker-state", "memory", ...
  std::string format = "raw";
  /// Other files of the set, as the file names them (disks of a .vmx, extents and parent of a
  /// .vmdk, a qcow2's backing file, the memory file beside a Firecracker state). Relative names are
  /// relative to this file's directory. At most kNamedFilesMax.
  std::vector<std::string> names;
  /// Where the format keeps what every start reads (headers, L1/L2, grain directory and tables):
  /// ascending, disjoint, within the file, at most kMetadataRangesMax.
  std::vector<ByteRange> metadata;
  /// One line for a person when the file claims a format and breaks it ("" else): it is then
  /// published as what its name says, without names and metadata.
  std::string complaint;
};

inline constexpr std::size_t kNamedFilesMax = 256;
inline constexpr std::size_t kMetadataRangesMax = 4096;
inline constexpr std::uint64_t kFactsBytesMax = 64 * 1024 * 1024;  ///< bytes read of one image
inline constexpr std::uint64_t kVmTextMax = 1024 * 1024;           ///< bytes of a .vmx, descriptor

/// Looks at name and content. Never fails: what can't be understood is kOther or what the name
/// says, with a complaint. Bounded in time and memory by the limits above, whatever the file holds.
/// `name` is the last component of the path.
ImageFacts read_image_facts(std::string_view name, ImageBytes& bytes);

/// The plan of a file of which no manifest is known. Like the reader of its content, it takes small
/// files of any class but plain memory for whole: a .vmdk of some kilobytes is a descriptor.
TransferPlan plan_by_name(std::string_view name, std::uint64_t size) noexcept;

/// The name is one of a disk, of memory state or of a VM monitor's own configuration: where such a
/// file is, a machine is.
bool names_machine(std::string_view name) noexcept;

}  // namespace slipway
