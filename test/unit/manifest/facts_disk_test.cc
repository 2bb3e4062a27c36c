#include "facts_support.h"
#include "manifest/image_reader.h"

using namespace slipway;

namespace {

using Names = std::vector<std::string>;
using Ranges = std::vector<ByteRange>;

/// What a broken image leaves: its name's class, a complaint, and nothing that it says.
void check_only_complains(const ImageFacts& facts) {
  CHECK(facts.image_class == ImageClass::kDisk);
  CHECK(facts.plan == TransferPlan::kDemand);
  CHECK(!facts.complaint.empty());
  CHECK(facts.complaint.find('\n') == std::string::npos);
  CHECK(facts.names.empty());
  CHECK(facts.metadata.empty());
}

/// An enormous sparse qcow2 whose L1 entries all differ, so that nothing can be joined.
class EndlessQcow2 final : public ImageBytes {
 public:
  EndlessQcow2(std::uint32_t l1_entries, std::uint64_t stride)
      : stride_(stride),
        header_(qcow2_sample("").big<std::uint32_t>(16, 0).big(36, l1_entries).str()) {}

  std::uint64_t size() const noexcept override { return std::uint64_t{1} << 60; }

  Status read(std::uint64_t offset, MutableBytes to) override {
    read_ += to.size();
    if (offset < 512)
      for (std::size_t i = 0; i < to.size(); ++i)
        to[i] = static_cast<std::byte>(header_.at(offset + i));
    else
      for (std::size_t i = 0; i + 8 <= to.size(); i += 8)
        put_entry(to.subspan(i, 8));
    return {};
  }

  std::uint64_t read_ = 0;

 private:
  void put_entry(MutableBytes to) {
    entry_ += stride_;
    for (std::size_t i = 0; i < 8; ++i)
      to[i] = static_cast<std::byte>(entry_ >> (8 * (7 - i)));
  }

  std::uint64_t stride_;
  std::string header_;
  std::uint64_t entry_ = 0;
};

}  // namespace

TEST_CASE("a qcow2 is a disk on demand that names its backing file and where its tables are") {
  const ImageFacts facts = facts_of("disk.qcow2", qcow2_sample().str());
  CHECK(facts.image_class == ImageClass::kDisk);
  CHECK(facts.plan == TransferPlan::kDemand);
  CHECK(facts.format == "qcow2");
  CHECK(facts.complaint.empty());
  CHECK(facts.names == Names{"base.qcow2"});
  // Header, L1 (16 bytes), refcount table with the first L2 table behind it, the second L2 table.
  CHECK(facts.metadata == Ranges{{0, 528}, {1024, 1024}, {2560, 512}});
}

TEST_CASE("a qcow2 is recognised under names that leave the format open") {
  CHECK(facts_of("cloud.img", qcow2_sample().str()).format == "qcow2");
  CHECK(facts_of("vm-100-disk-0", qcow2_sample().str()).format == "qcow2");
}

TEST_CASE("a guest can't make its raw disk or its memory pass for an image that names files") {
  const std::string name = GENERATE("disk.raw", "disk-flat.vmdk", "disk-f001.vmdk", "guest.vmem",
                                    "guest.mem", "memory", "cd.iso");
  const std::string content = GENERATE(qcow2_sample("/etc/shadow").str() + std::string(1024, '\0'),
                                       vmdk_sample().str(), std::string(kDescriptor));
  CAPTURE(name);
  const ImageFacts facts = facts_of(name, content);
  CHECK(facts.names.empty());
  CHECK(facts.metadata.empty());
}

TEST_CASE("a qcow2's backing name is passed on as it stands, unless it is no file") {
  const auto names_with = [](std::string_view backing) {
    return facts_of("disk.qcow2", qcow2_sample(backing).str()).names;
  };
  CHECK(names_with("../../etc/passwd") == Names{"../../etc/passwd"});
  CHECK(names_with("/dev/sda") == Names{"/dev/sda"});
  CHECK(names_with("file:a.raw") == Names{"a.raw"});
  CHECK(names_with("./a:b") == Names{"./a:b"});
  CHECK(names_with("nbd://host/x").empty());
  CHECK(names_with("json:{\"driver\":\"raw\"}").empty());
}

