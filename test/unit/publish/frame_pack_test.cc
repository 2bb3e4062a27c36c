#include "server/frame_pack.h"

#include "publish_fixture.h"

#include <fstream>

using namespace slipway;

namespace {

constexpr mode_t kMode = 0644;
constexpr std::size_t kFramesSize = 5 + 1 + 7 + 3 * kFrameChecksumSize;  // of the packed ones

struct Packed {
  TestExport images;
  ContentHash root{};
  std::string path;
  std::string content;

  Packed() {
    root.fill(std::byte{7});
    auto writer = FramePackWriter::create(images.served().state());
    REQUIRE(writer.has_value());
    REQUIRE((*writer)->add(3, bytes_of("three")).has_value());
    REQUIRE((*writer)->add(4, bytes_of("4")).has_value());
    REQUIRE((*writer)->add(1000000, bytes_of("million")).has_value());
    REQUIRE((*writer)->finish(root, ::geteuid(), ::getegid(), kMode).has_value());
    path = images.state_path(frames_path(root));
    const auto text = read_small_file(path, 4096);
    REQUIRE(text.has_value());
    content = *text;
  }

  Result<std::shared_ptr<const FramePack>> open() {
    return FramePack::open(images.served().state(), root, ::geteuid());
  }

  void overwrite(const std::string& bytes) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
  }
};

}  // namespace

TEST_CASE("a frame pack gives each frame back, and none for units without") {
  Packed packed;
  const auto pack = packed.open();
  REQUIRE(pack.has_value());
  CHECK((*pack)->bytes() == kFramesSize);
  Bytes frames;
  CHECK((*pack)->read(1000000, frames).value() == 7);
  CHECK((*pack)->read(3, frames).value() == 5);
  CHECK((*pack)->read(4, frames).value() == 1);
  CHECK(as_text(frames) == "millionthree4");
  for (const std::uint64_t unit :
       {std::uint64_t{0}, std::uint64_t{5}, std::uint64_t{1000001}, (std::uint64_t{1} << 32) + 3})
    CHECK((*pack)->read(unit, frames).value() == 0);
  CHECK(frames.size() == 13);
}

TEST_CASE("a pack without frames is a pack") {
  TestExport images;
  const ContentHash root{};
  auto writer = FramePackWriter::create(images.served().state());
  REQUIRE((*writer)->finish(root, ::geteuid(), ::getegid(), kMode).has_value());
  const auto pack = FramePack::open(images.served().state(), root, ::geteuid());
  REQUIRE(pack.has_value());
  CHECK((*pack)->bytes() == 0);
}

TEST_CASE(
    "a pack that was cut off, made longer or altered around its frames is refused, "
    "and a frame that was altered too") {
  Packed packed;
  for (std::size_t length = 0; length < packed.content.size(); ++length) {
    CAPTURE(length);
    packed.overwrite(packed.content.substr(0, length));
    CHECK_FALSE(packed.open().has_value());
  }
  packed.overwrite(packed.content + "x");
  CHECK_FALSE(packed.open().has_value());
  for (std::size_t at = 0; at < packed.content.size(); ++at) {
    CAPTURE(at);
    std::string altered = packed.content;
    altered[at] = static_cast<char>(altered[at] ^ 1);
    packed.overwrite(altered);
    const bool is_frame = at >= kPackHeaderSize && at < kPackHeaderSize + kFramesSize;
    const auto pack = packed.open();
    CHECK(pack.has_value() == is_frame);
    if (!pack)
      continue;
    // One frame is damaged, the others are not.
    std::size_t readable = 0;
    for (const std::uint64_t unit : {3U, 4U, 1000000U}) {
      Bytes frame;
      const auto length = (*pack)->read(unit, frame);
      readable += length ? 1U : 0U;
      CHECK((length || (length.error().code == ErrorCode::kInvalid && frame.empty())));
    }
    CHECK(readable == 2);
  }
}

TEST_CASE("a pack is believed as a manifest is: of the right owner, written by nobody else") {
  Packed packed;
  REQUIRE(::chmod(packed.path.c_str(), 0664) == 0);
  CHECK(packed.open().error().code == ErrorCode::kNotPermitted);
  REQUIRE(::chmod(packed.path.c_str(), 0644) == 0);
  ContentHash other{};
  CHECK(FramePack::open(packed.images.served().state(), other, 0).error().code ==
        ErrorCode::kNotFound);
  // The pack of other content under this name.
  std::filesystem::copy_file(packed.path, packed.images.state_path(frames_path(other)));
  CHECK(FramePack::open(packed.images.served().state(), other, ::geteuid()).error().code ==
        ErrorCode::kInvalid);
  if (::geteuid() == 0) {
    REQUIRE(::chown(packed.path.c_str(), 12345, 0) == 0);
    CHECK(packed.open().error().code == ErrorCode::kNotPermitted);
  }
}

TEST_CASE("a pack that is not finished leaves nothing behind") {
  TestExport images;
  {
    auto writer = FramePackWriter::create(images.served().state());
    REQUIRE(writer.has_value());
    REQUIRE((*writer)->add(0, random_bytes(9000, 1)).has_value());
    CHECK_FALSE(std::filesystem::is_empty(images.state_path("frames")));
  }
  CHECK(std::filesystem::is_empty(images.state_path("frames")));
}

TEST_CASE("a frame that was cut off while the pack is open is an error") {
  Packed packed;
  const auto pack = packed.open();
  std::filesystem::resize_file(packed.path, kPackHeaderSize + 2);
  Bytes frames;
  CHECK_FALSE((*pack)->read(3, frames).has_value());
  CHECK(frames.empty());
}
