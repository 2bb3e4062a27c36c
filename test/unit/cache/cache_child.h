#pragma once

#include "base/unique_fd.h"

#include <string>
#include <vector>

namespace slipway {

/// A process that uses a cache and can be killed at any moment (cache_child_main.cc says what it
/// can do). Killed and waited for on destruction.
class CacheChild {
 public:
  explicit CacheChild(std::vector<std::string> arguments);
  ~CacheChild();
  CacheChild(const CacheChild&) = delete;
  CacheChild& operator=(const CacheChild&) = delete;

  int pid() const noexcept { return pid_; }

  /// The next line that it prints; "" when it has ended.
  std::string read_line();

  void kill();

 private:
  int pid_ = -1;
  UniqueFd output_;
};

}  // namespace slipway
