#pragma once

#include <string_view>

namespace slipway {

/// A place where tests let this process die, as by kill -9: what the kernel has been given stays,
/// everything else is gone. The environment variable SLIPWAY_FAULT says where, read once:
///
///   SLIPWAY_FAULT=name      the first time that fault_point("name") is reached
///   SLIPWAY_FAULT=name@N    the Nth time
///
/// The exit code is then kFaultExitCode. Without the variable this costs one test of a bool.
/// Any thread may call it. Names are listed where the code is documented (docs/journal-format.md).
void fault_point(std::string_view name) noexcept;

/// What SLIPWAY_FAULT would have said, for a test's forked child; no other thread may be running.
void arm_fault_point(std::string_view spec);

inline constexpr int kFaultExitCode = 99;

}  // namespace slipway