TEST_CASE("a name that no file can have is left out with a complaint, the rest stays") {
  const std::string backing =
      GENERATE(std::string("a\0b", 3), std::string("a\nb"), std::string("file:"));
  const ImageFacts facts = facts_of("disk.qcow2", qcow2_sample(backing).str());
  CHECK(facts.names.empty());
  CHECK(!facts.complaint.empty());
  CHECK(facts.format == "qcow2");
  CHECK(!facts.metadata.empty());
}

TEST_CASE("a qcow2 names its external data file") {
  Content content = qcow2_sample();
  content.big<std::uint64_t>(72, 4);
  content.big<std::uint32_t>(104, 0xe2792aca).big<std::uint32_t>(108, 5).text(112, "qcow2");
  content.big<std::uint32_t>(120, 0x44415441).big<std::uint32_t>(124, 8).text(128, "data.raw");
  CHECK(facts_of("disk.qcow2", content.str()).names == Names{"base.qcow2", "data.raw"});
  content.big<std::uint32_t>(108, 0xffffffff);
  check_only_complains(facts_of("disk.qcow2", content.str()));
}

TEST_CASE("a qcow2 of version 2 has no feature bits, one of version 1 is only a disk") {
  const auto with_version = [](std::uint32_t version) {
    return facts_of("disk.img", qcow2_sample().big(4, version).big<std::uint64_t>(72, ~0ULL).str());
  };
  CHECK(with_version(2).names == Names{"base.qcow2"});
  CHECK(with_version(1).format == "qcow");
  CHECK(with_version(1).complaint.empty());
  check_only_complains(with_version(3));
  check_only_complains(with_version(4));
}

TEST_CASE("a qcow2 with snapshots of running machines stays a disk") {
  Content content = qcow2_sample();
  content.big<std::uint32_t>(60, 1).big<std::uint64_t>(64, 2048);
  const ImageFacts facts = facts_of("disk.qcow2", content.str());
  CHECK(facts.image_class == ImageClass::kDisk);
  CHECK(facts.metadata == Ranges{{0, 528}, {1024, 2048}});
}

TEST_CASE("a qcow2 that breaks its format is published as what its name says") {
  Content content = qcow2_sample();
  SECTION("clusters too small") {
    content.big<std::uint32_t>(20, 8);
  }
  SECTION("clusters too large") {
    content.big<std::uint32_t>(20, 0xffffffff);
  }
  SECTION("L1 table beyond the end") {
    content.big<std::uint64_t>(40, 1 << 20);
  }
  SECTION("L1 table across the end") {
    content.big<std::uint32_t>(36, 4096);
  }
  SECTION("L1 table larger than any") {
    content.big<std::uint32_t>(36, 0xffffffff);
  }
  SECTION("L1 table across clusters") {
    content.big<std::uint64_t>(40, 520);
  }
  SECTION("L2 table beyond the end") {
    content.big<std::uint64_t>(520, 3072);
  }
  SECTION("L2 table far beyond the end") {
    content.big<std::uint64_t>(520, ~0x1ffULL);
  }
  SECTION("refcount table beyond the end") {
    content.big<std::uint64_t>(48, 1 << 20);
  }
  SECTION("refcount table larger than any") {
    content.big<std::uint32_t>(56, 0xffffffff);
  }
  SECTION("backing name outside its cluster") {
    content.big<std::uint64_t>(8, ~0ULL);
  }
  SECTION("backing name too long") {
    content.big<std::uint32_t>(16, 1024);
  }
  SECTION("unknown feature") {
    content.big<std::uint64_t>(72, 1 << 9);
  }
  SECTION("header too short") {
    content.big<std::uint32_t>(100, 72);
  }
  SECTION("header too long") {
    content.big<std::uint32_t>(100, 1024);
  }
  SECTION("file cut short") {
    content = Content(71).text(0, content.str().substr(0, 71));
  }
  SECTION("no qcow2 at all") {
    content.text(0, "XXXX");
  }
  check_only_complains(facts_of("disk.qcow2", content.str()));
}

