#pragma once

#include <atomic>
#include <memory>

namespace slipway {

/// Of several who may end a wait (its event, or whoever gives it up) the first one takes it. Any
/// thread. Owners: the completions.
class Once {
 public:
  bool take() noexcept { return !taken_.exchange(true); }

 private:
  std::atomic<bool> taken_{false};
};

}  // namespace slipway
