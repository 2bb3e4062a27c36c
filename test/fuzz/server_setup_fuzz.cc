#include "fuzz_target.h"
#include "wire/setup.h"

#include <cassert>

using namespace slipway;

/// What a server says first, inside SSH.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const Result<ServerSetup> setup = decode_server_setup(fuzz_input(data, size));
  if (!setup.has_value())
    return 0;
  for (const char c : setup->error_message)
    assert(c >= ' ' && c < 0x7f);
  if (setup->error != 0)
    return 0;
  assert(setup->root.type == FileType::kDirectory && is_plausible(setup->root));
  assert(is_valid_path(std::string_view(setup->export_root).substr(1)));
  assert(setup->requests_in_flight_max > 0 && setup->bytes_in_flight_max > 0);
  Bytes again;
  encode(again, *setup);
  assert(decode_server_setup(again).has_value());
  return 0;
}
