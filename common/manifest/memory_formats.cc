#include "manifest/memory_formats.h"

#include "manifest/vm_text.h"

#include <algorithm>
#include <array>
#include <bit>

namespace slipway {

namespace {

// What VMware writes in front of a state, little-endian: old, current, incomplete, and what a
// restored one is changed to.
constexpr std::array<std::string_view, 5> kVmwareMagics = {
    std::string_view("\xd0\xbe\xd0\xbe", 4), std::string_view("\xd2\xbe\xd2\xbe", 4),
    std::string_view("\xd3\xbe\xd3\xbe", 4), std::string_view("\xd1\xba\xd1\xba", 4),
    std::string_view("\xd2\xba\xd2\xba", 4)};
constexpr std::string_view kLibvirtMagic = "LibvirtQemudSave";
constexpr std::string_view kLibvirtPartial = "LibvirtQemudPart";
constexpr std::string_view kQemuMagic = "QEVM";
// The low 16 bits of Firecracker's 64-bit magic were a version in its older releases.
constexpr std::string_view kFirecrackerX86{"\x64\x86\x84\x19\x10\x07", 6};
constexpr std::string_view kFirecrackerArm{"\xaa\xaa\x84\x19\x10\x07", 6};
constexpr std::uint64_t kFirecrackerMagicAt = 2;
constexpr std::uint64_t kFirecrackerStateMax = 16 * 1024 * 1024;  // bytes; Firecracker allows 10 MB

std::string_view stem(std::string_view name) noexcept {
  const std::size_t dot = name.rfind('.');
  return dot == name.npos || dot == 0 ? name : name.substr(0, dot);
}

Status read_vmware_state(std::string_view name, ImageReader& image, FactsBuilder& facts) {
  if (image.size() < 12)  // the magic, a version, the number of groups
    return fail(ErrorCode::kInvalid, "it ends within its header");
  facts.recognise(ImageClass::kMemory, ends_with_ignoring_case(name, ".vmsn") ? "vmsn" : "vmss");
  if (ends_with_ignoring_case(name, ".vmsn") || ends_with_ignoring_case(name, ".vmss"))
    facts.add_name(std::string(stem(name)) + ".vmem");
  return {};
}

/// A header, the machine's XML, then a migration stream. The numbers are in the host's byte order;
/// the version, which is small, tells which that was.
Status read_libvirt_save(ImageReader& image, FactsBuilder& facts) {
  constexpr std::uint32_t kVersionMax = 0xffff;
  constexpr std::uint64_t kXmlMax = 16 * 1024 * 1024;  // bytes
  std::array<std::byte, 92> header;
  SLIPWAY_TRY(image.read(0, header));
  const bool is_little =
      load_integer<std::uint32_t>(header, 16, std::endian::little) <= kVersionMax;
  const std::uint32_t xml =
      load_integer<std::uint32_t>(header, 20, is_little ? std::endian::little : std::endian::big);
  if (xml > kXmlMax || !image.contains({header.size(), xml}))
    return fail(ErrorCode::kInvalid, "it claims {} bytes of XML", xml);
  facts.recognise(ImageClass::kMemory,
                  image.has(0, kLibvirtPartial) ? "libvirt-save-partial" : "libvirt-save");
  facts.add_metadata({0, header.size() + xml});
  return {};
}

Status read_qemu_stream(ImageReader& image, FactsBuilder& facts) {
  std::array<std::byte, 8> header;
  SLIPWAY_TRY(image.read(0, header));
  const auto version = load_integer<std::uint32_t>(header, 4, std::endian::big);
  if (version != 2 && version != 3)
    return fail(ErrorCode::kInvalid, "it has version {}", version);
  facts.recognise(ImageClass::kMemory, "qemu-migration");
  return {};
}

/// The names that Firecracker's documents and the tools around it give to a snapshot's two files.
std::string memory_beside_firecracker_state(std::string_view name) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kPairs = {
      {{"snapshot_file", "mem_file"},
       {"snapfile", "memfile"},
       {"snap_file", "mem_file"},
       {"vmstate", "memory"}}};
  for (const auto& [state, memory] : kPairs)
    if (name == state)
      return std::string(memory);
  return std::string(stem(name)) + ".mem";
}

Status read_firecracker_state(std::string_view name, ImageReader& image, FactsBuilder& facts) {
  if (image.size() > kFirecrackerStateMax)
    return fail(ErrorCode::kInvalid, "it is longer than a state can be");
  facts.recognise(ImageClass::kMemory, "firecracker-state");
  if (const std::string memory = memory_beside_firecracker_state(name); memory != name)
    facts.add_name(memory);
  return {};
}

}  // namespace

Status read_memory_format(std::string_view name, ImageReader& image, FactsBuilder& facts) {
  if (std::any_of(kVmwareMagics.begin(), kVmwareMagics.end(),
                  [&](std::string_view magic) { return image.has(0, magic); }))
    return read_vmware_state(name, image, facts);
  if (image.has(0, kLibvirtMagic) || image.has(0, kLibvirtPartial))
    return read_libvirt_save(image, facts);
  if (image.has(0, kQemuMagic))
    return read_qemu_stream(image, facts);
  if (image.has(kFirecrackerMagicAt, kFirecrackerX86) ||
      image.has(kFirecrackerMagicAt, kFirecrackerArm))
    return read_firecracker_state(name, image, facts);
  return {};
}

}  // namespace slipway
