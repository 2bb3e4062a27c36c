#pragma once

#include "contract/block_source_contract.h"
#include "fake_remote_session.h"
#include "source/cached_source.h"
#include "source/readahead_source.h"
#include "support/fake_block_cache.h"
#include "support/fake_source.h"

#include <memory>
#include <utility>
#include <vector>

namespace slipway {

/// A cached source between a fake cache and a fake source, with one open image.
struct CachedStack {
  explicit CachedStack(std::uint64_t size, const LinkEstimateFn& link = nullptr)
      : content(size, 21), remote(content), fake(content) {
    CachedSourceOptions options;
    options.link = link;
    source = make_cached_source(cache, remote, fake, options);
    file = cache.open(content.version());
    image = open_image(1);
  }

  std::shared_ptr<const Image> open_image(std::uint64_t handle) {
    return std::make_shared<const Image>(Image{handle, content.version(), file});
  }

  std::shared_ptr<ReadResult> read(std::vector<ByteRange> ranges, ReadId* id = nullptr) {
    return start_read(*source, image, std::move(ranges), id);
  }

  std::shared_ptr<ReadResult> prefetch(std::vector<ByteRange> ranges, ReadId* id = nullptr) {
    return start_read(*source, image, std::move(ranges), id, Priority::kPrefetch);
  }

  PatternedImage content;
  FakeRemoteSession remote;
  FakeBlockCache cache;
  FakeSource fake;
  std::unique_ptr<CachedSource> source;
  std::shared_ptr<FakeCachedFile> file;
  std::shared_ptr<const Image> image;
};

}  // namespace slipway
