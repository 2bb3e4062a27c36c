#pragma once

#include "fs/inode_table.h"
#include "remote/remote_session.h"
#include "source/block_source.h"
#include "writeback/written_file.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

namespace slipway {

/// An open file of the kernel: a remote handle and the version that its reads see. Closes the
/// handle when the last read has let go. Owners: the table of open files, the reads under way. Any
/// thread.
class OpenFile {
 public:
  /// `written`: of a file opened for writing; else null.
  /// `reserved`: nothing is open under its handle yet; `kept`: what there is of it here.
  OpenFile(RemoteSession& remote, InodeTable& table, std::uint64_t nodeid,
           std::shared_ptr<const Image> image, std::shared_ptr<WrittenFile> written = nullptr,
           bool reserved = false, std::shared_ptr<const WrittenFile> kept = nullptr)
      : remote_(remote),
        table_(table),
        nodeid_(nodeid),
        handle_(image->handle),
        written_(std::move(written)),
        kept_(std::move(kept)),
        reserved_(reserved),
        image_(std::move(image)) {
    table_.add_handle(nodeid_, handle_);
    if (written_ != nullptr)
      written_->add_handle(handle_);
  }

  ~OpenFile() {
    start_.reset();
    if (written_ != nullptr)
      written_->remove_handle(handle_);
    table_.remove_handle(nodeid_, handle_);
    remote_.close(handle_);
  }

  OpenFile(const OpenFile&) = delete;
  OpenFile& operator=(const OpenFile&) = delete;

  std::uint64_t nodeid() const noexcept { return nodeid_; }

  std::uint64_t handle() const noexcept { return handle_; }

  /// The server does not have the file yet, and so nothing open under the handle.
  bool is_reserved() const noexcept { return reserved_.load(); }

  void set_opened() noexcept { reserved_ = false; }

  /// The server has got the file, and nothing of it is open there.
  bool has_missed_its_name() const {
    return reserved_.load() && kept_ != nullptr && !kept_->is_pending() && !kept_->is_orphan();
  }

  bool is_orphan() const { return kept_ != nullptr && kept_->is_orphan(); }

  /// Takes its writes; null: it is not open for writing.
  const std::shared_ptr<WrittenFile>& written() const noexcept { return written_; }

  std::shared_ptr<const Image> image() const {
    const std::lock_guard lock(mutex_);
    return image_;
  }

  /// What the opening set off, to end before the handle is closed. Before others see this object.
  void set_start(std::shared_ptr<const void> start) { start_ = std::move(start); }

  /// A small file goes on with new content.
  void set_image(std::shared_ptr<const Image> image) {
    const std::lock_guard lock(mutex_);
    image_.swap(image);
    neighbour_.reset();
  }

  /// A change of our own has brought the image's version forth from `base`.
  void follow(std::shared_ptr<const Image> image, const VersionRecord& base) {
    const std::lock_guard lock(mutex_);
    image_.swap(image);
    neighbour_ = base;
  }

  /// A change of our own is about to make another version of the image's, if that is `base`.
  void expect(const VersionRecord& base, const VersionRecord& after) {
    const std::lock_guard lock(mutex_);
    if (same_content(image_->version, base))
      neighbour_ = after;
  }

  /// Whether our own changes to `version` are changes of this file's image: where bases and images
  /// move together, one is ahead of the other for a moment.
  bool is_at(const VersionRecord& version) const {
    const std::lock_guard lock(mutex_);
    return same_content(image_->version, version) ||
           (neighbour_ && same_content(*neighbour_, version));
  }

  /// The number of a WrittenFile that was given up before this was opened. Before others see this
  /// object.
  void set_ignored(std::uint64_t number) { ignored_ = number; }

  std::uint64_t ignored() const noexcept { return ignored_; }

 private:
  RemoteSession& remote_;
  InodeTable& table_;
  const std::uint64_t nodeid_;
  const std::uint64_t handle_;
  const std::shared_ptr<WrittenFile> written_;  ///< owners: this, WriteBack
  const std::shared_ptr<const WrittenFile> kept_;  ///< lives as long as it is open here
  std::atomic<bool> reserved_;
  mutable std::mutex mutex_;
  std::shared_ptr<const Image> image_;
  std::optional<VersionRecord> neighbour_;  ///< before or after the image's, by our own change
  std::uint64_t ignored_ = 0;               ///< 0: none
  std::shared_ptr<const void> start_;
};

inline bool is_small(const Image& image) noexcept {
  return image.version.size <= kSmallFileMax;
}

}  // namespace slipway
