#pragma once

#include "base/bounded_queue.h"
#include "source/block_source.h"

#include <functional>
#include <memory>
#include <thread>

namespace slipway {

/// CachedSource::confirm(): asks the server in batches of regions, drops what differs, records the
/// version. Owns a thread, because the cache's index is touched and neither a receiving thread nor
/// the caller may wait for a disk. Any thread may call confirm(). `remote` must outlive it.
class Confirmer {
 public:
  explicit Confirmer(RemoteSession& remote);

  /// Confirmations that have not ended by then fail with kCancelled.
  ~Confirmer();

  Confirmer(const Confirmer&) = delete;
  Confirmer& operator=(const Confirmer&) = delete;

  /// `done` is called once, on the thread (or wherever a late answer comes, after the destructor).
  void confirm(std::shared_ptr<const Image> image, std::function<void(Status)> done);

 private:
  using Step = std::function<void()>;
  class Confirmation;

  RemoteSession& remote_;
  /// Owners: this and the confirmations under way, whose answers may come when this is gone.
  const std::shared_ptr<BoundedQueue<Step>> steps_;
  std::jthread thread_;
};

}  // namespace slipway
