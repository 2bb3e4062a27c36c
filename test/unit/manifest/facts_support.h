#pragma once

#include "base/bytes.h"
#include "manifest/image_facts.h"
#include "support/catch.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

// Images made byte by byte, as their formats are specified, for the tests of image_facts.h.

namespace slipway {

/// An image in memory that counts what is read of it.
class MemoryImage final : public ImageBytes {
 public:
  explicit MemoryImage(std::string content) : content_(std::move(content)) {}

  std::uint64_t size() const noexcept override { return content_.size(); }

  Status read(std::uint64_t offset, MutableBytes to) override {
    REQUIRE(offset <= content_.size());
    REQUIRE(to.size() <= content_.size() - offset);
    const ByteView from = as_bytes(content_).subspan(offset, to.size());
    std::copy(from.begin(), from.end(), to.begin());
    return {};
  }

 private:
  std::string content_;
};

inline ImageFacts facts_of(std::string_view name, std::string content) {
  MemoryImage image(std::move(content));
  return read_image_facts(name, image);
}

/// A file of a given size that is zero where nothing was put.
class Content {
 public:
  explicit Content(std::size_t size) : bytes_(size, '\0') {}

  Content& text(std::size_t at, std::string_view text) {
    bytes_.replace(at, text.size(), text);
    return *this;
  }

  template <class T>
  Content& little(std::size_t at, T value) {
    for (std::size_t i = 0; i < sizeof(T); ++i)
      bytes_[at + i] = byte_of(value, i);
    return *this;
  }

  template <class T>
  Content& big(std::size_t at, T value) {
    for (std::size_t i = 0; i < sizeof(T); ++i)
      bytes_[at + i] = byte_of(value, sizeof(T) - 1 - i);
    return *this;
  }

  const std::string& str() const { return bytes_; }

 private:
  template <class T>
  static char byte_of(T value, std::size_t index) {
    return static_cast<char>(
        static_cast<unsigned char>(static_cast<std::uint64_t>(value) >> (8 * index)));
  }

  std::string bytes_;
};

/// Version 3, clusters of 512 bytes: header, L1 table with two entries (at 512), refcount table
/// (1024), L2 tables (1536 and 2560), data (2048).
inline Content qcow2_sample(std::string_view backing = "base.qcow2") {
  Content content(3072);
  content.text(0, std::string_view("QFI\xfb", 4)).big<std::uint32_t>(4, 3);
  content.big<std::uint64_t>(8, 256).big(16, static_cast<std::uint32_t>(backing.size()));
  content.big<std::uint32_t>(20, 9).big<std::uint64_t>(24, 65536);
  content.big<std::uint32_t>(36, 2).big<std::uint64_t>(40, 512);
  content.big<std::uint64_t>(48, 1024).big<std::uint32_t>(56, 1);
  content.big<std::uint32_t>(96, 4).big<std::uint32_t>(100, 104);
  content.text(256, backing);
  constexpr std::uint64_t kCopied = std::uint64_t{1} << 63;
  content.big<std::uint64_t>(512, kCopied | 1536).big<std::uint64_t>(520, kCopied | 2560);
  return content;
}

inline constexpr std::string_view kEmbeddedDescriptor =
    "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=2\ncreateType=\"monolithicSparse\"\n"
    "parentFileNameHint=\"base.vmdk\"\nRW 2048 SPARSE \"an-old-name.vmdk\"\n";

/// A hosted sparse extent of 2048 sectors in grains of 8, 4 entries a table, so 64 tables: header,
/// descriptor (sector 1), directory (2), tables (3 and 5; the others were never written).
inline Content vmdk_sample(std::string_view descriptor = kEmbeddedDescriptor) {
  Content content(4096);
  content.text(0, "KDMV").little<std::uint32_t>(4, 1).little<std::uint32_t>(8, 1);
  content.little<std::uint64_t>(12, 2048).little<std::uint64_t>(20, 8);
  content.little<std::uint64_t>(28, 1).little<std::uint64_t>(36, 1);
  content.little<std::uint32_t>(44, 4).little<std::uint64_t>(56, 2).little<std::uint64_t>(64, 8);
  content.text(512, descriptor);
  content.little<std::uint32_t>(1024, 3).little<std::uint32_t>(1032, 5);
  return content;
}

inline constexpr std::string_view kDescriptor =
    "# Disk DescriptorFile\r\nversion=1\r\nencoding=\"UTF-8\"\r\nCID=fffffffe\r\n"
    "parentCID=ffffffff\r\ncreateType=\"twoGbMaxExtentSparse\"\r\n\r\n# Extent description\r\n"
    "RW 4192256 SPARSE \"disk s001.vmdk\"\r\nRW 2048 FLAT \"disk-f002.vmdk\" 0\r\n"
    "RW 1024 ZERO\r\nRDONLY 63 VMFS \"disk-flat.vmdk\"\r\n\r\n# The Disk Data Base\r\n#DDB\r\n"
    "ddb.adapterType = \"lsilogic\"\r\nchangeTrackPath=\"disk-ctk.vmdk\"\r\n";

inline constexpr std::string_view kVmx =
    ".encoding = \"UTF-8\"\nconfig.version = \"8\"\nnvram = \"vm.nvram\"\n"
    "scsi0.present = \"TRUE\"\nscsi0:0.present = \"TRUE\"\nscsi0:0.fileName = \"disk one.vmdk\"\n"
    "SCSI0:1.FileName = \"/images/a|22b.vmdk\"\nscsi0:2.fileName = \"gone.vmdk\"\n"
    "scsi0:2.present = \"FALSE\"\nide1:0.fileName = \"auto detect\"\n"
    "ide1:0.deviceType = \"atapi-cdrom\"\nsata0:1.fileName = \"install.iso\"\n"
    "sata0:1.deviceType = \"cdrom-image\"\nfloppy0.fileName = \"/dev/fd0\"\n"
    "floppy0.fileType = \"device\"\nserial0.fileName = \"console.log\"\n"
    "checkpoint.vmState = \"vm-1234.vmss\"\ndisplayName = \"x.vmdk\"\n# note = \"no.vmdk\"\n";

/// A libvirt save file: header, 13 bytes of XML, the start of a stream.
inline Content libvirt_sample(std::string_view magic = "LibvirtQemudSave") {
  Content content(92 + 13 + 8);
  content.text(0, magic).little<std::uint32_t>(16, 2).little<std::uint32_t>(20, 13);
  return content.text(92, "<domain/>").text(105, "QEVM");
}

}  // namespace slipway
