#pragma once

#include "base/bytes.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "cache/space.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

namespace slipway {

/// data/XX/GENERATION.img below the cache's directory.
std::string data_file_path(const std::string& cache_directory, std::uint64_t generation);
/// The generation that a file name of a data directory means.
std::optional<std::uint64_t> generation_of_name(const std::string& name);

/// The sparse file that holds the data units of one generation at their own offsets. Made when the
/// first unit is stored. Any thread may call anything; writers of the same bytes are kept apart by
/// the region table. Reports its allocated bytes to Space. Owners: the cached file, pins, evictor.
class DataFile {
 public:
  /// `size`: of the image; nothing when it is not known (then the file's stays what it is).
  DataFile(std::string cache_directory, std::uint64_t generation, std::optional<std::uint64_t> size,
           Space& space);

  /// The descriptor, or -1 while there is no file or it can't be opened.
  int fd();

  Status write(ByteView bytes, std::uint64_t offset);
  /// The image has another size. A file that is too long stays so until it is opened the next time:
  /// readers of what was behind the new end find zeros (punch() it), not a short file.
  Status set_size(std::uint64_t size);
  /// Short at the end of the file; kNotFound without a file.
  Result<std::size_t> read(MutableBytes to, std::uint64_t offset);
  /// Gives a range's space back and returns the bytes freed; reads of it are zeros from now on.
  Result<std::uint64_t> punch(std::uint64_t offset, std::uint64_t length);
  /// The first offset at or behind `from` with something on disk.
  std::optional<std::uint64_t> next_data(std::uint64_t from);

 private:
  Status open(bool create);
  void account();

  const std::string cache_directory_;
  const std::uint64_t generation_;
  Space& space_;
  std::mutex mutex_;  // guards opening, accounting and size_
  std::optional<std::uint64_t> size_;
  UniqueFd fd_;       // set once
  std::atomic<int> raw_fd_ = -1;
  std::uint64_t before_ = 0;  // bytes allocated when first opened
};

/// Unlinks a generation's data file, if there is one; descriptors in use stay readable.
void remove_data_file(const std::string& cache_directory, std::uint64_t generation, Space& space);

}  // namespace slipway
