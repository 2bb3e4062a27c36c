#include "commands/option_values.h"

#include "base/units.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>

namespace slipway {

namespace {

constexpr double kSecondsMax = 1e6;

Status need_value(const Option& option) {
  if (!option.value || option.value->empty())
    return fail(ErrorCode::kInvalid, "option '{}' needs a value: -o {}=...", option.key,
                option.key);
  return {};
}

}  // namespace

std::vector<Option> split_options(std::string_view text) {
  std::vector<Option> out;
  std::string word;
  const auto flush = [&] {
    if (word.empty())
      return;
    const auto equals = word.find('=');
    if (equals == std::string::npos)
      out.push_back({word, std::nullopt});
    else
      out.push_back({word.substr(0, equals), word.substr(equals + 1)});
    word.clear();
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\\' && i + 1 < text.size() && (text[i + 1] == ',' || text[i + 1] == '\\'))
      word += text[++i];
    else if (text[i] == ',')
      flush();
    else
      word += text[i];
  }
  flush();
  return out;
}

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return out;
}

tl::unexpected<Error> bad_value(const Option& option, std::string_view expected) {
  return fail(ErrorCode::kInvalid, "option '{}={}': expected {}", option.key,
              option.value.value_or(""), expected);
}

Result<std::uint64_t> number(const Option& option, std::uint64_t least, std::uint64_t most,
                             int base) {
  SLIPWAY_TRY(need_value(option));
  std::uint64_t value = 0;
  const char* end = option.value->data() + option.value->size();
  const auto [rest, status] = std::from_chars(option.value->data(), end, value, base);
  if (status != std::errc{} || rest != end || value < least || value > most)
    return bad_value(option, fmt::format("a number from {} to {}", least, most));
  return value;
}

Result<std::uint64_t> size(const Option& option) {
  SLIPWAY_TRY(need_value(option));
  auto bytes = parse_size(*option.value);
  if (!bytes)
    return bad_value(option, "a size such as 512M or 20G");
  return *bytes;
}

Result<Duration> seconds(const Option& option) {
  SLIPWAY_TRY(need_value(option));
  char* end = nullptr;
  const double value = std::strtod(option.value->c_str(), &end);
  if (*end != '\0' || !(value >= 0) || value > kSecondsMax)
    return bad_value(option, "a number of seconds from 0 to 1000000");
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(value));
}

Status flag(const Option& option, bool& to) {
  if (option.value && *option.value != "yes" && *option.value != "no")
    return bad_value(option, "yes or no");
  to = !option.value || *option.value == "yes";
  return {};
}

Status text(const Option& option, std::string& to) {
  SLIPWAY_TRY(need_value(option));
  to = *option.value;
  return {};
}

}  // namespace slipway
