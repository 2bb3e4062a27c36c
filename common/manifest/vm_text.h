#pragma once

#include "base/result.h"
#include "manifest/facts_builder.h"
#include "manifest/image_reader.h"

#include <optional>
#include <string>
#include <string_view>

namespace slipway {

// The text files of VMware's products: a dictionary of `key = "value"` lines, keys in any case.
// Pure functions over text, for any thread.

/// One line of a dictionary; views into it. The quotes are removed from the value.
struct TextSetting {
  std::string_view key;
  std::string_view value;
};

/// Takes the first line off `text`, without its line end and outer spaces.
std::string_view take_line(std::string_view& text) noexcept;

/// Empty for blank lines, comments and whatever is not `key = value`.
std::optional<TextSetting> parse_setting(std::string_view line) noexcept;

std::string to_lower(std::string_view text);
bool equal_ignoring_case(std::string_view a, std::string_view b) noexcept;
bool ends_with_ignoring_case(std::string_view text, std::string_view end) noexcept;
bool starts_with_ignoring_case(std::string_view text, std::string_view start) noexcept;

/// A machine's configuration: names its disks, CD images, nvram and suspended state.
Status read_vmx(ImageReader& image, FactsBuilder& facts);

/// The list of a machine's snapshots: names their states and disks.
Status read_vmsd(ImageReader& image, FactsBuilder& facts);

}  // namespace slipway
