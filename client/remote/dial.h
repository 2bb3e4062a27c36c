#pragma once

#include "base/clock.h"
#include "base/result.h"
#include "secure/transport.h"

#include <cstdint>
#include <memory>
#include <string>

namespace slipway {

/// As dial_tcp() of secure/transport.h, but ends at once, with kDisconnected, when `interrupt` (an
/// eventfd) becomes readable: an unmount must not wait for a firewall that drops.
Result<std::unique_ptr<Transport>> dial_until_interrupted(const std::string& address,
                                                          std::uint16_t port, int interrupt,
                                                          TimePoint deadline);

}  // namespace slipway
