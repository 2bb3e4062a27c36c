#include "publish/text_report.h"

#include "base/log.h"

#include <algorithm>
#include <cstdio>

namespace slipway {

namespace {

constexpr std::chrono::milliseconds kDrawEvery{200};
constexpr std::size_t kBarWidth = 24;  // characters

double seconds_since(TimePoint start) {
  return std::chrono::duration<double>(SteadyClock::instance().now() - start).count();
}

}  // namespace

void TextReport::planned(std::uint64_t files, std::uint64_t bytes) {
  files_ += files;
  bytes_ += bytes;
}

void TextReport::progress(const std::string&, std::uint64_t bytes) {
  bytes_done_ += bytes;
  bytes_read_ += bytes;
  if (has_terminal_ && SteadyClock::instance().now() - drawn_ >= kDrawEvery)
    draw();
}

// A file may be read twice, or grow: the bar stays within its bounds all the same.
void TextReport::draw() {
  drawn_ = SteadyClock::instance().now();
  const double done =
      bytes_ == 0 ? 1
                  : std::min(1.0, static_cast<double>(bytes_done_) / static_cast<double>(bytes_));
  const double rate = static_cast<double>(bytes_read_) / std::max(seconds_since(start_), 0.001);
  const std::uint64_t left = bytes_ > bytes_done_ ? bytes_ - bytes_done_ : 0;
  const auto seconds = static_cast<std::uint64_t>(static_cast<double>(left) / std::max(rate, 1.0));
  const auto full = static_cast<std::size_t>(done * kBarWidth);
  fmt::print(stderr, "\r[{}{}] {}/{} files, {} of {}, {}/s, {}:{:02} left \x1b[K",
             std::string(full, '#'), std::string(kBarWidth - full, ' '), files_done_, files_,
             format_size(bytes_done_), format_size(bytes_),
             format_size(static_cast<std::uint64_t>(rate)), seconds / 60, seconds % 60);
}

void TextReport::wipe() {
  if (has_terminal_)
    std::fputs("\r\x1b[K", stderr);
}

void TextReport::published(const PublishedImage&) {
  ++files_done_;
}

void TextReport::skipped(const std::string&, std::uint64_t size) {
  ++files_done_;
  bytes_done_ += size;
}

void TextReport::failed(const std::string& path, const Error& error) {
  ++files_done_;
  wipe();
  log_error("'{}' is not published: {}", escape(path), error.message);
}

void TextReport::note(const std::string& path, const std::string& text) {
  wipe();
  log_warning("'{}': {}", escape(path), text);
}

void TextReport::finished(const PublishSummary& summary) {
  wipe();
  fmt::print("{} published ({}, frames {}), {} published already, {} failed, {:.1f} s{}\n",
             summary.published, format_size(summary.bytes), format_size(summary.frame_bytes),
             summary.skipped, summary.failed, seconds_since(start_),
             summary.interrupted ? "; interrupted: run it again to go on" : "");
  std::fflush(stdout);
}

}  // namespace slipway
