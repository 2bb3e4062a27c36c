#pragma once

#include "base/guarded.h"
#include "base/result.h"
#include "server/image_store.h"

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_map>

namespace slipway {

/// Guesses from a file's last units whether compressing its next one pays: after several that did
/// not shrink some are skipped, more each time. Races between threads cost a wrong guess at most.
class CompressionGuess {
 public:
  bool is_worth_trying() noexcept;
  void tell(bool shrank) noexcept;

 private:
  std::atomic<std::uint32_t> to_skip_{0};
  std::atomic<std::uint32_t> failures_{0};  ///< in a row
};

/// An image that a client has open. Owners: the handle table, and reads under way, which outlive a
/// close.
struct OpenImage {
  explicit OpenImage(std::unique_ptr<ImageFile> opened) : file(std::move(opened)) {}

  const std::unique_ptr<ImageFile> file;
  CompressionGuess compression;
};

/// The open files of a session by the numbers that its client chose. Any thread; one leaf lock.
class HandleTable {
 public:
  explicit HandleTable(std::size_t handles_max) : handles_max_(handles_max) {}

  /// What is open under `handle` now. When another thread was first the file is closed again and
  /// theirs is returned. kTooManyOpen at the limit.
  Result<std::shared_ptr<OpenImage>> insert(std::uint64_t handle, std::unique_ptr<ImageFile> file);

  /// kBadHandle when there is none.
  Result<std::shared_ptr<OpenImage>> find(std::uint64_t handle);

  Status erase(std::uint64_t handle);

  std::size_t size();

 private:
  const std::size_t handles_max_;
  Guarded<std::unordered_map<std::uint64_t, std::shared_ptr<OpenImage>>> images_;
};

/// Raises the soft limit of open files to the hard one and returns how many handles fit beside
/// what else the process opens; at most kHandlesMax.
std::size_t make_room_for_handles() noexcept;

}  // namespace slipway
