#pragma once

#include "base/result.h"
#include "publish/published_export.h"

#include <cstdint>
#include <optional>

namespace slipway {

/// How much the frame packs of an export take, and may. One thread.
class FrameStore {
 public:
  /// `bytes_max`: nothing means a tenth of the file system.
  static Result<FrameStore> open(const PublishedExport& served,
                                 const std::optional<std::uint64_t>& bytes_max);

  std::uint64_t bytes_max() const noexcept { return max_; }

  std::uint64_t room() const noexcept { return used_ < max_ ? max_ - used_ : 0; }

  void add(std::uint64_t bytes) noexcept { used_ += bytes; }

 private:
  std::uint64_t max_ = 0;
  std::uint64_t used_ = 0;
};

}  // namespace slipway
