#include "base/log.h"

#include <spdlog/sinks/null_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/sinks/syslog_sink.h>
#include <spdlog/spdlog.h>

#include <atomic>
#include <memory>

namespace slipway {

namespace {

std::atomic<LogLevel> least_level{LogLevel::kInfo};

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kTrace:
      return spdlog::level::trace;
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::err;
}

std::shared_ptr<spdlog::logger> make_logger(LogSink sink, const std::string& identity) {
  spdlog::sink_ptr target;
  switch (sink) {
    case LogSink::kStderr:
      target = std::make_shared<spdlog::sinks::stderr_sink_mt>();
      target->set_pattern("%n: %v");
      break;
    case LogSink::kSyslog:
      target = std::make_shared<spdlog::sinks::syslog_sink_mt>(identity, LOG_PID, LOG_DAEMON,
                                                               /*enable_formatting=*/false);
      break;
    case LogSink::kNone:
      target = std::make_shared<spdlog::sinks::null_sink_mt>();
      break;
  }
  auto logger = std::make_shared<spdlog::logger>(identity, target);
  logger->set_level(spdlog::level::trace);
  logger->flush_on(spdlog::level::trace);
  return logger;
}

// Read by every thread that logs, replaced when a daemon detaches: hence atomic, and shared by the
// writers that are in the middle of a line.
std::atomic<std::shared_ptr<spdlog::logger>>& current_logger() {
  static std::atomic<std::shared_ptr<spdlog::logger>> logger(
      make_logger(LogSink::kStderr, "slipway"));
  return logger;
}

}  // namespace

void log_to(LogSink sink, std::string_view identity) {
  current_logger().store(make_logger(sink, std::string(identity)));
}

void set_log_level(LogLevel least) { least_level.store(least); }

bool is_logged(LogLevel level) noexcept { return level >= least_level.load(); }

void log_line(LogLevel level, std::string_view text) {
  if (is_logged(level))
    current_logger().load()->log(to_spdlog(level), "{}", text);
}

std::string escape(std::string_view text) {
  static constexpr std::size_t kLengthMax = 256;
  std::string out;
  for (const char c : text) {
    if (out.size() >= kLengthMax) {
      out += "...";
      break;
    }
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x20 && byte < 0x7f && c != '\\')
      out += c;
    else
      out += fmt::format("\\x{:02x}", byte);
  }
  return out;
}

}  // namespace slipway
