#pragma once

#include "base/clock.h"
#include "publish/publish_report.h"

#include <string>

namespace slipway {

/// For a person: on a terminal a bar on standard error while it goes on; elsewhere problems, notes
/// and a summary only.
class TextReport final : public PublishReport {
 public:
  explicit TextReport(bool has_terminal) : has_terminal_(has_terminal) {}

  void planned(std::uint64_t files, std::uint64_t bytes) override;
  void progress(const std::string& path, std::uint64_t bytes) override;
  void published(const PublishedImage& image) override;
  void skipped(const std::string& path, std::uint64_t size) override;
  void failed(const std::string& path, const Error& error) override;
  void note(const std::string& path, const std::string& text) override;
  void finished(const PublishSummary& summary) override;

 private:
  void draw();
  void wipe();

  const bool has_terminal_;
  const TimePoint start_ = SteadyClock::instance().now();
  TimePoint drawn_ = start_;
  std::uint64_t files_ = 0;
  std::uint64_t files_done_ = 0;
  std::uint64_t bytes_ = 0;
  std::uint64_t bytes_done_ = 0;  ///< read or passed over
  std::uint64_t bytes_read_ = 0;
};

/// For a program: one JSON object per line on standard output (slipwayd(8)).
class JsonReport final : public PublishReport {
 public:
  void planned(std::uint64_t files, std::uint64_t bytes) override;
  void progress(const std::string& path, std::uint64_t bytes) override;
  void published(const PublishedImage& image) override;
  void skipped(const std::string& path, std::uint64_t size) override;
  void failed(const std::string& path, const Error& error) override;
  void note(const std::string& path, const std::string& text) override;
  void finished(const PublishSummary& summary) override;

 private:
  const TimePoint start_ = SteadyClock::instance().now();
  TimePoint told_ = start_;
  std::uint64_t files_ = 0;
  std::uint64_t bytes_ = 0;
  std::uint64_t bytes_done_ = 0;
};

}  // namespace slipway
