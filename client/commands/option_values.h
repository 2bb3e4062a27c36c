#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace slipway {

/// One word of an `-o` list: "key" or "key=value".
struct Option {
  std::string key;
  std::optional<std::string> value;
};

/// The words of one `-o` string; a comma inside a value is written "\,".
std::vector<Option> split_options(std::string_view text);

/// ASCII letters only.
std::string lower(std::string_view text);

// Each reads the value of one option; what is wrong with it is said with the option's name.

tl::unexpected<Error> bad_value(const Option& option, std::string_view expected);
Result<std::uint64_t> number(const Option& option, std::uint64_t least, std::uint64_t most,
                             int base = 10);
Result<std::uint64_t> size(const Option& option);
Result<Duration> seconds(const Option& option);
/// No value means yes.
Status flag(const Option& option, bool& to);
Status text(const Option& option, std::string& to);

template <class T>
Status choice(const Option& option, T& to, std::initializer_list<std::pair<const char*, T>> names) {
  std::string expected;
  for (const auto& [name, value] : names) {
    if (option.value == name) {
      to = value;
      return {};
    }
    expected += (expected.empty() ? "" : ", ") + std::string(name);
  }
  return bad_value(option, "one of " + expected);
}

template <class T>
Status assign(Result<std::uint64_t> from, T& to) {
  SLIPWAY_TRY(from);
  to = static_cast<T>(*from);
  return {};
}

inline Status assign(Result<Duration> from, Duration& to) {
  SLIPWAY_TRY(from);
  to = *from;
  return {};
}

}  // namespace slipway
