#include "contract/block_source_contract.h"
#include "fake_remote_session.h"
#include "sizes.h"
#include "source/image_manifest.h"
#include "source/remote_source.h"
#include "source/zero_map_source.h"
#include "support/sample_manifest.h"

#include <memory>

namespace slipway {
namespace {

/// A published image of some regions: zero map over the remote source.
struct ManifestRig {
  explicit ManifestRig(bool pinned = false, std::uint64_t size = 2 * kRegionSize + 5 * kU + 1234)
      : content(size, 11),
        sample(sample_manifest(content.read({0, size}), content.version())),
        remote(content),
        bottom(make_remote_source(remote)),
        source(make_zero_map_source(*bottom)),
        known(std::make_shared<ImageManifest>(sample.manifest, pinned)) {
    remote.set_leaves(sample.leaves);
    auto made = std::make_shared<Image>();
    made->handle = 17;
    made->version = content.version();
    made->manifest = known;
    image = std::move(made);
  }

  std::shared_ptr<ReadResult> read(std::vector<ByteRange> ranges,
                                   Priority priority = Priority::kDemand) {
    return start_read(*source, image, std::move(ranges), nullptr, priority);
  }

  std::uint64_t first_unit(bool zero, std::uint64_t from = 0) const {
    while (is_zero_unit(sample.manifest, from * kU) != zero)
      ++from;
    return from;
  }

