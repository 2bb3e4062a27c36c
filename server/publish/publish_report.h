#pragma once

#include "base/result.h"
#include "manifest/manifest.h"

#include <cstdint>
#include <string>
#include <vector>

namespace slipway {

/// What became of one image.
struct PublishedImage {
  std::string path;
  std::uint64_t size = 0;
  std::uint64_t zero_bytes = 0;
  ContentHash root{};
  ImageClass image_class = ImageClass::kOther;
  TransferPlan plan = TransferPlan::kDemand;
  std::uint64_t frame_bytes = 0;  ///< in its pack
  bool has_frames = false;
  bool is_rebound = false;         ///< took over what was known of its content
  std::vector<std::string> notes;  ///< for a person: what was left out, and why
};

struct PublishSummary {
  std::uint64_t published = 0;
  std::uint64_t skipped = 0;  ///< published and valid already
  std::uint64_t failed = 0;
  std::uint64_t bytes = 0;  ///< of what was published
  std::uint64_t frame_bytes = 0;
  bool interrupted = false;
};

/// Is told how publishing goes, in the publisher's thread. Paths are as found: escape() them.
class PublishReport {
 public:
  virtual ~PublishReport() = default;

  virtual void planned(std::uint64_t files, std::uint64_t bytes) = 0;  ///< more of both, so far
  virtual void progress(const std::string& path, std::uint64_t bytes) = 0;  ///< read just now
  virtual void published(const PublishedImage& image) = 0;
  virtual void skipped(const std::string& path, std::uint64_t size) = 0;
  virtual void failed(const std::string& path, const Error& error) = 0;
  virtual void note(const std::string& path, const std::string& text) = 0;
  virtual void finished(const PublishSummary& summary) = 0;
};

}  // namespace slipway
