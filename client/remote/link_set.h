#pragma once

#include "remote/link.h"
#include "wire/limits.h"

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

namespace slipway {

/// The connections that are up, and which of them a request takes. Not thread-safe.
///
/// Small calls and demand reads keep one TCP connection, so that prefetch on the others never
/// stands before them in a socket's buffer; connection 0 serves while no TCP connection is up. A
/// connection that has gone silent is avoided while there is a better one.
class LinkSet {
 public:
  explicit LinkSet(bool tcp_only) : tcp_only_(tcp_only) {}

  void add(std::shared_ptr<Link> link);  ///< REQUIRES: its number is free
  void remove(const Link& link);

  /// Null when there is none. A large demand read takes the least busy TCP connection.
  Link* for_demand(std::uint64_t bytes);

  /// What for_demand(0) would give.
  const Link* peek_demand() const { return keeps_demand() ? demand_ : best_for_demand(); }

  /// The least busy of the other TCP connections, in turn; the demand connection when it is alone.
  Link* for_prefetch();

  Link* get(unsigned number) const { return links_[number].get(); }

  std::vector<std::shared_ptr<Link>> all() const;
  unsigned tcp_count() const noexcept;

 private:
  bool keeps_demand() const noexcept;
  Link* best_for_demand() const;
  Link* least_busy_tcp(const Link* but_not, unsigned behind) const;

  const bool tcp_only_;
  std::array<std::shared_ptr<Link>, kConnectionsMax + 1> links_;
  Link* demand_ = nullptr;      // the connection that demand keeps
  unsigned prefetch_last_ = 0;  // number of the connection that prefetch took last
};

}  // namespace slipway
