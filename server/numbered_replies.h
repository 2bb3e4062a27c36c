#pragma once

#include "base/guarded.h"
#include "base/result.h"
#include "server/send_queue.h"
#include "wire/frame.h"

#include <cstdint>
#include <map>
#include <memory>

namespace slipway {

/// Sees to it that each number of a session is run at most once (docs/protocol.md, "Repetition").
/// Keeps replies until they are acknowledged; bounded, since numbers may run only so far ahead of
/// what was. Any thread; one leaf lock: queues are filled without it.
class NumberedReplies {
 public:
  static constexpr std::uint64_t kAheadMax = 16384;  ///< numbers above the acknowledged one

  /// Where the reply goes, and the share of the budget that it holds until it has left.
  struct Asker {
    std::shared_ptr<SendQueue> queue;
    std::shared_ptr<RequestBudget::Hold> hold;
  };

  /// True: the request is to be run, then finish() to be called. False: it has run and is answered
  /// again, or is running and will be answered here, or is an old copy and dropped. kProtocol: a
  /// number too far ahead. REQUIRES: the request has a number.
  Result<bool> begin(const FrameHeader& request, Asker asker);

  /// Up to this number the client has had every reply.
  void acknowledge(std::uint64_t number);

  /// Sends the reply to who asked last and keeps it.
  void finish(std::uint64_t number, Bytes frame);

 private:
  struct Entry {
    bool finished = false;
    Bytes frame;  ///< once finished
    Asker asker;  ///< until then
  };

  struct State {
    std::uint64_t acknowledged = 0;
    std::map<std::uint64_t, Entry> entries;
  };

  Guarded<State> state_;
};

}  // namespace slipway
