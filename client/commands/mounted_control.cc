#include "commands/mounted.h"
#include "commands/wording.h"
#include "control/control_client.h"

#include <nlohmann/json.hpp>

// What a mount does when it is told to by the control socket or a signal.

namespace slipway {

namespace {

using Json = nlohmann::json;

constexpr std::size_t kFlushesKept = 256;  ///< results that nobody may have asked for yet

}  // namespace

void Mounted::flush(const std::string& path, bool invalidate, std::function<void(Status)> done) {
  const auto finish = [this, path, invalidate, done = std::move(done)](Status flushed) {
    if (flushed && invalidate && fs_ != nullptr)
      fs_->invalidate(path);
    done(std::move(flushed));
  };
  if (writeback_ == nullptr)
    finish({});
  else
    writeback_->flush(finish);
}

std::string Mounted::begin_flush(const std::string& path, bool invalidate) {
  std::uint64_t id = 0;
  {
    auto flushes = flushes_->lock();
    id = ++flushes->last;
    while (flushes->over.size() > kFlushesKept)
      flushes->over.erase(flushes->over.begin());
  }
  flush(path, invalidate, [id, shared = flushes_](const Status& flushed) {
    shared->lock()->over[id] = flushed ? "" : flushed.error().message;
  });
  return Json{{"flush", id}}.dump();
}

std::string Mounted::tell_flush(std::uint64_t id) {
  Json answer = {{"done", false}, {"unsent_bytes", 0}, {"waiting_for", ""}, {"error", ""}};
  bool is_over = false;
  {
    auto flushes = flushes_->lock();
    if (const auto over = flushes->over.find(id); over != flushes->over.end()) {
      is_over = true;
      answer["done"] = true;
      answer["failed"] = over->second;
    }
  }
  if (!writeback_)
    return answer.dump();
  const WriteBackStats stats = writeback_->stats();
  answer["unsent_bytes"] = stats.unsent_bytes;
  answer["waiting_for"] = stats.waiting_for;
  if (is_over) {
    // Also those that came before it, when the mount sent by itself.
    const std::size_t told = std::exchange(conflicts_flushed_, stats.conflicts.size());
    answer["conflicts"] = lines_that_fit(stats.conflicts, told);
    answer["conflicts_total"] = stats.conflicts.size() - told;
  }
  return answer.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string Mounted::tell_status(bool to_who_waits) {
  if (to_who_waits && writeback_)
    conflicts_told_ = writeback_->stats().conflicts.size();  // at most what the answer has
  return status_json();
}

std::string Mounted::handle_control(const std::string& line) try {
  const Json request = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!request.is_object() || !request.contains("version") || request["version"] != kControlVersion)
    return Json{{"error", "this mount speaks version 1 of the control protocol"}}.dump();
  const std::string command = request.value("command", "");
  if (command == "status")
    return tell_status(request.value("waits", false));
  if (command == "release") {
    release();
    return Json{{"draining", draining_.load()}}.dump();
  }
  if (command == "flush" || command == "invalidate")
    return begin_flush(request.value("path", ""), command == "invalidate");
  if (command == "flush-state")
    return tell_flush(request.value("flush", std::uint64_t{0}));
  if (lease_control_ && command == "lease-ls")
    return lease_control_->begin_list();
  if (lease_control_ && command == "lease-break")
    return lease_control_->begin_break(request.value("group", ""),
                                       request.value("epoch", std::uint64_t{0}));
  if (lease_control_ && command == "lease-state")
    return lease_control_->tell(request.value("question", std::uint64_t{0}));
  return Json{{"error", "unknown command"}}.dump();

} catch (const Json::exception&) {  // a field of another type

  return Json{{"error", "not a request"}}.dump();
}

}  // namespace slipway