TEST_CASE("L2 tables that are all the same one, or the header, are listed once") {
  Content content = qcow2_sample();
  content.big<std::uint64_t>(512, 512).big<std::uint64_t>(520, 512);
  CHECK(facts_of("disk.qcow2", content.str()).metadata == Ranges{{0, 1536}});
}

TEST_CASE("tables without end cost bounded work and yield bounded metadata") {
  EndlessQcow2 most(4 * 1024 * 1024, 1024 * 1024);
  const ImageFacts facts = read_image_facts("disk.qcow2", most);
  CHECK(facts.format == "qcow2");
  CHECK(facts.metadata.size() == kMetadataRangesMax);
  CHECK(most.read_ <= kFactsBytesMax);
  for (std::size_t i = 1; i < facts.metadata.size(); ++i)
    REQUIRE(facts.metadata[i].offset > facts.metadata[i - 1].end());

  EndlessQcow2 too_many(4 * 1024 * 1024 + 1, 1024 * 1024);
  check_only_complains(read_image_facts("disk.qcow2", too_many));
  CHECK(too_many.read_ < 4096);
}

TEST_CASE("tables that lie close together are joined before any is left out") {
  EndlessQcow2 image(4 * 1024 * 1024, 16 * 1024);
  const ImageFacts facts = read_image_facts("disk.qcow2", image);
  CHECK(facts.metadata.size() <= kMetadataRangesMax);
  CHECK(facts.metadata.back().end() == 4ULL * 1024 * 1024 * 16 * 1024 + 512);
}

TEST_CASE("a table within another range is part of it") {
  Content content = qcow2_sample();
  content.big<std::uint32_t>(56, 4);  // the refcount table covers both L2 tables
  CHECK(facts_of("disk.qcow2", content.str()).metadata == Ranges{{0, 528}, {1024, 2048}});
}

TEST_CASE("an image's reader reads neither beyond the end nor more than its budget") {
  EndlessQcow2 image(1, 512);
  ImageReader reader(image);
  Bytes buffer(static_cast<std::size_t>(kFactsBytesMax / 4));
  CHECK(!reader.read(image.size() - 1, buffer).has_value());
  CHECK(!reader.read(~0ULL, buffer).has_value());
  for (int i = 0; i < 4; ++i)
    CHECK(reader.read(4096, buffer).has_value());
  CHECK(!reader.read(4096, MutableBytes(buffer).first(1)).has_value());
  CHECK(image.read_ == kFactsBytesMax);
}

TEST_CASE("a sparse vmdk is a disk that names its parent and where its tables are") {
  const ImageFacts facts = facts_of("disk.vmdk", vmdk_sample().str());
  CHECK(facts.image_class == ImageClass::kDisk);
  CHECK(facts.plan == TransferPlan::kDemand);
  CHECK(facts.format == "vmdk-sparse");
  CHECK(facts.complaint.empty());
  CHECK(facts.names == Names{"base.vmdk"});
  // Header, descriptor, directory of 64 entries; tables of 16 bytes each.
  CHECK(facts.metadata == Ranges{{0, 1280}, {1536, 16}, {2560, 16}});
}

TEST_CASE("a sparse vmdk whose only directory is the redundant one is understood") {
  Content content = vmdk_sample();
  content.little<std::uint64_t>(48, 2).little<std::uint64_t>(56, 0);
  CHECK(facts_of("disk.vmdk", content.str()).metadata.size() == 3);
}

TEST_CASE("a stream-optimised vmdk has its directory in its footer") {
  Content content = vmdk_sample();
  content.little<std::uint32_t>(8, 0x30001).little<std::uint64_t>(56, ~0ULL);
  SECTION("with a footer") {
    content.text(3072, content.str().substr(0, 512)).little<std::uint64_t>(3072 + 56, 2);
    const ImageFacts facts = facts_of("disk.vmdk", content.str());
    CHECK(facts.format == "vmdk-stream");
    CHECK(facts.metadata == Ranges{{0, 1280}, {1536, 16}, {2560, 16}, {3072, 1024}});
  }
  SECTION("without one") {
    check_only_complains(facts_of("disk.vmdk", content.str()));
  }
  SECTION("with one that points to itself") {
    content.text(3072, content.str().substr(0, 512));
    check_only_complains(facts_of("disk.vmdk", content.str()));
  }
}

