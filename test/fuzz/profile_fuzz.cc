#include "fuzz_target.h"
#include "manifest/profile.h"

#include <algorithm>
#include <array>
#include <cassert>

using namespace slipway;

/// What any user may drop into the profile box, and what a server may answer.
int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ByteView input = fuzz_input(data, size);
  const Result<Profile> profile = decode_profile(input);
  if (!profile.has_value())
    return 0;
  const Bytes again = encode_profile(*profile);
  assert(std::equal(again.begin(), again.end(), input.begin(), input.end()));
  // Merged with itself reversed: the same units, whatever the order.
  Profile reversed = *profile;
  std::reverse(reversed.runs.begin(), reversed.runs.end());
  const std::array<Profile, 3> starts = {*profile, reversed, *profile};
  const Profile merged = merge_profiles(starts);
  assert(merged.runs.size() <= kProfileRunsMax);
  assert(decode_profile(encode_profile(merged)).has_value());
  return 0;
}
