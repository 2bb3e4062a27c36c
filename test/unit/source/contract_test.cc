#include "cache/block_cache.h"
#include "contract/block_source_contract.h"
#include "fake_remote_session.h"
#include "source/cached_source.h"
#include "source/readahead_source.h"
#include "source/remote_source.h"
#include "support/fake_block_cache.h"
#include "support/fake_source.h"

namespace slipway {

namespace {

std::shared_ptr<const Image> image_of(const PatternedImage& content,
                                      std::shared_ptr<CachedFile> cached = nullptr) {
  return std::make_shared<const Image>(Image{17, content.version(), std::move(cached)});
}

class FakeRig final : public SourceRig {
 public:
  explicit FakeRig(const PatternedImage& content) : fake_(content), image_(image_of(content)) {}

  BlockSource& source() override { return fake_; }

  std::shared_ptr<const Image> image() override { return image_; }

  void let_go() override { fake_.answer_all(); }

  void fail(const Error& error) override { fake_.fail_all(error); }

 private:
  FakeSource fake_;
  std::shared_ptr<const Image> image_;
};

class RemoteRig final : public SourceRig {
 public:
  explicit RemoteRig(const PatternedImage& content)
      : remote_(content),
        source_(make_remote_source(remote_, {16 * kUnitSize})),
        image_(image_of(content)) {}

  BlockSource& source() override { return *source_; }

  std::shared_ptr<const Image> image() override { return image_; }

  void let_go() override { remote_.answer_all(); }

  void fail(const Error& error) override {
    for (const CallId call : remote_.waiting())
      remote_.fail_call(call, error);
  }

 private:
  FakeRemoteSession remote_;
  std::unique_ptr<BlockSource> source_;
  std::shared_ptr<const Image> image_;
};

/// The whole stack over a fake source, or only the cached source of it, with or without a cache.
class StackRig final : public SourceRig {
 public:
  StackRig(const PatternedImage& content, bool readahead, bool cached,
           FakeBlockCache::Stores stores)
      : remote_(content),
        fake_(content),
        cached_(make_cached_source(cache_, remote_, fake_)),
        readahead_(make_readahead_source(*cached_, nullptr)),
        image_(image_of(content, cached ? cache_.open(content.version()) : nullptr)),
        use_readahead_(readahead) {
    cache_.set_stores(stores);
  }

  BlockSource& source() override { return use_readahead_ ? *readahead_ : *cached_; }

  std::shared_ptr<const Image> image() override { return image_; }

  void let_go() override { fake_.answer_all(); }

  void fail(const Error& error) override { fake_.fail_all(error); }

 private:
  FakeRemoteSession remote_;
  FakeBlockCache cache_;
  FakeSource fake_;
  std::unique_ptr<CachedSource> cached_;
  std::unique_ptr<BlockSource> readahead_;
  std::shared_ptr<const Image> image_;
  const bool use_readahead_;
};

}  // namespace

TEST_CASE("the fake source keeps the contract of a block source") {
  check_block_source_contract(
      [](const PatternedImage& content) { return std::make_unique<FakeRig>(content); });
}

TEST_CASE("the remote source keeps the contract of a block source") {
  check_block_source_contract(
      [](const PatternedImage& content) { return std::make_unique<RemoteRig>(content); });
}

TEST_CASE("the cached source keeps the contract of a block source, whatever the cache does") {
  const auto stores = GENERATE(FakeBlockCache::Stores::kAtOnce, FakeBlockCache::Stores::kHeld,
                               FakeBlockCache::Stores::kRefused);
  check_block_source_contract([stores](const PatternedImage& content) {
    return std::make_unique<StackRig>(content, false, true, stores);
  });
}

TEST_CASE("the cached source keeps the contract for images that are not cached") {
  check_block_source_contract([](const PatternedImage& content) {
    return std::make_unique<StackRig>(content, false, false, FakeBlockCache::Stores::kAtOnce);
  });
}

TEST_CASE("the read-ahead source keeps the contract of a block source") {
  check_block_source_contract([](const PatternedImage& content) {
    return std::make_unique<StackRig>(content, true, true, FakeBlockCache::Stores::kAtOnce);
  });
}

}  // namespace slipway
