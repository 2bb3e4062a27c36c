#pragma once

#include "manifest/profile.h"
#include "manifest_export.h"
#include "server/request_handler.h"
#include "test_client.h"

#include <algorithm>
#include <map>
#include <sched.h>
#include <sys/mount.h>

namespace slipway {

/// A handler over an export with published files, driven without any connection.
struct ManifestFixture : ManifestExport {
  template <class T>
  std::vector<TestReply> ask(MessageType type, T body, std::size_t frame_max = kFrameMax) {
    Request request;
    request.header = {type, 0, 0, 42, 0, 0};
    request.body = std::move(body);
    const std::unique_ptr<Answer> answer = handler.begin(std::move(request), frame_max);
    std::vector<TestReply> replies;
    for (bool done = false; !done;) {
      Answer::Step step = answer->step(tools);
      done = step.done;
      if (!step.frame)
        continue;
      Bytes frame = std::move(step.frame->head);
      append(frame, step.frame->data);
      CHECK(frame.size() <= frame_max);
      const FrameHeader header = decode_frame_header(frame).value();
      CHECK(header.has_more() == !done);
      replies.push_back({header, std::move(frame)});
    }
    return replies;
  }

  Attributes open(std::uint64_t handle, const std::string& name) {
    const auto replies = ask(MessageType::kOpen, OpenRequest{handle, {"vm/" + name, {}}, 0});
    return decode_attributes(replies.at(0).body()).value();
  }

  ManifestReply manifest(const std::string& name, std::uint64_t offset = 0,
                         const RootHash& known = {}, std::size_t frame_max = kFrameMax) {
    const auto replies =
        ask(MessageType::kManifest, ManifestRequest{{"vm/" + name, {}}, offset, known}, frame_max);
    REQUIRE(replies.at(0).header.status == 0);
    return decode_manifest_reply(replies[0].body()).value();
  }

  std::vector<Bytes> leaves(std::uint64_t handle, std::uint64_t region, std::uint32_t count,
                            std::size_t frame_max = kFrameMax) {
    const auto replies = ask(MessageType::kLeaves, LeavesRequest{handle, region, count}, frame_max);
    REQUIRE(replies.at(0).header.status == 0);
    return decode_leaves_reply(replies[0].body()).value().regions;
  }

  template <class T>
  ErrorCode error_of(MessageType type, T body) {
    const auto replies = ask(type, std::move(body));
    return error_code_from_wire(replies.at(0).header.status);
  }

  RequestHandler handler{*store, 16, {state + "/profiles", {std::byte{7}}}};
  WorkerTools tools;
};

/// What came of the leaves in an answer, checked against the manifest.
struct SeenLeaves {
  std::vector<std::uint64_t> regions;  ///< in the order that they came

  void look_at(const std::vector<TestReply>& replies, const Manifest& manifest,
               std::uint64_t handle) {
    for (const TestReply& reply : replies) {
      const ReadReply read = decode_read_reply(reply.body()).value();
      ByteView data = read.data;
      for (const Segment& segment : read.segments) {
        const ByteView stored = data.first(segment.stored);
        data = data.subspan(segment.stored);
        if (read.files[segment.file].handle != handle)
          continue;
        const std::uint64_t region = region_of(segment.offset);
        if (segment.kind == SegmentKind::kLeaves) {
          regions.push_back(region);
          CHECK(segment.offset == region * kRegionSize);
          CHECK(segment.length ==
                std::min<std::uint64_t>(kRegionSize, manifest.size() - segment.offset));
          CHECK(node_of(manifest.regions[region].zero, stored) == manifest.regions[region].node);
        } else if (segment.stored != 0) {
          CHECK(std::count(regions.begin(), regions.end(), region) == 1);
        }
      }
    }
  }
};

inline std::vector<Segment> segments_of(const TestReply& reply) {
  return decode_read_reply(reply.body()).value().segments;
}

// Four regions: with and without data, the last one short.
inline Bytes four_regions(unsigned seed = 4) {
  std::string units(kUnitsPerRegion, 'z');
  units.replace(10, 6, "rrcrcc");
  std::string all(kUnitsPerRegion, 'r');
  return make_content(units + std::string(kUnitsPerRegion, 'z') + all + "zzrzz", seed, 77);
}

}  // namespace slipway
