// Published images stay what their hashes say, whichever way a client tries to change them.

#include "manifest_export.h"
#include "server/checkpoint_format.h"
#include "server/checkpoints.h"
#include "server/handle_table.h"

#include <optional>

namespace slipway {
namespace {

constexpr ClientId kClient{std::byte{0xc1}};
constexpr GroupId kGroup{std::byte{0x67}};

/// An export with the published image vm/disk, and checkpoints.
struct PublishedExportFixture : ManifestExport {
  PublishedExportFixture() {
    manifest = state + "/" + manifest_path(publish("disk", content).version.id);
    checkpoints = Checkpoints::open(dir / "journals", kClient, *store).value();
  }

  bool is_as_published() const {
    return fs::exists(manifest) &&
           read_small_file(path("disk"), content.size() + 1).value() == as_text(content);
  }

  /// Nothing: it was opened.
  std::optional<ErrorCode> open_error(Published published = Published::kStays) const {
    const auto opened = store->open_for_writing({"vm/disk", {}}, published);
    return opened ? std::nullopt : std::optional(opened.error().code);
  }

  /// Writes "new" to its start. Its status.
  std::uint32_t commit(std::uint64_t checkpoint, bool even_published) {
    const StageRequest stage{
        kGroup, checkpoint, 0, {{0, StageKind::kData, 0, 3, 3}}, as_bytes("new")};
    REQUIRE(checkpoints->stage(stage).has_value());
    const VersionRecord now = version("disk");
    const CommitFile file{{"vm/disk", now.id}, 0, now, now.size, now.size, now.mtime};
    const auto reply =
        checkpoints->commit({kGroup, checkpoint, 1, {file}, even_published}, handles);
    REQUIRE(reply.has_value());
    return reply->files.at(0).status;
  }

  const Bytes content = make_content("rcz");
  std::string manifest;
  std::unique_ptr<Checkpoints> checkpoints;
  HandleTable handles{16};
};

constexpr std::uint32_t kRefused = static_cast<std::uint32_t>(ErrorCode::kReadOnly);

}  // namespace

TEST_CASE("a published image is opened for writing only by who says so") {
  const PublishedExportFixture f;
  CHECK(f.open_error() == ErrorCode::kReadOnly);
  CHECK(f.open_error() == ErrorCode::kReadOnly);
  CHECK(f.is_as_published());
  CHECK(f.open_error(Published::kMayChange) == std::nullopt);
  CHECK(!fs::exists(f.manifest));
  CHECK(f.open_error() == std::nullopt);  // it is not published any more
}

TEST_CASE("making a file that is there already is no way to open a published image") {
  const PublishedExportFixture f;
  MakeRequest request;
  request.directory = {"vm", {}};
  request.name = "disk";
  CHECK(f.store->make(request).error().code == ErrorCode::kReadOnly);
  CHECK(f.is_as_published());
  request.even_published = true;
  const auto made = f.store->make(request);
  REQUIRE(made.has_value());
  CHECK(!made->reply.made);
  CHECK(made->file->published() == Published::kMayChange);
}

TEST_CASE("a published image just published, renamed or of another mode stays one") {
  PublishedExportFixture f;
  SECTION("young") {
    f.store = f.open_store(wall_clock_now);
  }
  SECTION("renamed") {
    REQUIRE(f.store->rename({1, {"vm", {}}, "disk", {"vm", {}}, "moved", 0}).has_value());
    CHECK(f.store->open_for_writing({"vm/moved", {}}, Published::kStays).error().code ==
          ErrorCode::kReadOnly);
    REQUIRE(f.store->rename({2, {"vm", {}}, "moved", {"vm", {}}, "disk", 0}).has_value());
  }
  SECTION("mode") {
    SetattrRequest request;
    request.node = {"vm/disk", {}};
    request.mask = kSetMode;
    request.mode = 0600;
    CHECK(f.store->setattr(request, nullptr).has_value());
  }
  CHECK(f.open_error() == ErrorCode::kReadOnly);
  CHECK(f.is_as_published());
}

TEST_CASE("an image that was changed on the server is published no more") {
  const PublishedExportFixture f;
  f.patch("disk", 5, as_bytes("changed"));
  CHECK(f.open_error() == std::nullopt);
}

TEST_CASE("the mtime of a published image, by which it is known, is set only by who says so") {
  const PublishedExportFixture f;
  SetattrRequest request;
  request.node = {"vm/disk", {}};
  request.mask = kSetMtime;
  request.mtime = {1'000'000'000, 5};
  CHECK(f.store->setattr(request, nullptr).error().code == ErrorCode::kReadOnly);
  const auto file = f.open("disk");
  CHECK(f.store->setattr(request, file.get()).error().code == ErrorCode::kReadOnly);
  CHECK(f.open_error() == ErrorCode::kReadOnly);
  request.mask = kSetAtime;
  CHECK(f.store->setattr(request, nullptr).has_value());
  request.mask = kSetMtime | kSetPublished;
  CHECK(f.store->setattr(request, nullptr).has_value());
  CHECK(f.version("disk").mtime == request.mtime);
}

TEST_CASE("a published image can be removed and replaced, and what comes is not published") {
  const PublishedExportFixture f;
  SECTION("removed") {
    REQUIRE(f.store->remove({1, {"vm", {}}, "disk", false}).has_value());
    f.write("disk", f.content);
  }
  SECTION("replaced") {
    f.write("new", f.content);
    REQUIRE(f.store->rename({1, {"vm", {}}, "new", {"vm", {}}, "disk", 0}).has_value());
  }
  CHECK(f.open_error() == std::nullopt);
}

TEST_CASE("a commit changes a published image only when it says so") {
  PublishedExportFixture f;
  CHECK(f.commit(1, false) == kRefused);
  CHECK(f.is_as_published());
  CHECK(f.commit(1, true) == kRefused);  // the same checkpoint: answered as before
  CHECK(f.commit(2, true) == 0);
  CHECK(!fs::exists(f.manifest));
  CHECK(read_small_file(f.path("disk"), 1 << 20).value().starts_with("new"));
  CHECK(f.commit(3, false) == 0);
}

TEST_CASE("who has a file open for writing that is published then can't change it any more") {
  PublishedExportFixture f;
  f.write("other", make_content("c"));
  const auto from = f.open("other");
  auto writable = f.store->open_for_writing({"vm/other", {}}, Published::kStays);
  REQUIRE(f.handles.insert(7, std::move(writable).value()).has_value());
  fs::rename(f.path("other"), f.path("kept"));
  f.publish("kept", make_content("c"));  // the same inode
  const std::shared_ptr<OpenImage> open = f.handles.find(7).value();
  CHECK(f.store->copy({1, 6, 0, 7, 0, 5}, *from, *open->file).error().code ==
        ErrorCode::kReadOnly);

  // By its handle alone, as a file that has lost its name.
  const StageRequest stage{kGroup, 1, 0, {{0, StageKind::kData, 0, 3, 3}}, as_bytes("new")};
  REQUIRE(f.checkpoints->stage(stage).has_value());
  const VersionRecord now = f.version("kept");
  const CommitFile file{{"", now.id}, 7, now, now.size, now.size, now.mtime};
  const auto reply = f.checkpoints->commit({kGroup, 1, 1, {file}, false}, f.handles);
  REQUIRE(reply.has_value());
  CHECK(reply->files.at(0).status == kRefused);
  CHECK(read_small_file(f.path("kept"), 1 << 20).value() == as_text(make_content("c")));
}

}  // namespace slipway
