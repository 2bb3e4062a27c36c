#pragma once

#include "base/clock.h"
#include "cache/evictor.h"
#include "cache/store_worker.h"

#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>

namespace slipway {

/// The cache's background thread: reconciles once, then frees retired generations, evicts above the
/// limit, revives a failed index and notes the space in use. Any thread may call make_room().
class Janitor final : public RoomMaker {
 public:
  Janitor(std::shared_ptr<CacheCore> core, std::shared_ptr<FileCatalog> catalog,
          std::uint64_t first_new_generation);
  ~Janitor() override;

  /// Waits for eviction, at most kRoomWait, and not at all while it recently could free nothing.
  bool make_room(std::uint64_t bytes) override;

  void stop();

 private:
  void run();
  void free_retired();
  void evict();
  bool evicted_enough(std::uint64_t wanted);
  void relieve_index();
  void note_usage();
  void look_beside();
  bool stopping();

  const std::shared_ptr<CacheCore> core_;
  const std::shared_ptr<FileCatalog> catalog_;
  const std::uint64_t first_new_generation_;
  Evictor evictor_;
  TimePoint usage_noted_;
  std::optional<TimePoint> looked_beside_;
  std::uint64_t noted_bytes_ = 0;
  std::uint64_t erased_records_bytes_ = 0;  // by estimate, since the index was compacted

  std::mutex mutex_;               // guards what follows
  std::condition_variable wake_;   // work for the thread
  std::condition_variable freed_;  // room, or none to be had
  bool stop_ = false;
  bool woken_ = false;
  std::uint64_t wanted_ = 0;  // bytes that a store waits for
  std::uint64_t rounds_ = 0;  // evictions ended
  TimePoint stuck_until_;
  std::jthread thread_;
};

}  // namespace slipway
