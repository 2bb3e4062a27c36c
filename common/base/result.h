#pragma once

#include <fmt/format.h>

#include <tl/expected.hpp>
#include <utility>

#include "base/error.h"

namespace slipway {

/// A value or an Error. Becomes std::expected by editing these lines.
template <class T>
using Result = tl::expected<T, Error>;
using Status = Result<void>;

/// fail(ErrorCode::kNotFound, "no '{}' in {}", name, directory)
template <class... Args>
[[nodiscard]] tl::unexpected<Error> fail(ErrorCode code, fmt::format_string<Args...> format,
                                         Args&&... args) {
  return tl::unexpected<Error>(Error{code, fmt::format(format, std::forward<Args>(args)...)});
}

[[nodiscard]] inline tl::unexpected<Error> fail(Error error) {
  return tl::unexpected<Error>(std::move(error));
}

/// fail_errno(errno, "open '{}'", path)
template <class... Args>
[[nodiscard]] tl::unexpected<Error> fail_errno(int error_number,
                                               fmt::format_string<Args...> format, Args&&... args) {
  return tl::unexpected<Error>(
      system_error(error_number, fmt::format(format, std::forward<Args>(args)...)));
}

}  // namespace slipway

// Evaluates a Result and returns its error from the enclosing function; the second form also
// binds the value: SLIPWAY_TRY_ASSIGN(auto fd, open_file(path));
#define SLIPWAY_CONCAT_(a, b) a##b
#define SLIPWAY_CONCAT(a, b) SLIPWAY_CONCAT_(a, b)
#define SLIPWAY_TRY(expression)                                       \
  do {                                                                \
    if (auto slipway_try_ = (expression); !slipway_try_.has_value())  \
      return ::tl::unexpected<::slipway::Error>(std::move(slipway_try_).error()); \
  } while (false)
#define SLIPWAY_TRY_ASSIGN_(temporary, declaration, expression)          \
  auto temporary = (expression);                                         \
  if (!temporary.has_value())                                            \
    return ::tl::unexpected<::slipway::Error>(std::move(temporary).error()); \
  declaration = std::move(temporary).value()
#define SLIPWAY_TRY_ASSIGN(declaration, expression) \
  SLIPWAY_TRY_ASSIGN_(SLIPWAY_CONCAT(slipway_try_, __LINE__), declaration, expression)
