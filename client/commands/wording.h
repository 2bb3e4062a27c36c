#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

namespace slipway {

/// "1 conflict", "2 conflicts".
inline std::string counted(std::uint64_t number, std::string_view noun) {
  return fmt::format("{} {}{}", number, noun, number == 1 ? "" : "s");
}

/// Those from number `from` on that fit one answer of the control protocol; the mount's log has
/// all.
inline std::vector<std::string> lines_that_fit(const std::vector<std::string>& lines,
                                               std::size_t from) {
  static constexpr std::size_t kBytesMax =
      64 * 1024;  // escaped in JSON they may take twice as much
  std::vector<std::string> out;
  std::size_t bytes = 0;
  for (std::size_t i = from; i < lines.size() && bytes + lines[i].size() <= kBytesMax; ++i) {
    bytes += lines[i].size();
    out.push_back(lines[i]);
  }
  return out;
}

/// Tells on standard error what became of writes that met others'. `total` may be more than
/// `lines`.
inline void warn_of_conflicts(const std::string& where, const std::vector<std::string>& lines,
                              std::uint64_t total) {
  fmt::print(stderr, "slipway: '{}': {}: not all writes are where they were meant to go\n", where,
             counted(total, "conflict"));
  for (const std::string& line : lines)
    fmt::print(stderr, "slipway: {}\n", line);
  if (lines.size() < total)
    fmt::print(stderr, "slipway: and {} more: the mount's log has them\n", total - lines.size());
}

}  // namespace slipway
