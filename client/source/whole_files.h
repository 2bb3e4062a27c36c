#pragma once

#include "base/clock.h"
#include "cache/block_cache.h"
#include "remote/remote_session.h"
#include "source/block_source.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

namespace slipway {

/// The plan `whole`: when one of the small files of a machine is opened, the others of its directory
/// are brought into the cache along with it, so that a VM monitor that reads them one after the other
/// waits only for their opens. What comes is stored under the version that the server names for it;
/// an open asks the server as before, and a file that has changed by then is read anew.
///
/// Costs one listing and, for each file that is not here yet, an open, a read and a close, all at
/// once; again for the same directory only after kAgain. Directories without an image or a machine's
/// configuration (by their names) are left alone. Errors are nobody's: the file is read on demand.
///
/// Any thread. `remote`, `cache`, `source` and `clock` must outlive it and the calls and reads that
/// it has begun. Owns one thread, because receiving threads must not touch the cache's disk.
class WholeFiles {
 public:
  static constexpr std::size_t kFilesMax = 64;                        ///< of one directory
  static constexpr std::uint64_t kBytesMax = std::uint64_t{2} << 20;  ///< of one directory
  static constexpr std::size_t kDirectoriesMax = 64;                  ///< remembered
  static constexpr Duration kAgain = std::chrono::minutes(1);

  struct Parts {
    RemoteSession& remote;
    BlockCache& cache;
    BlockSource& source;  ///< of a stack over a CachedSource
    ExportKey export_key{};
    std::function<bool(const std::string& path)> leave_out;  ///< may be empty: brings all
    const Clock& clock = SteadyClock::instance();
  };

  explicit WholeFiles(const Parts& parts);

  /// Nothing is begun from here on.
  ~WholeFiles();
  WholeFiles(const WholeFiles&) = delete;
  WholeFiles& operator=(const WholeFiles&) = delete;

  /// A file of `size` bytes is being opened.
  void opening(const NodeRef& node, std::uint64_t size);

  struct Stats {
    std::uint64_t directories = 0;  ///< listed
    std::uint64_t files = 0;        ///< brought
    std::uint64_t bytes = 0;        ///< of these
  };

  Stats stats() const;

 private:
  class Work;

  const std::shared_ptr<Work> work_;  ///< owners: this, calls and reads under way
};

}  // namespace slipway
