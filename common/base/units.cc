#include "base/units.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstring>

namespace slipway {

bool is_all_zero(ByteView bytes) noexcept {
  // The first 16 bytes by hand, the rest compared with itself shifted by 16: memcmp is vectorised.
  const std::size_t head = bytes.size() < 16 ? bytes.size() : 16;
  for (std::size_t i = 0; i < head; ++i) {
    if (bytes[i] != std::byte{0})
      return false;
  }
  return bytes.size() <= 16 ||
         std::memcmp(bytes.data(), bytes.data() + 16, bytes.size() - 16) == 0;
}

Result<std::uint64_t> parse_size(std::string_view text) {
  const auto bad = [&] {
    return fail(ErrorCode::kInvalid, "'{}' is not a size (examples: 512M, 20G)", text);
  };
  double number = 0;
  const auto [rest, status] = std::from_chars(text.data(), text.data() + text.size(), number,
                                              std::chars_format::fixed);
  if (status != std::errc{} || !(number >= 0) || !std::isfinite(number))
    return bad();
  std::string_view suffix(rest, static_cast<std::size_t>(text.data() + text.size() - rest));
  double factor = 1;
  if (!suffix.empty()) {
    static constexpr std::string_view kLetters = "kmgtp";
    const char letter = static_cast<char>(suffix[0] | 0x20);
    const auto power = kLetters.find(letter);
    if (power == std::string_view::npos) {
      if (suffix != "B")
        return bad();
    } else {
      factor = std::pow(1024.0, static_cast<double>(power + 1));
      suffix.remove_prefix(1);
      if (!suffix.empty() && suffix != "B" && suffix != "iB")
        return bad();
    }
  }
  const double bytes = number * factor;
  if (bytes > static_cast<double>(kFileSizeMax))
    return bad();
  return static_cast<std::uint64_t>(bytes);
}

std::string format_size(std::uint64_t bytes) {
  static constexpr std::array<const char*, 5> kNames = {"KiB", "MiB", "GiB", "TiB", "PiB"};
  if (bytes < 1024)
    return fmt::format("{} B", bytes);
  double value = static_cast<double>(bytes) / 1024;
  std::size_t i = 0;
  while (value >= 1024 && i + 1 < kNames.size()) {
    value /= 1024;
    ++i;
  }
  return fmt::format("{:.1f} {}", value, kNames[i]);
}

}  // namespace slipway
