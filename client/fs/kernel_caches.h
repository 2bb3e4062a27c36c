#pragma once

#include <cstdint>

namespace slipway {

/// What the file system tells the kernel to forget. Any thread but none that serves a kernel
/// request, except where said.
class KernelCaches {
 public:
  virtual ~KernelCaches() = default;

  /// Attributes only, before it returns. Never waits for pages.
  virtual void forget_attributes(std::uint64_t nodeid) = 0;

  /// Attributes and pages, soon, on a thread of its own: it waits for reads under way. May be
  /// called from anywhere.
  virtual void forget_content(std::uint64_t nodeid) = 0;
};

}  // namespace slipway
