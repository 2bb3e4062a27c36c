#pragma once

#include "writelog/write_log.h"

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

// What the tests put into a log, and what they get back: for programs without Catch2 too.

namespace slipway {

constexpr std::uint64_t kTestSegment = kLogSegmentSizeMin;

/// What a log gave back, as text for comparison, and the places of its changes.
class SeenLog final : public LogVisitor {
 public:
  void on_file(std::uint64_t file, const LogFile& what) override { files[file] = what; }

  void on_change(const LogChange& change, const LogPlace& place) override {
    changes.push_back({change, place});
    see(place);
  }

  void on_checkpoint(const LogCheckpoint& checkpoint, const LogPlace& place) override {
    checkpoints.push_back(checkpoint);
    see(place);
  }

  void on_applied(const LogApplied& what, const LogPlace& place) override {
    applied.push_back(what);
    see(place);
  }

  void on_rename(std::uint64_t file, const std::string& path, const LogPlace& place) override {
    renames.emplace_back(file, path);
    see(place);
  }

  void on_forget(std::uint64_t file, const LogPlace& place) override {
    forgotten.push_back(file);
    see(place);
  }

  void on_make(std::uint64_t file, const LogMake& make, const LogPlace& place) override {
    made.emplace_back(file, make);
    see(place);
  }

  struct Change {
    LogChange change;
    LogPlace place;
  };

  std::map<std::uint64_t, LogFile> files;
  std::vector<Change> changes;
  std::vector<LogCheckpoint> checkpoints;
  std::vector<LogApplied> applied;
  std::vector<std::pair<std::uint64_t, std::string>> renames;
  std::vector<std::uint64_t> forgotten;
  std::vector<std::pair<std::uint64_t, LogMake>> made;
  std::uint64_t last_sequence = 0;
  bool in_order = true;

 private:
  void see(const LogPlace& place) {
    in_order = in_order && place.sequence > last_sequence;
    last_sequence = place.sequence;
  }
};

LogOptions log_options(const std::string& directory, std::shared_ptr<LogFileOps> ops = nullptr,
                       std::uint64_t segments_max = 16);

LogFile sample_file(std::uint64_t inode = 7);

/// Content that depends on the number.
Bytes pattern(std::uint64_t number, std::size_t length);

LogChange write_of(std::uint64_t file, std::uint64_t offset, std::uint64_t length);

/// Appends write number `number`: its offset and length follow from the number.
Result<LogPlace> append_pattern(WriteLog& log, std::uint64_t file, std::uint64_t number);

/// How long the data of write number `number` is.
std::size_t pattern_length(std::uint64_t number);

}  // namespace slipway
