#include "manifest/vmdk_descriptor.h"

#include "manifest/vm_text.h"

#include <algorithm>

namespace slipway {

namespace {

constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

std::string_view take_word(std::string_view& line) noexcept {
  const std::size_t end = std::min(line.find_first_of(" \t"), line.size());
  const std::string_view word = line.substr(0, end);
  line.remove_prefix(std::min(line.find_first_not_of(" \t", end), line.size()));
  return word;
}

bool is_extent(std::string_view line) noexcept {
  return starts_with_ignoring_case(line, "RW ") || starts_with_ignoring_case(line, "RDONLY ") ||
         starts_with_ignoring_case(line, "NOACCESS ");
}

bool is_number(std::string_view word) noexcept {
  return !word.empty() && word.find_first_not_of("0123456789") == word.npos;
}

/// ACCESS SECTORS TYPE ["FILE" [OFFSET ...]]
Status read_extent(std::string_view line, DescriptorFiles files, FactsBuilder& facts) {
  take_word(line);
  const std::string_view sectors = take_word(line);
  const std::string_view type = take_word(line);
  if (!is_number(sectors) || type.empty())
    return fail(ErrorCode::kInvalid, "its descriptor holds an extent without size or type");
  if (line.empty() || equal_ignoring_case(type, "ZERO"))
    return {};
  const std::size_t end = line.find('"', 1);
  if (!line.starts_with('"') || end == line.npos)
    return fail(ErrorCode::kInvalid, "its descriptor holds an extent without quotes");
  if (files == DescriptorFiles::kAll)
    facts.add_name(line.substr(1, end - 1));
  return {};
}

}  // namespace

bool is_vmdk_descriptor(std::string_view text) noexcept {
  if (text.starts_with(kByteOrderMark))
    text.remove_prefix(kByteOrderMark.size());
  while (!text.empty()) {
    const std::string_view line = take_line(text);
    if (line.empty() || line.starts_with('#'))
      continue;
    const auto setting = parse_setting(line);
    return setting.has_value() && equal_ignoring_case(setting->key, "version");
  }
  return false;
}

Status read_vmdk_descriptor(std::string_view text, DescriptorFiles files, FactsBuilder& facts) {
  if (!is_vmdk_descriptor(text))
    return fail(ErrorCode::kInvalid, "its descriptor doesn't start with a version");
  while (!text.empty()) {
    const std::string_view line = take_line(text);
    if (is_extent(line)) {
      SLIPWAY_TRY(read_extent(line, files, facts));
      continue;
    }
    const auto setting = parse_setting(line);
    if (setting.has_value() && !setting->value.empty() &&
        (equal_ignoring_case(setting->key, "parentFileNameHint") ||
         equal_ignoring_case(setting->key, "changeTrackPath")))
      facts.add_name(setting->value);
  }
  return {};
}

}  // namespace slipway
