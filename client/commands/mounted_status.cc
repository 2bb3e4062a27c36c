#include "commands/mounted.h"
#include "commands/wording.h"

#include <nlohmann/json.hpp>

#include <unistd.h>

// The status document of a mount.

namespace slipway {

namespace {

using Json = nlohmann::json;

constexpr int kStatusSchema = 1;

Json to_json(const PrefetchStats& p, const ImageGuide::Stats& g, std::uint64_t copied) {
  const TouchStats& t = p.touches;
  return {{"images", p.images},
          {"bytes_done", p.bytes_done},
          {"bytes_total", p.bytes_total},
          {"bytes_in_flight", p.bytes_in_flight},
          {"manifests", g.manifests},
          {"copied_bytes", copied},
          {"whole_files", g.whole.files},
          {"whole_bytes", g.whole.bytes},
          {"profiles_received", g.profiles_received},
          {"profiles_sent", g.profiles_sent},
          {"predicted_units", t.predicted_units},
          {"touched_units", t.touched_units},
          {"predicted_touched_units", t.predicted_touched},
          {"precision", t.precision()},
          {"recall", t.recall()},
          {"fetched_bytes", t.fetched_bytes},
          {"wasted_bytes", t.wasted_bytes}};
}

Json to_json(const RemoteStatus& s) {
  Json connections = Json::array();
  for (const RemoteStatus::Connection& c : s.connections)
    connections.push_back({{"number", c.number},
                           {"peer", c.peer},
                           {"cipher", c.cipher},
                           {"bytes_sent", c.bytes_sent},
                           {"bytes_received", c.bytes_received}});
  return {{"state", name_of(s.state)},
          {"why", s.why},
          {"transport", s.transport},
          {"session_transport", s.session_transport},
          {"survives_ssh", s.survives_ssh},
          {"rtt_ms", s.rtt_ms},
          {"goodput_bytes_per_s", s.goodput},
          {"bytes_sent", s.bytes_sent},
          {"bytes_received", s.bytes_received},
          {"requests", s.requests},
          {"requests_in_flight", s.requests_in_flight},
          {"sessions", s.sessions},
          {"redials", s.redials},
          {"connections", std::move(connections)}};
}

Json to_json(const WriteBackStats& s) {
  return {{"unsent_bytes", s.unsent_bytes},
          {"unsent_files", s.unsent_files},
          {"written_bytes", s.written_bytes},
          {"sent_bytes", s.sent_bytes},
          {"wire_bytes", s.wire_bytes},
          {"checkpoints", s.checkpoints},
          {"checkpoints_waiting", s.checkpoints_waiting},
          {"waiting_writes", s.waiting_writes},
          {"log_bytes", s.log_bytes},
          {"log_limit", s.log_limit},
          {"recovered_bytes", s.recovered_bytes},
          {"sync_failed", s.sync_failed},
          {"log_damaged", s.damaged},
          {"unsynced_lost", s.unsynced_lost},
          {"waiting_for", s.waiting_for},
          {"conflicts", lines_that_fit(s.conflicts, 0)},
          {"conflicts_total", s.conflicts.size()}};
}

Json to_json(const CacheStats& s, const std::string& directory) {
  return {{"directory", directory},
          {"used", s.used},
          {"limit", s.limit},
          {"files", s.files},
          {"hit_bytes", s.hit_bytes},
          {"stored_bytes", s.stored_bytes},
          {"not_stored_bytes", s.not_stored_bytes},
          {"evicted_bytes", s.evicted_bytes},
          {"corrupt_units", s.corrupt_units},
          {"index_rebuilt", s.index_rebuilt}};
}

Json to_json(const FileSystemStats& fs, const CachedSourceStats& source) {
  return {{"reads", fs.reads},
          {"read_bytes", fs.read_bytes},
          {"hits", source.hit_reads},
          {"misses", source.miss_reads},
          {"joined", source.joined_reads},
          {"waiting", fs.waiting_reads},
          {"demand_bytes", source.demand_bytes},
          {"prefetch_bytes", source.prefetch_bytes},
          {"duplicate_bytes", source.duplicate_bytes},
          {"open_files", fs.open_files}};
}

}  // namespace

std::string Mounted::status_json() const {
  Json status = {{"schema", kStatusSchema},
                 {"version", SLIPWAY_VERSION},
                 {"source", options_.source},
                 {"mountpoint", mountpoint_},
                 {"pid", ::getpid()},
                 {"link", to_json(remote_->status())},
                 {"cache", to_json(cache_->stats(), options_.cache.directory)},
                 {"reads", to_json(fs_->stats(), cached_source_->stats())},
                 {"prefetch", to_json(prefetcher_->stats(), guide_->stats(),
                                      have_source_ ? have_source_->copied_bytes() : 0)}};
  status["writable"] = writeback_ != nullptr && !options_.read_only;
  if (options_.read_only)
    status["read_only_why"] = "mounted with -o ro";
  else if (writeback_ == nullptr)
    status["read_only_why"] = "the server lets this mount change nothing";
  status["draining"] = draining_.load();
  if (writeback_)
    status["writes"] = to_json(writeback_->stats());
  status["leases"] = leases_ ? Json::parse(lease_status_json(*leases_)) : Json::array();
  return status.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace slipway