  PatternedImage content;
  SampleManifest sample;
  FakeRemoteSession remote;
  std::unique_ptr<BlockSource> bottom;
  std::unique_ptr<BlockSource> source;
  std::shared_ptr<ImageManifest> known;
  std::shared_ptr<const Image> image;
};

/// The unit's bytes are other ones from now on, as if the server's file were damaged.
void damage(FakeRemoteSession& remote, std::uint64_t unit) {
  const auto kept = std::make_shared<Bytes>();
  remote.set_twist([unit, kept](ReadReply& reply) {
    kept->assign(reply.data.begin(), reply.data.end());
    std::size_t at = 0;
    for (Segment& segment : reply.segments) {
      const bool has = segment.kind == SegmentKind::kData && segment.offset <= unit * kU &&
                       unit * kU < segment.offset + segment.length;
      if (has)
        (*kept)[at + (unit * kU - segment.offset)] ^= std::byte{1};
      at += segment.stored;
    }
    reply.data = *kept;
  });
}

}  // namespace

TEST_CASE("a read of zeros that a manifest names is answered at once, without a request") {
  ManifestRig rig;
  const std::uint64_t unit = rig.first_unit(true);
  const auto result = rig.read({{unit * kU + 5, 100}});
  CHECK(result->succeeded());
  CHECK(result->equals(rig.content));
  CHECK(rig.remote.seen().empty());
  const auto last = rig.read({{rig.content.size(), 100}});
  CHECK(last->succeeded());
}

TEST_CASE("no zero unit of a published image is ever requested") {
  ManifestRig rig;
  const auto result = rig.read({{3, rig.content.size() - 3}});
  rig.remote.answer_all();
  CHECK(result->succeeded());
  CHECK(result->equals(rig.content));
  CHECK(result->faults() == "");
  for (const auto& request : rig.remote.seen()) {
    for (const ReadExtent& extent : request.extents) {
      for (std::uint64_t at = extent.offset;
           at < std::min(extent.offset + extent.length, rig.content.size()); at += kU)
        CHECK_FALSE(is_zero_unit(rig.sample.manifest, at));
    }
  }
}

TEST_CASE("leaves are asked for until they are known, and content is checked against them") {
  ManifestRig rig;
  const std::uint64_t unit = rig.first_unit(false);
  const auto first = rig.read({{unit * kU, 10}});
  CHECK(rig.remote.seen().back().want_leaves);
  rig.remote.answer_all();
  CHECK(first->equals(rig.content));
  CHECK(rig.known->has_leaves(0));
  const std::uint64_t other = rig.first_unit(false, unit + 1);
  const auto second = rig.read({{other * kU, 10}});
  CHECK_FALSE(rig.remote.seen().back().want_leaves);
  rig.remote.answer_all();
  CHECK(second->equals(rig.content));
  CHECK(rig.known->trusted());
  CHECK(rig.known->check_bytes(unit * kU, rig.content.read({unit * kU, kU})) ==
        ImageManifest::Verdict::kRight);
  Bytes wrong = rig.content.read({unit * kU, kU});
  wrong.back() ^= std::byte{1};
  CHECK(rig.known->check_bytes(unit * kU, wrong) == ImageManifest::Verdict::kWrong);
}

TEST_CASE("content that contradicts its manifest costs the manifest our trust, not the read") {
  ManifestRig rig;
  std::uint64_t unit = 0;
  while (rig.content.kind_of(unit) != PatternedImage::Kind::kNoise)
    ++unit;
  damage(rig.remote, unit);
  const auto result = rig.read({{unit * kU + 100, 50}});
  rig.remote.answer_all();
  CHECK(result->succeeded());
  CHECK_FALSE(rig.known->trusted());
  // From now on its zero map is not believed either.
  const auto zeros = rig.read({{rig.first_unit(true) * kU, 10}});
  CHECK(rig.remote.waiting().size() == 1);
  rig.remote.answer_all();
  CHECK(zeros->equals(rig.content));
}

TEST_CASE("an image whose change time moved loses its zero map, unless it is pinned") {
  const bool pinned = GENERATE(false, true);
  CAPTURE(pinned);
  ManifestRig rig(pinned);
  VersionRecord moved = rig.content.version();
  ++moved.ctime.seconds;
  rig.remote.set_version(moved);
  const auto result = rig.read({{rig.first_unit(false) * kU, 50}});
  rig.remote.answer_all();
  CHECK(result->equals(rig.content));
  CHECK(rig.known->trusted() == pinned);
}

TEST_CASE("content that is not of the root that an image is pinned to is refused") {
  ManifestRig rig(true);
  std::uint64_t unit = 0;
  while (rig.content.kind_of(unit) != PatternedImage::Kind::kNoise)
    ++unit;
  damage(rig.remote, unit);
  const auto result = rig.read({{unit * kU + 100, 50}});
  rig.remote.answer_all();
  CHECK(result->error() == ErrorCode::kCorrupt);
  CHECK(rig.known->trusted());
}

TEST_CASE("without leaves nothing of a pinned image is read") {
  ManifestRig rig(true);
  rig.remote.set_leaves({});
  const auto result = rig.read({{rig.first_unit(false) * kU, 50}});
  rig.remote.answer_all();
  CHECK(result->error() == ErrorCode::kCorrupt);
}

TEST_CASE("zeros of a pinned image are believed only when the leaves of their region are known") {
  ManifestRig rig(true);
  const std::uint64_t unit = rig.first_unit(true);
  const auto asked = rig.read({{unit * kU, 10}});
  CHECK(rig.remote.waiting().size() == 1);
  rig.remote.answer_all();
  CHECK(asked->equals(rig.content));
  const auto known = rig.read({{unit * kU, 10}});
  CHECK(rig.remote.seen().size() == 1);
  CHECK(known->equals(rig.content));
}

TEST_CASE("zeros where a manifest has content contradict it") {
  ManifestRig rig;
  const std::uint64_t unit = rig.first_unit(false);
  rig.remote.set_twist([](ReadReply& reply) {
    for (Segment& segment : reply.segments) {
      segment.kind = SegmentKind::kZero;
      segment.stored = 0;
    }
    reply.data = {};
  });
  rig.remote.set_leaves({});
  const auto result = rig.read({{unit * kU, 10}});
  rig.remote.answer_all();
  CHECK(result->succeeded());
  CHECK_FALSE(rig.known->trusted());
}

TEST_CASE("leaves that do not fit their node are refused") {
  ManifestRig rig;
  Bytes wrong = rig.sample.leaves[0];
  wrong[5] ^= std::byte{1};
  CHECK(rig.known->add_leaves(0, wrong).error().code == ErrorCode::kCorrupt);
  wrong = rig.sample.leaves[0];
  wrong.resize(wrong.size() - kLeafSize);
  CHECK_FALSE(rig.known->add_leaves(0, wrong));
  CHECK_FALSE(rig.known->add_leaves(3, {}));
  CHECK_FALSE(rig.known->has_leaves(0));
  CHECK(rig.known->add_leaves(0, rig.sample.leaves[0]));
  CHECK(rig.known->has_leaves(0));
}

TEST_CASE("a prefetch of zeros is done at once and delivers nothing") {
  ManifestRig rig;
  const auto result =
      rig.read({{rig.first_unit(true) * kU, kU}}, Priority::kPrefetch);
  CHECK(result->succeeded());
  CHECK(rig.remote.seen().empty());
}

}  // namespace slipway