TEST_CASE("a vmdk of ESX's sparse kind has tables of 4096 entries") {
  Content content(4 * 512 + 3 * 16384);
  content.text(0, "COWD").little<std::uint32_t>(4, 1).little<std::uint32_t>(20, 4);
  content.little<std::uint32_t>(24, 2).little<std::uint32_t>(2048, 5);
  const ImageFacts facts = facts_of("disk-delta.vmdk", content.str());
  CHECK(facts.format == "vmdk-cowd");
  CHECK(facts.metadata == Ranges{{0, 512}, {2048, 8}, {2560, 16384}});
}

TEST_CASE("a wrapped descriptor names its extents") {
  Content content = vmdk_sample();
  content.little<std::uint64_t>(12, 0);
  CHECK(facts_of("disk.vmdk", content.str()).names == Names{"base.vmdk", "an-old-name.vmdk"});
}

TEST_CASE("an extent of a split vmdk has an empty descriptor") {
  const ImageFacts facts = facts_of("disk-s001.vmdk", vmdk_sample(std::string(512, '\0')).str());
  CHECK(facts.complaint.empty());
  CHECK(facts.names.empty());
  CHECK(facts.metadata == Ranges{{0, 1280}, {1536, 16}, {2560, 16}});
}

TEST_CASE("a sparse vmdk that breaks its format is published as what its name says") {
  Content content = vmdk_sample();
  SECTION("unknown version") {
    content.little<std::uint32_t>(4, 4);
  }
  SECTION("no grains") {
    content.little<std::uint64_t>(20, 0);
  }
  SECTION("grains larger than any") {
    content.little<std::uint64_t>(20, 1ULL << 62);
  }
  SECTION("empty tables") {
    content.little<std::uint32_t>(44, 0);
  }
  SECTION("tables larger than any") {
    content.little<std::uint32_t>(44, 0xffffffff);
  }
  SECTION("more capacity than any") {
    content.little<std::uint64_t>(12, ~0ULL);
  }
  SECTION("directory larger than any") {
    content.little<std::uint64_t>(12, 1ULL << 52);
  }
  SECTION("directory across the end") {
    content.little<std::uint64_t>(12, 2048 * 64);
  }
  SECTION("directory beyond the end") {
    content.little<std::uint64_t>(56, 8);
  }
  SECTION("directory far beyond the end") {
    content.little<std::uint64_t>(56, ~0ULL - 1);
  }
  SECTION("directory that wraps around") {
    content.little<std::uint64_t>(56, 1ULL << 55 | 2);
  }
  SECTION("table beyond the end") {
    content.little<std::uint32_t>(1036, 0xffffffff);
  }
  SECTION("descriptor beyond the end") {
    content.little<std::uint64_t>(28, 1ULL << 55);
  }
  SECTION("descriptor larger than any") {
    content.little<std::uint64_t>(36, ~0ULL);
  }
  SECTION("descriptor of something else") {
    content.text(512, "#!/bin/sh\nexit");
  }
  SECTION("file cut short") {
    content = Content(511).text(0, content.str().substr(0, 511));
  }
  check_only_complains(facts_of("disk.vmdk", content.str()));
}

TEST_CASE("a vmdk without any mark is a flat disk") {
  const ImageFacts facts = facts_of("disk.vmdk", std::string(4096, '\x01'));
  CHECK(facts.format == "vmdk-flat");
  CHECK(facts.image_class == ImageClass::kDisk);
  CHECK(facts.complaint.empty());
  CHECK(facts_of("disk-ctk.vmdk", std::string(4096, '\x01')).image_class == ImageClass::kOther);
}
