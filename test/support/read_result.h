#pragma once

#include "base/unique_fd.h"
#include "source/block_source.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

namespace slipway {

/// A sink that collects a read's content and watches the promises of ReadSink: pieces inside the
/// ranges asked for, no overlap, one call at a time, done once and last. What breaks one is in
/// faults(); tests check that it is empty. Any thread.
class ReadResult final : public ReadSink {
 public:
  /// `ranges`: what will be asked for.
  explicit ReadResult(const std::vector<ByteRange>& ranges) {
    for (const ByteRange& range : ranges) {
      if (!ranges_.empty() && ranges_.back().end() == range.offset)
        ranges_.back().length += range.length;
      else
        ranges_.push_back(range);
    }
    for (const ByteRange& range : ranges_) {
      content_.emplace_back(range.length, std::byte{0xee});
      covered_.emplace_back(range.length, false);
    }
  }

  void on_pieces(std::span<Piece> pieces) override {
    enter();
    for (const Piece& piece : pieces)
      take(piece);
    inside_--;
  }

  void on_done(Status status) override {
    enter();
    inside_--;
    const std::lock_guard lock(mutex_);
    if (status_)
      note("done twice");
    status_ = std::move(status);
    done_.notify_all();
  }

  bool done() const {
    const std::lock_guard lock(mutex_);
    return status_.has_value();
  }

  /// False after ten seconds.
  bool wait() const {
    std::unique_lock lock(mutex_);
    return done_.wait_for(lock, std::chrono::seconds(10), [&] { return status_.has_value(); });
  }

  bool succeeded() const {
    const std::lock_guard lock(mutex_);
    return status_ && status_->has_value();
  }

  /// The error that it failed with; nothing while it runs and after success.
  std::optional<ErrorCode> error() const {
    const std::lock_guard lock(mutex_);
    if (!status_ || status_->has_value())
      return std::nullopt;
    return status_->error().code;
  }

  std::string faults() const {
    const std::lock_guard lock(mutex_);
    return faults_;
  }

  /// Compares what was delivered with content.at(offset), cut at content.size().
  template <class Content>
  bool equals(const Content& content) const {
    const std::lock_guard lock(mutex_);
    for (std::size_t r = 0; r < ranges_.size(); r++) {
      for (std::uint64_t i = 0; i < ranges_[r].length; i++) {
        const std::uint64_t offset = ranges_[r].offset + i;
        const bool exists = offset < content.size();
        if (covered_[r][i] != exists || (exists && content_[r][i] != content.at(offset)))
          return false;
      }
    }
    return true;
  }

  std::uint64_t bytes_delivered() const {
    const std::lock_guard lock(mutex_);
    return bytes_;
  }

  std::uint64_t file_bytes() const {
    const std::lock_guard lock(mutex_);
    return file_bytes_;
  }

  bool saw_young() const {
    const std::lock_guard lock(mutex_);
    return young_;
  }

 private:
  void enter() {
    if (inside_++ != 0) {
      const std::lock_guard lock(mutex_);
      note("two calls at a time");
    }
  }

  void take(const Piece& piece) {
    const std::lock_guard lock(mutex_);
    if (status_)
      note("pieces after done");
    if (piece.range.empty())
      note("an empty piece");
    bytes_ += piece.range.length;
    young_ = young_ || piece.young;
    for (std::size_t r = 0; r < ranges_.size(); r++) {
      if (piece.range.offset < ranges_[r].offset || piece.range.end() > ranges_[r].end())
        continue;
      const std::uint64_t at = piece.range.offset - ranges_[r].offset;
      for (std::uint64_t i = 0; i < piece.range.length; i++) {
        if (covered_[r][at + i])
          note("an overlap");
        covered_[r][at + i] = true;
      }
      copy(piece, content_[r].data() + at);
      return;
    }
    note("a piece outside of what was asked for");
  }

  void copy(const Piece& piece, std::byte* to) {
    switch (piece.kind) {
      case PieceKind::kBytes:
        if (piece.bytes.size() != piece.range.length)
          note("bytes of the wrong length");
        else
          std::memcpy(to, piece.bytes.data(), piece.bytes.size());
        break;
      case PieceKind::kZero:
      case PieceKind::kHole:
        std::memset(to, 0, piece.range.length);
        break;
      case PieceKind::kFile: {
        file_bytes_ += piece.range.length;
        const auto n = pread_full(piece.fd, {to, piece.range.length}, piece.range.offset);
        if (!n || *n != piece.range.length)
          note("a short cache file");
        if (piece.owner == nullptr)
          note("a file piece without its pin");
        break;
      }
    }
  }

  void note(const std::string& fault) {
    if (faults_.size() < 200)
      faults_ += fault + "; ";
  }

  std::vector<ByteRange> ranges_;  ///< neighbours joined
  std::atomic<int> inside_{0};
  mutable std::mutex mutex_;
  mutable std::condition_variable done_;
  std::vector<Bytes> content_;
  std::vector<std::vector<bool>> covered_;
  std::optional<Status> status_;
  std::string faults_;
  std::uint64_t bytes_ = 0;
  std::uint64_t file_bytes_ = 0;
  bool young_ = false;
};

}  // namespace slipway
