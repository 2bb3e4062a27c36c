#pragma once

#include "base/bounded_queue.h"
#include "cache/cached_file.h"

#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace slipway {

/// Gives the store thread room: true when `bytes` fit, after waiting for eviction if need be.
class RoomMaker {
 public:
  virtual ~RoomMaker() = default;
  virtual bool make_room(std::uint64_t bytes) = 0;
};

/// The queue of runs that arrived and the one thread that stores them: data into its place first,
/// then one index batch per region, then memory. What does not fit or fails is dropped and counted.
/// Any thread may call submit(); stop() finishes what is queued.
class StoreWorker {
 public:
  StoreWorker(std::shared_ptr<CacheCore> core, RoomMaker& room);
  ~StoreWorker();

  /// False when the queue is full or stopped; then `stored` is not called.
  bool submit(std::shared_ptr<StoredFile> file, const VersionRecord& version,
              std::vector<StoreRun> runs, std::function<void()> stored);

  void stop();

 private:
  struct Item {
    std::shared_ptr<StoredFile> file;
    VersionRecord version;  // that the runs were read from
    std::vector<StoreRun> runs;
    std::function<void()> stored;
    std::uint64_t drops = 0;  // of the file, when this was queued
  };

  void run();
  void store(Item& item);
  /// Runs of one region, each cut at its bounds.
  void store_region(const Item& item, std::uint64_t region, const std::vector<StoreRun>& runs);

  const std::shared_ptr<CacheCore> core_;
  RoomMaker& room_;
  BoundedQueue<Item> queue_;
  std::uint64_t since_refresh_ = 0;  // bytes stored since the index was measured
  std::jthread thread_;
};

}  // namespace slipway
