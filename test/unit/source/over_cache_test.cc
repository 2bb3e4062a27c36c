// The cached source over the real cache: what the fakes pretend must be what it does.
#include "cache/block_cache.h"
#include "contract/block_source_contract.h"
#include "fake_remote_session.h"
#include "source/cached_source.h"
#include "source/readahead_source.h"
#include "source/remote_source.h"
#include "support/temp_dir.h"

#include <chrono>
#include <thread>

namespace slipway {

namespace {

class OverCacheRig final : public SourceRig {
 public:
  OverCacheRig(const PatternedImage& content, std::uint64_t cache_size, CacheOptions::Verify verify)
      : remote_(content), remote_source_(make_remote_source(remote_)) {
    CacheOptions options;
    options.directory = directory_ / "cache";
    options.size_max = cache_size;
    options.verify = verify;
    options.allow_unsafe_file_system = true;
    auto cache = BlockCache::open(options);
    REQUIRE(cache.has_value());
    cache_ = std::move(*cache);
    auto opened = cache_->open_file({}, content.version());
    REQUIRE(opened.has_value());
    image_ = std::make_shared<const Image>(Image{5, content.version(), opened->file});
    cached_ = make_cached_source(*cache_, remote_, *remote_source_);
    readahead_ = make_readahead_source(*cached_, link_estimate_of(remote_));
  }

  BlockSource& source() override { return *readahead_; }

  std::shared_ptr<const Image> image() override { return image_; }

  void let_go() override { remote_.answer_all(); }

  void fail(const Error& error) override {
    for (const CallId call : remote_.waiting())
      remote_.fail_call(call, error);
  }

  CachedSourceStats stats() const { return cached_->stats(); }

  CacheStats cache_stats() const { return cache_->stats(); }

 private:
  TempDir directory_;
  FakeRemoteSession remote_;
  std::unique_ptr<BlockSource> remote_source_;
  std::unique_ptr<BlockCache> cache_;
  std::unique_ptr<CachedSource> cached_;
  std::unique_ptr<BlockSource> readahead_;
  std::shared_ptr<const Image> image_;
};

constexpr std::uint64_t kRoomy = std::uint64_t{1} << 30;

}  // namespace

TEST_CASE("the whole stack over the real cache keeps the contract of a block source") {
  const auto verify = GENERATE(CacheOptions::Verify::kFirst, CacheOptions::Verify::kAlways);
  check_block_source_contract([verify](const PatternedImage& content) {
    return std::make_unique<OverCacheRig>(content, kRoomy, verify);
  });
}

TEST_CASE("a second read is served from the real cache's file") {
  const PatternedImage content(2 * kRegionSize + 99, 31);
  OverCacheRig rig(content, kRoomy, CacheOptions::Verify::kFirst);
  const std::uint64_t half = content.size() / 2;
  const auto first = start_read(rig.source(), rig.image(), {{0, half}});
  rig.let_go();
  REQUIRE(first->wait());
  CHECK(first->equals(content));
  // Content is in memory until the store thread has it on disk.
  for (int i = 0; i < 1000 && rig.cache_stats().stored_bytes < 64 * kUnitSize; i++)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  const std::uint64_t fetched = rig.stats().demand_bytes;
  const auto second = start_read(rig.source(), rig.image(), {{0, half}});
  CHECK(second->done());
  CHECK(second->equals(content));
  CHECK(second->file_bytes() > 0);
  CHECK(rig.stats().demand_bytes == fetched);
}

}  // namespace slipway
