#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>
#include <utility>

namespace slipway {

enum class LogLevel {
  kTrace,  ///< what libraries tell of their inner workings
  kDebug,
  kInfo,
  kWarning,
  kError
};

enum class LogSink {
  kStderr,  ///< foreground and before a daemon detaches
  kSyslog,  ///< detached processes; the journal where systemd runs
  kNone,
};

/// Process-wide; call before threads that log exist, or to switch a daemon over. `identity` is the
/// program's name in syslog.
void log_to(LogSink sink, std::string_view identity);
void set_log_level(LogLevel least);
bool is_logged(LogLevel level) noexcept;

/// One line; text that came from a peer must have gone through escape().
void log_line(LogLevel level, std::string_view text);

/// Control and non-ASCII bytes as \xNN, cut at 256 characters: for names and messages of a peer.
std::string escape(std::string_view text);

template <class... Args>
void log_trace(fmt::format_string<Args...> format, Args&&... args) {
  if (is_logged(LogLevel::kTrace))
    log_line(LogLevel::kTrace, fmt::format(format, std::forward<Args>(args)...));
}

template <class... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args) {
  if (is_logged(LogLevel::kDebug))
    log_line(LogLevel::kDebug, fmt::format(format, std::forward<Args>(args)...));
}

template <class... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::kInfo, fmt::format(format, std::forward<Args>(args)...));
}

template <class... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::kWarning, fmt::format(format, std::forward<Args>(args)...));
}

template <class... Args>
void log_error(fmt::format_string<Args...> format, Args&&... args) {
  log_line(LogLevel::kError, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace slipway
