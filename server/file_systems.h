#pragma once

#include "base/guarded.h"
#include "base/result.h"

#include <cstdint>
#include <map>
#include <string>
#include <sys/stat.h>
#include <unordered_map>

namespace slipway {

/// Numbers the file systems of one export: the root's is 0, the others count from 1 in the order of
/// first sight and keep their number for good, in a small JSON file. st_dev changes with every
/// boot, so a file system is known by its own identity (statfs: type and f_fsid; a network file
/// system by its source); one that has none gets a number that is never used again. Any thread may
/// call it. The lock is a leaf; first sights write the file under it.
class FileSystemTable {
 public:
  static constexpr std::uint32_t kFileSystemsMax = 32767;  ///< per export; 15 bits (inode numbers)

  /// `state_file` is where the table is kept ("": in memory only; its directory is made when first
  /// needed). `root` is the stat of the export's root.
  FileSystemTable(std::string state_file, const struct statx& root);

  /// The number for the file `name` in `directory` ("" for `directory` itself), whose stat was just
  /// taken. kNotSupported beyond kFileSystemsMax.
  Result<std::uint32_t> index_of(const struct statx& stat, int directory, const char* name);

 private:
  struct Numbers {
    std::map<std::string, std::uint32_t> by_key;
    std::uint32_t next = 1;
  };

  struct State {
    std::unordered_map<std::uint64_t, std::uint32_t> by_device;  ///< what this process has seen
    Numbers numbers;                                             ///< what the file says
  };

  Result<std::uint32_t> assign(State& state, const std::string& key);
  Numbers load() const;
  void save(const Numbers& numbers) const;

  const std::string state_file_;
  Guarded<State> state_;
};

}  // namespace slipway
