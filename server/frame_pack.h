#pragma once

#include "base/bytes.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "manifest/manifest.h"
#include "server/frame_table.h"

#include <cstdint>
#include <memory>
#include <string>
#include <sys/types.h>
#include <vector>

namespace slipway {

/// The zstd frames of one published content, made once by `slipwayd publish`
/// (docs/manifest-format.md, "Frame packs"): for each unit that is not zero and that shrinks, its
/// frame. Named by the content's root, so it serves every file with this content. Immutable; any
/// thread. Owners: open images. A damaged frame is an error of read().
class FramePack {
 public:
  /// kNotFound; kInvalid, kNotPermitted: one that can't be used (owner and mode as for manifests).
  static Result<std::shared_ptr<const FramePack>> open(int state, const ContentHash& root,
                                                       uid_t image_owner);

  /// Appends the frame of unit `unit` (its number in the image); its size, or 0 when it has none.
  Result<std::uint32_t> read(std::uint64_t unit, Bytes& to) const;

  std::uint64_t bytes() const noexcept { return bytes_; }  ///< of all frames and their checksums

 private:
  FramePack() = default;

  UniqueFd fd_;
  std::vector<FrameEntry> entries_;  ///< ascending by unit
  std::uint64_t bytes_ = 0;
};

/// Writes a pack aside and puts it in place at finish(); the destructor of an unfinished one leaves
/// nothing. One thread.
class FramePackWriter {
 public:
  static Result<std::unique_ptr<FramePackWriter>> create(int state);
  virtual ~FramePackWriter() = default;

  /// Units ascend.
  virtual Status add(std::uint64_t unit, ByteView frame) = 0;

  /// With the image's owner and mode (less its write bits for others).
  virtual Status finish(const ContentHash& root, uid_t owner, gid_t group, mode_t mode) = 0;

  virtual std::uint64_t bytes() const noexcept = 0;
};

}  // namespace slipway
