// What one image brought serves another one: over the real cache and its have-set.
#include "cache/block_cache.h"
#include "cache/have_set.h"
#include "contract/block_source_contract.h"
#include "fake_remote_session.h"
#include "source/cached_source.h"
#include "source/have_source.h"
#include "source/image_manifest.h"
#include "source/remote_source.h"
#include "source/zero_map_source.h"
#include "support/sample_manifest.h"
#include "support/temp_dir.h"

#include <chrono>
#include <fcntl.h>
#include <filesystem>
#include <thread>
#include <unistd.h>

namespace slipway {

namespace {

constexpr ExportKey kOwner{std::byte{1}};
constexpr ExportKey kStranger{std::byte{2}};

/// One mount of `owner`: a cache that others may share, one after the other.
class HaveRig {
 public:
  HaveRig(const TempDir& directory, const PatternedImage& content, const ExportKey& owner = kOwner,
      bool across = false)
      : content_(content),
        sample_(sample_manifest(content.read({0, content.size()}), content.version())),
        remote_(content),
        owner_(owner),
        bottom_(make_remote_source(remote_)) {
    remote_.set_leaves(sample_.leaves);
    CacheOptions options;
    options.directory = directory / "cache";
    options.size_max = std::uint64_t{1} << 30;
    options.allow_unsafe_file_system = true;
    auto cache = BlockCache::open(options);
    REQUIRE(cache.has_value());
    cache_ = std::move(*cache);
    auto have = HaveSet::open({.directory = directory / "have", .across_owners = across});
    REQUIRE(have.has_value());
    have_ = std::move(*have);
    middle_ = make_have_source(*bottom_, remote_, *cache_, *have_, owner_);
    cached_ = make_cached_source(*cache_, remote_, *middle_);
    top_ = make_zero_map_source(*cached_);
  }

  /// An image with the content, as the file with this inode; `change`: it was written to since.
  std::shared_ptr<const Image> image(std::uint64_t inode, std::int64_t change = 0) {
    VersionRecord version = content_.version();
    version.id.inode = inode;
    version.mtime.seconds += change;
    remote_.set_version(version);
    auto opened = cache_->open_file(owner_, version);
    REQUIRE(opened.has_value());
    auto made = std::make_shared<Image>();
    made->handle = inode;
    made->version = version;
    made->cached = opened->file;
    made->manifest = std::make_shared<ImageManifest>(sample_.manifest, false);
    return made;
  }

