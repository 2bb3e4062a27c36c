#pragma once

#include "server/handle_table.h"
#include "server/image_store.h"
#include "server/profile_box.h"
#include "wire/frame.h"
#include "wire/manifest_messages.h"

#include <array>
#include <cstddef>
#include <string>
#include <utility>

namespace slipway {

/// Where a session's profiles lie, and which mount's they are.
struct ProfileDrop {
  std::string directory;  ///< ProfileBox's; "": nowhere
  std::array<std::byte, 16> mount_id{};
};

/// Answers the messages of the feature "manifests", each with one whole frame of at most
/// `frame_max` bytes. Any thread; refers to store and handles.
class ManifestAnswers {
 public:
  ManifestAnswers(ImageStore& store, HandleTable& handles, ProfileDrop drop)
      : store_(store),
        handles_(handles),
        mount_id_(drop.mount_id),
        profiles_(std::move(drop.directory)) {}

  Result<Bytes> answer(const FrameHeader& header, const ManifestRequest& request,
                       std::size_t frame_max);
  Result<Bytes> answer(const FrameHeader& header, const LeavesRequest& request,
                       std::size_t frame_max);
  Result<Bytes> answer(const FrameHeader& header, const ProfileRequest& request);
  Result<Bytes> answer(const FrameHeader& header, const PutProfileRequest& request);

 private:
  Result<VersionRecord> image_of(const NodeRef& node);

  ImageStore& store_;
  HandleTable& handles_;
  const std::array<std::byte, 16> mount_id_;
  ProfileBox profiles_;
};

}  // namespace slipway
