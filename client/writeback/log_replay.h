#pragma once

#include "writeback/written_file.h"
#include "writelog/write_log.h"

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace slipway {

/// What an earlier process left in the log, put together again: files with what is unsent of them, in
/// layers as checkpoints were closed that nobody acknowledged. One thread.
///
/// The log may begin in the middle: what came before was acknowledged. How large a file was below the
/// changes that are left is known only once all is read, so they are kept until then.
class LogReplay final : public LogVisitor {
 public:
  void on_file(std::uint64_t file, const LogFile& what) override;
  void on_change(const LogChange& change, const LogPlace& place) override;
  void on_checkpoint(const LogCheckpoint& checkpoint, const LogPlace& place) override;
  void on_applied(const LogApplied& applied, const LogPlace& place) override;
  void on_rename(std::uint64_t file, const std::string& path, const LogPlace& place) override;
  void on_forget(std::uint64_t file, const LogPlace& place) override;
  void on_make(std::uint64_t file, const LogMake& make, const LogPlace& place) override;

  struct Found {
    std::uint64_t owner_mismatches = 0;  ///< files with unsent writes of another export
    std::vector<std::shared_ptr<WrittenFile>> files;  ///< that are not clean
    std::uint64_t checkpoint = 0;        ///< highest number seen
  };

  /// Once, after the log is open.
  Found take(const ExportKey& owner);

 private:
  struct Layer {
    std::uint64_t checkpoint = 0;
    std::vector<std::pair<LogChange, LogData>> changes;
    std::optional<WrittenFile::Making> making;

    bool empty() const { return changes.empty() && !making; }
  };

  struct Replayed {
    LogFile what;
    std::deque<Layer> closed;  ///< oldest first
    Layer active;
    std::uint64_t newest = 0;  ///< change

    bool is_clean() const { return closed.empty() && active.empty(); }
  };

  void replace(const std::string& path, std::uint64_t by);
  static std::shared_ptr<WrittenFile> build(std::uint64_t number, const Replayed& replayed);

  std::unordered_map<std::uint64_t, Replayed> files_;
  std::uint64_t checkpoint_ = 0;
};

}  // namespace slipway
