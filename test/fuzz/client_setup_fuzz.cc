#include "fuzz_target.h"
#include "wire/setup.h"

#include <algorithm>
#include <cassert>

using namespace slipway;

/// What a client says first, inside SSH. Later features may have put bytes behind, and suites
/// among, what we know; what we keep must be sound.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const Result<ClientSetup> setup = decode_client_setup(fuzz_input(data, size));
  if (!setup.has_value())
    return 0;
  assert(!setup->suites.empty() && setup->suites.size() <= kSuitesMax);
  assert(setup->connections <= kConnectionsMax);
  assert(setup->export_path.find('\0') == std::string::npos);
  Bytes again;
  encode(again, *setup);
  assert(decode_client_setup(again).has_value());
  return 0;
}
