#include "manifest/raw_formats.h"

#include "manifest/vm_text.h"

#include <algorithm>
#include <array>

namespace slipway {

namespace {

constexpr std::uint64_t kPage = 4096;  // bytes; the memory of every machine is a multiple

struct Ending {
  std::string_view ending;
  NameFacts facts;
};

// The first that fits counts.
constexpr std::array kEndings = {
    Ending{".vmx", {NameKind::kVmx, ImageClass::kConfig, "vmx"}},
    Ending{".vmtx", {NameKind::kVmx, ImageClass::kConfig, "vmx"}},
    Ending{".vmsd", {NameKind::kVmsd, ImageClass::kConfig, "vmsd"}},
    Ending{".nvram", {NameKind::kConfig, ImageClass::kConfig, "nvram"}},
    Ending{".vmxf", {NameKind::kConfig, ImageClass::kConfig, "text"}},
    Ending{".json", {NameKind::kConfig, ImageClass::kConfig, "text"}},
    Ending{".xml", {NameKind::kConfig, ImageClass::kConfig, "text"}},
    Ending{".cfg", {NameKind::kConfig, ImageClass::kConfig, "text"}},
    Ending{".conf", {NameKind::kConfig, ImageClass::kConfig, "text"}},
    Ending{".ini", {NameKind::kConfig, ImageClass::kConfig, "text"}},
    Ending{".yaml", {NameKind::kConfig, ImageClass::kConfig, "text"}},
    Ending{".yml", {NameKind::kConfig, ImageClass::kConfig, "text"}},
    Ending{"-ctk.vmdk", {NameKind::kPlain, ImageClass::kOther, "vmdk-changes"}},
    Ending{"-flat.vmdk", {NameKind::kRawDisk, ImageClass::kDisk, "vmdk-flat"}},
    Ending{".vmdk", {NameKind::kVmdk, ImageClass::kDisk, "vmdk"}},
    Ending{".qcow2", {NameKind::kQcow2, ImageClass::kDisk, "qcow2"}},
    Ending{".img", {NameKind::kDisk, ImageClass::kDisk, "raw"}},
    Ending{".qcow", {NameKind::kDisk, ImageClass::kDisk, "raw"}},
    Ending{".vdi", {NameKind::kDisk, ImageClass::kDisk, "vdi"}},
    Ending{".vhd", {NameKind::kDisk, ImageClass::kDisk, "vhd"}},
    Ending{".vhdx", {NameKind::kDisk, ImageClass::kDisk, "vhdx"}},
    Ending{".raw", {NameKind::kRawDisk, ImageClass::kDisk, "raw"}},
    Ending{".dd", {NameKind::kRawDisk, ImageClass::kDisk, "raw"}},
    Ending{".iso", {NameKind::kRawDisk, ImageClass::kDisk, "iso"}},
    Ending{".ext4", {NameKind::kRawDisk, ImageClass::kDisk, "raw"}},
    Ending{".vmem", {NameKind::kRawMemory, ImageClass::kMemory, "vmem"}},
    Ending{".mem", {NameKind::kRawMemory, ImageClass::kMemory, "memory"}},
    Ending{".vmss", {NameKind::kSavedState, ImageClass::kMemory, "vmss"}},
    Ending{".vmsn", {NameKind::kSavedState, ImageClass::kMemory, "vmsn"}},
};

/// The pieces of a flat disk in several files: -f001.vmdk and so on.
bool is_flat_piece(std::string_view name) noexcept {
  constexpr std::size_t kTail = std::string_view("-f001.vmdk").size();
  if (name.size() < kTail || !ends_with_ignoring_case(name, ".vmdk"))
    return false;
  const std::string_view tail = name.substr(name.size() - kTail);
  return starts_with_ignoring_case(tail, "-f") &&
         tail.substr(2, 3).find_first_not_of("0123456789") == tail.npos;
}

bool has_name_of_memory(std::string_view name) noexcept {
  return starts_with_ignoring_case(name, "memory") || starts_with_ignoring_case(name, "mem_file") ||
         starts_with_ignoring_case(name, "memfile");
}

struct Magic {
  std::uint64_t offset;
  std::string_view bytes;
  std::string_view format;
};

constexpr std::array kMagics = {
    Magic{0, {"QFI\xfb", 4}, "qcow"},  // version 1; the later ones have a reader of their own
    Magic{0, "vhdxfile", "vhdx"},
    Magic{0, "conectix", "vhd"},
    Magic{64, {"\x7f\x10\xda\xbe", 4}, "vdi"},
    Magic{512, "EFI PART", "raw"},
    Magic{510, {"\x55\xaa", 2}, "raw"},   // a boot record or partition table
    Magic{1080, {"\x53\xef", 2}, "raw"},  // ext2, ext3, ext4
    Magic{0, "XFSB", "raw"},
    Magic{0x10040, "_BHRfS_M", "raw"},            // Btrfs
    Magic{1024, {"\x10\x20\xf5\xf2", 4}, "raw"},  // F2FS
    Magic{0, {"LUKS\xba\xbe", 6}, "raw"},
    Magic{512, "LABELONE", "raw"},  // a physical volume of LVM
    Magic{0x8001, "CD001", "iso"},
    Magic{4086, "SWAPSPACE2", "raw"},
    Magic{0, "hsqs", "raw"},  // SquashFS
};

}  // namespace

NameFacts facts_of_name(std::string_view name, std::uint64_t size) noexcept {
  if (is_flat_piece(name))
    return {NameKind::kRawDisk, ImageClass::kDisk, "vmdk-flat"};
  for (const auto& [ending, facts] : kEndings)
    if (ends_with_ignoring_case(name, ending))
      return facts;
  if (has_name_of_memory(name))
    return size != 0 && size % kPage == 0
               ? NameFacts{NameKind::kMemory, ImageClass::kMemory, "memory"}
               : NameFacts{NameKind::kMemory, ImageClass::kOther, "raw"};
  return {};
}

void read_raw_disk(ImageReader& image, FactsBuilder& facts) {
  for (const auto& [offset, bytes, format] : kMagics)
    if (image.has(offset, bytes))
      return facts.recognise(ImageClass::kDisk, format);
}

}  // namespace slipway
