#pragma once

#include "writeback/written_file.h"
#include "writelog/write_log.h"

#include <cstdint>
#include <map>
#include <memory>
#include <unordered_map>
#include <vector>

namespace slipway {

/// What an earlier process left in the log, put together again: files with what is unsent of them,
/// and the checkpoint that was closed last and never acknowledged, if there is one. One thread.
class LogReplay final : public LogVisitor {
 public:
  void on_file(std::uint64_t file, const LogFile& what) override;
  void on_change(const LogChange& change, const LogPlace& place) override;
  void on_checkpoint(const LogCheckpoint& checkpoint, const LogPlace& place) override;
  void on_applied(const LogApplied& applied, const LogPlace& place) override;
  void on_rename(std::uint64_t file, const std::string& path, const LogPlace& place) override;
  void on_forget(std::uint64_t file, const LogPlace& place) override;

  struct Found {
    std::uint64_t owner_mismatches = 0;  ///< files with unsent writes of another export
    std::vector<std::shared_ptr<WrittenFile>> files;  ///< that are not clean
    std::uint64_t checkpoint = 0;        ///< highest number seen
  };

  /// Once, after the log is open.
  Found take(const ExportKey& owner);

 private:
  struct Replayed {
    std::shared_ptr<WrittenFile> file;
    ExportKey owner{};
    std::shared_ptr<ContentLayer> frozen;
  };

  std::unordered_map<std::uint64_t, Replayed> files_;
  std::uint64_t checkpoint_ = 0;
};

}  // namespace slipway
