#include "publish_fixture.h"
#include "wire/codec.h"

#include <fstream>

using namespace slipway;

namespace {

std::string read_file(const std::string& path) {
  const auto text = read_small_file(path, 64 * 1024 * 1024);
  REQUIRE(text.has_value());
  return *text;
}

// In place, so that owner and mode stay.
void overwrite(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
}

/// An export with one published image, whose manifest the tests spoil.
struct Planted {
  TestExport images;
  std::string path;
  std::string content;

  Planted() {
    Bytes bytes = soft_bytes(kRegionSize + 3 * kUnitSize + 100, 3);
    std::fill_n(bytes.begin() + 2 * kUnitSize, kUnitSize, std::byte{0});
    images.write("disk.img", bytes);
    images.publish({"disk.img"});
    REQUIRE(images.manifest("disk.img").has_value());
    path = images.manifest_path_of("disk.img");
    content = read_file(path);
  }

  ErrorCode refusal() {
    const auto manifest = images.manifest("disk.img");
    REQUIRE_FALSE(manifest.has_value());
    CHECK_FALSE(manifest.error().message.empty());
    return manifest.error().code;
  }
};

}  // namespace

TEST_CASE("a manifest that was cut off or that has more behind it is not believed") {
  Planted planted;
  for (std::size_t length = 0; length < planted.content.size(); length += 64) {
    CAPTURE(length);
    overwrite(planted.path, planted.content.substr(0, length));
    CHECK(planted.refusal() == ErrorCode::kInvalid);
  }
  overwrite(planted.path, planted.content.substr(0, planted.content.size() - 1));
  CHECK(planted.refusal() == ErrorCode::kInvalid);
  overwrite(planted.path, planted.content + "x");
  CHECK(planted.refusal() == ErrorCode::kInvalid);
  overwrite(planted.path, planted.content);
  CHECK(planted.images.manifest("disk.img").has_value());
}

TEST_CASE("a manifest with any byte of its head altered is not believed") {
  Planted planted;
  const auto manifest = planted.images.manifest("disk.img");
  const std::size_t head = kManifestPrologueSize + (*manifest)->head().size() + kHeadChecksumSize;
  for (std::size_t at = 0; at < head; ++at) {
    CAPTURE(at);
    std::string altered = planted.content;
    altered[at] = static_cast<char>(altered[at] ^ 0x10);
    overwrite(planted.path, altered);
    CHECK(planted.refusal() == ErrorCode::kInvalid);
  }
}

TEST_CASE("a manifest of another format, or that says it is too long, is refused") {
  Planted planted;
  std::string other = planted.content;
  other[8] = 2;
  overwrite(planted.path, other);
  CHECK(planted.refusal() == ErrorCode::kInvalid);
  for (const char byte : {'\x05', '\xff'}) {
    std::string longer = planted.content;
    longer[15] = byte;  // the highest of the length: 80 MiB and 4 GiB
    overwrite(planted.path, longer);
    CHECK(planted.refusal() == ErrorCode::kInvalid);
  }
}

TEST_CASE("a manifest of another file is not believed, though it is whole") {
  Planted planted;
  planted.images.write("other.img", soft_bytes(100, 9));
  planted.images.publish({"other.img"});
  overwrite(planted.path, read_file(planted.images.manifest_path_of("other.img")));
  CHECK(planted.refusal() == ErrorCode::kInvalid);
}

TEST_CASE("a manifest that others may write to is not believed") {
  Planted planted;
  for (const mode_t mode : {0664U, 0646U, 0666U}) {
    REQUIRE(::chmod(planted.path.c_str(), mode) == 0);
    CHECK(planted.refusal() == ErrorCode::kNotPermitted);
  }
  REQUIRE(::chmod(planted.path.c_str(), 0644) == 0);
  CHECK(planted.images.manifest("disk.img").has_value());
}

TEST_CASE("a manifest is believed of root, the image's owner and this user only") {
  if (::geteuid() != 0)
    return;
  Planted planted;
  REQUIRE(::chown(planted.path.c_str(), 12345, 0) == 0);
  CHECK(planted.refusal() == ErrorCode::kNotPermitted);
  const PublishableImage image = planted.images.open("disk.img");
  CHECK(ManifestFile::open(planted.images.served().state(), image.version, 12345).has_value());
}

TEST_CASE("a link, a fifo or a directory in a manifest's place is not opened") {
  Planted planted;
  const std::string aside = planted.images.state_path("aside");
  std::filesystem::rename(planted.path, aside);
  CHECK(planted.refusal() == ErrorCode::kNotFound);
  std::filesystem::create_symlink(aside, planted.path);
  CHECK(planted.refusal() == ErrorCode::kInvalid);
  std::filesystem::remove(planted.path);
  REQUIRE(::mkfifo(planted.path.c_str(), 0644) == 0);
  CHECK(planted.refusal() == ErrorCode::kInvalid);
  std::filesystem::remove(planted.path);
  std::filesystem::create_directory(planted.path);
  CHECK(planted.refusal() == ErrorCode::kInvalid);
  std::filesystem::remove(planted.path);

  const std::string manifests = planted.images.state_path("manifests");
  std::filesystem::rename(aside, planted.path);
  std::filesystem::rename(manifests, aside);
  std::filesystem::create_directory_symlink(aside, manifests);
  CHECK(planted.refusal() == ErrorCode::kNotPermitted);
}

TEST_CASE("the leaves of a region are those of its units, in order") {
  Planted planted;
  const auto manifest = planted.images.manifest("disk.img");
  REQUIRE(manifest.has_value());
  Bytes leaves(3, std::byte{1});
  REQUIRE((*manifest)->read_leaves(0, leaves).has_value());
  CHECK(leaves.size() == 3 + (kUnitsPerRegion - 1) * kLeafSize);
  Bytes last;
  REQUIRE((*manifest)->read_leaves(1, last).has_value());
  CHECK(node_of((*manifest)->manifest().regions[1].zero, last) ==
        (*manifest)->manifest().regions[1].node);
  // A file that is cut off while it is open is an error, not less.
  std::filesystem::resize_file(planted.path, planted.content.size() - 40);
  CHECK_FALSE((*manifest)->read_leaves(1, last).has_value());
  CHECK(last.size() == 4 * kLeafSize);
}
