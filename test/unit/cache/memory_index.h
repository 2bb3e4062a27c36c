#pragma once

#include "cache/cache_index.h"

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace slipway {

/// A CacheIndex in memory, for tests: the content can outlive one cache (share the same Content),
/// and reads or writes can be made to fail.
class MemoryIndex final : public CacheIndex {
 public:
  /// Two owners: the test and the index.
  struct Content {
    std::mutex mutex;
    std::map<std::string, std::string, std::less<>> records;
    std::uint64_t sequence = 0;
    std::atomic<bool> fail_reads = false;
    std::atomic<bool> fail_writes = false;
    std::atomic<bool> repaired_by_recovery = false;
    std::atomic<std::uint64_t> reads = 0;                           ///< gets and scans so far
    std::map<std::pair<std::string, std::string>, unsigned> scans;  ///< by bounds, so far
    std::atomic<bool> keep_history = false;
    std::vector<std::map<std::string, std::string, std::less<>>> history;  ///< before each write
  };

  explicit MemoryIndex(std::shared_ptr<Content> content) : content_(std::move(content)) {}

  Result<std::optional<std::string>> get(std::string_view key) override;
  Status scan(std::string_view first, std::string_view last, const Visitor& visit) override;
  Result<std::optional<std::string>> last_key_before(std::string_view last) override;
  Status write(const IndexBatch& batch) override;
  std::uint64_t sequence() override;
  std::uint64_t allocated_bytes() override;

  Result<bool> recover() override { return content_->repaired_by_recovery.load(); }

  void compact() override {}

  Status flush() override { return {}; }

  void close() override {}

 private:
  std::shared_ptr<Content> content_;
};

}  // namespace slipway
