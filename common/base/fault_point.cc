#include "base/fault_point.h"

#include <atomic>
#include <charconv>
#include <cstdlib>
#include <string>
#include <unistd.h>

namespace slipway {

namespace {

struct Fault {
  bool is_armed = false;
  std::string name;
  std::atomic<unsigned> left{0};  ///< times that it is still to be reached

  void arm(std::string_view spec) {
    const auto at = spec.rfind('@');
    name = spec.substr(0, at);
    unsigned times = 1;
    if (at != std::string_view::npos)
      std::from_chars(spec.data() + at + 1, spec.data() + spec.size(), times);
    left = times;
    is_armed = !name.empty() && times != 0;
  }
};

Fault& this_process_fault() {
  static Fault fault;
  static const bool kRead = [] {
    if (const char* const spec = std::getenv("SLIPWAY_FAULT"))
      fault.arm(spec);
    return true;
  }();
  (void)kRead;
  return fault;
}

}  // namespace

void fault_point(std::string_view name) noexcept {
  Fault& fault = this_process_fault();
  if (fault.is_armed && name == fault.name && fault.left.fetch_sub(1) == 1)
    ::_exit(kFaultExitCode);
}

void arm_fault_point(std::string_view spec) {
  this_process_fault().arm(spec);
}

}  // namespace slipway