  /// Reads all of it; the number of bytes that the server was asked for.
  std::uint64_t read_all(const std::shared_ptr<const Image>& image, Priority priority) {
    const std::size_t before = remote_.seen().size();
    const auto result = start_read(*top_, image, {{0, content_.size()}}, nullptr, priority);
    for (int i = 0; i < 2000 && !result->done(); ++i) {
      remote_.answer_all();
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    REQUIRE(result->succeeded());
    if (priority == Priority::kDemand)
      CHECK(result->equals(content_));
    CHECK(result->faults() == "");
    std::uint64_t asked = 0;
    const auto seen = remote_.seen();
    for (std::size_t i = before; i < seen.size(); ++i) {
      for (const ReadExtent& extent : seen[i].extents)
        asked += extent.length;
    }
    return asked;
  }

  void wait_stored(std::uint64_t bytes) {
    for (int i = 0; i < 5000 && cache_->stats().stored_bytes < bytes; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    REQUIRE(cache_->stats().stored_bytes >= bytes);
  }

  /// Bytes of all units that are not zero, whole units each.
  std::uint64_t content_bytes() const {
    std::uint64_t bytes = 0;
    for (std::uint64_t at = 0; at < content_.size(); at += kUnitSize)
      bytes += is_zero_unit(sample_.manifest, at) ? 0 : kUnitSize;
    return bytes;
  }

  BlockCache& cache() { return *cache_; }

  std::uint64_t copied() const { return middle_->copied_bytes(); }

  FakeRemoteSession& remote() { return remote_; }

  unsigned leaves_asked() const { return remote_.leaves_asked(); }

 private:
  const PatternedImage& content_;
  const SampleManifest sample_;
  FakeRemoteSession remote_;
  const ExportKey owner_;
  std::unique_ptr<BlockSource> bottom_;
  std::unique_ptr<BlockCache> cache_;
  std::unique_ptr<HaveSet> have_;
  std::unique_ptr<HaveSource> middle_;
  std::unique_ptr<CachedSource> cached_;
  std::unique_ptr<BlockSource> top_;
};

const PatternedImage kContent(2 * kRegionSize + 5 * kUnitSize + 77, 31);

/// Fills the directory's cache through image 100 of `owner`.
void fill(const TempDir& directory, const ExportKey& owner = kOwner, bool across = false) {
  HaveRig rig(directory, kContent, owner, across);
  const auto image = rig.image(100);
  const std::uint64_t asked = rig.read_all(image, Priority::kDemand);
  CHECK(asked == rig.content_bytes());
  rig.wait_stored(rig.content_bytes() / 2);
}

}  // namespace

TEST_CASE("what one image brought is not fetched for another one, also after a restart") {
  const TempDir directory;
  fill(directory);
  HaveRig rig(directory, kContent);
  CHECK(rig.read_all(rig.image(101), Priority::kPrefetch) < rig.content_bytes() / 10);
  CHECK(rig.copied() > rig.content_bytes() * 8 / 10);
  const auto third = rig.image(102);
  CHECK(rig.read_all(third, Priority::kPrefetch) == 0);
  CHECK(rig.read_all(third, Priority::kDemand) == 0);
}

TEST_CASE("content of another server or user is copied only with dedup=all") {
  const bool across = GENERATE(false, true);
  const TempDir directory;
  fill(directory, kOwner, across);
  HaveRig rig(directory, kContent, kStranger, across);
  const std::uint64_t asked = rig.read_all(rig.image(101), Priority::kPrefetch);
  CAPTURE(across, asked);
  if (across)
    CHECK(asked < rig.content_bytes() / 10);
  else
    CHECK(asked == rig.content_bytes());
  CHECK((rig.copied() > 0) == across);
}

TEST_CASE("a copy that was damaged on disk is fetched instead") {
  const TempDir directory;
  fill(directory);
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(directory / "cache/data")) {
    if (!entry.is_regular_file())
      continue;
    const int fd = ::open(entry.path().c_str(), O_RDWR | O_CLOEXEC);
    REQUIRE(fd >= 0);
    const Bytes noise(kRegionSize, std::byte{0x5a});
    CHECK(::pwrite(fd, noise.data(), noise.size(), 0) == static_cast<ssize_t>(noise.size()));
    ::close(fd);
  }
  HaveRig rig(directory, kContent);
  const auto image = rig.image(101);
  CHECK(rig.read_all(image, Priority::kPrefetch) > 0);
  CHECK(rig.read_all(image, Priority::kDemand) == 0);  // and it was the right content
}

TEST_CASE("leaves are asked for once for many regions, and what is not here is fetched") {
  const TempDir directory;
  fill(directory);
  const PatternedImage other(2 * kRegionSize, 77);  // its text is the same, its noise is not
  HaveRig rig(directory, other);
  const auto image = rig.image(101);
  const std::uint64_t asked = rig.read_all(image, Priority::kPrefetch);
  CHECK(asked + rig.copied() == rig.content_bytes());
  CHECK(asked >= rig.content_bytes() / 3);
  CHECK(rig.leaves_asked() == 1);
  CHECK(rig.read_all(image, Priority::kDemand) == 0);
}

TEST_CASE("a demand of an image that is not known to share content waits for no leaves") {
  const TempDir directory;
  fill(directory);
  HaveRig rig(directory, kContent);
  const auto image = rig.image(101);
  rig.remote().hold_leaves();
  CHECK(rig.read_all(image, Priority::kDemand) == rig.content_bytes());
  CHECK(rig.leaves_asked() == 1);
  rig.remote().answer_leaves();
}

TEST_CASE("what an image held before it was changed in place serves its next version") {
  const TempDir directory;
  fill(directory);
  HaveRig rig(directory, kContent);
  const std::uint64_t much = rig.content_bytes() * 8 / 10;
  for (const std::int64_t change : {1, 2}) {  // the copies serve, too
    CAPTURE(change);
    const auto image = rig.image(100, change);
    CHECK(rig.read_all(image, Priority::kPrefetch) < rig.content_bytes() / 10);
    CHECK(rig.copied() > much * static_cast<std::uint64_t>(change));
    CHECK(rig.read_all(image, Priority::kDemand) == 0);
  }
}

TEST_CASE("a have-set that is damaged is started anew") {
  const TempDir directory;
  fill(directory);
  for (const auto& entry : std::filesystem::directory_iterator(directory / "have")) {
    if (entry.path().filename() == "CURRENT")
      std::filesystem::resize_file(entry.path(), 3);
  }
  HaveRig rig(directory, kContent);
  CHECK(rig.read_all(rig.image(101), Priority::kPrefetch) == rig.content_bytes());
}

}  // namespace slipway
