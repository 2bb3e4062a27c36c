#pragma once

#include "base/clock.h"
#include "remote/remote_session.h"
#include "writeback/lease_gate.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace slipway {

/// Who waits until this mount holds the leases on some groups. No lock and no thread: it is
/// LeaseKeeper's, under its lock.
class LeaseQuestions {
 public:
  struct Question {
    std::uint64_t number = 0;
    std::vector<std::string> groups;
    Done<LeaseGate::Hold> done;
    TimePoint deadline = TimePoint::max();  ///< from the first time that it was delayed
  };

  void add(std::uint64_t number, std::vector<std::string> groups, Done<LeaseGate::Hold> done) {
    all_.push_back({number, std::move(groups), std::move(done)});
  }

  /// Null when there is none.
  Done<LeaseGate::Hold> take(std::uint64_t number);

  /// Those for which `is_over` says so.
  template <class IsOver>
  std::vector<Question> take_if(const IsOver& is_over) {
    std::vector<Question> over;
    for (auto at = all_.begin(); at != all_.end();) {
      if (!is_over(*at)) {
        ++at;
        continue;
      }
      over.push_back(std::move(*at));
      at = all_.erase(at);
    }
    return over;
  }

  std::vector<Question> take_of(const std::string& group);
  std::vector<Question> take_all();

  bool concern(const std::string& group) const;

  /// Those of the group that have none yet get a deadline.
  void delay(const std::string& group, TimePoint deadline);

  /// There is one group only, called "".
  void merge();

 private:
  std::vector<Question> all_;
};

}  // namespace slipway
