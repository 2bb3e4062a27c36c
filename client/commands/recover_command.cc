#include "base/log.h"
#include "base/units.h"
#include "commands/cache_source.h"
#include "commands/commands.h"
#include "commands/default_cache.h"
#include "commands/exit_codes.h"
#include "commands/mount_note.h"
#include "commands/mounted.h"
#include "commands/unsent_writes.h"
#include "commands/wording.h"

#include <nlohmann/json.hpp>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <set>
#include <vector>

namespace slipway {

namespace {

using Json = nlohmann::json;

int report_failure(const Error& error) {
  fmt::print(stderr, "slipway: {}\n", error.message);
  return kExitFailure;
}

Json to_json(const UnsentWrites& unsent) {
  return {{"cache", unsent.cache},
          {"source", unsent.source},
          {"unsent_bytes", unsent.bytes},
          {"unsent_files", unsent.files}};
}

void print_json(const Json& json) {
  fmt::print("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace));
}

/// Those in the usual place, and those elsewhere that a mount has left a note of.
std::set<std::string> known_caches(const std::string& base) {
  std::set<std::string> all;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(base, error))
    all.insert(entry.path().string());
  for (const MountNote& note : mount_notes())
    all.insert(note.cache);
  return all;
}

int list_caches(bool json, const Mounter& mounter) {
  const auto base = cache_base_directory(mounter);
  if (!base)
    return report_failure(base.error());
  std::vector<UnsentWrites> all;
  for (const std::string& cache : known_caches(*base)) {
    auto unsent = find_unsent_writes(cache);
    if (unsent && *unsent)
      all.push_back(std::move(**unsent));
    else if (!unsent && unsent.error().code != ErrorCode::kBusy)  // kBusy: it is mounted
      fmt::print(stderr, "slipway: '{}': {}\n", escape(cache), unsent.error().message);
  }
  if (json) {
    Json list = Json::array();
    for (const UnsentWrites& unsent : all)
      list.push_back(to_json(unsent));
    print_json(list);
  } else {
    for (const UnsentWrites& unsent : all)
      fmt::print("{}\n  {} of writes to {} of {} are not on the server\n", escape(unsent.cache),
                 format_size(unsent.bytes), counted(unsent.files, "file"),
                 unsent.source.empty() ? "an unknown source" : escape(unsent.source));
    if (all.empty())
      fmt::print("no unsent writes are left in caches without a mount\n");
  }
  return all.empty() ? kExitOk : kExitUnsent;
}

int tell(const UnsentWrites& before, const WriteBackStats& stats, bool json) {
  const std::uint64_t sent = before.bytes - std::min(before.bytes, stats.unsent_bytes);
  UnsentWrites left = before;
  left.bytes = stats.unsent_bytes;
  left.files = stats.unsent_files;
  if (json) {
    Json document = to_json(left);
    document["sent_bytes"] = sent;
    document["conflicts"] = stats.conflicts;
    print_json(document);
  } else {
    fmt::print("{} sent\n", format_size(sent));
  }
  if (!stats.conflicts.empty())
    warn_of_conflicts(escape(left.cache), stats.conflicts, stats.conflicts.size());
  if (left.files == 0)
    return stats.conflicts.empty() ? kExitOk : kExitConflict;
  fmt::print(stderr, "slipway: {} of writes to {} are still NOT on the server{}{}\n",
             format_size(left.bytes), counted(left.files, "file"),
             stats.waiting_for.empty() ? "" : ": ", stats.waiting_for);
  return kExitUnsent;
}

int send(const std::string& typed, bool json, const Mounter& mounter) {
  std::error_code error;
  const std::string directory = std::filesystem::weakly_canonical(typed, error).string();
  const auto source =
      error ? fail_errno(error.value(), "cache '{}'", escape(typed)) : read_source(directory);
  if (!source)
    return report_failure(source.error());
  auto options = parse_mount_options(source->source, "/", source->option_strings, mounter);
  if (!options)
    return report_failure(options.error());
  options->cache.directory = directory;
  options->read_only = false;
  auto connected = Mounted::connect(*options, "", /*interactive=*/true);
  if (!connected)
    return report_failure(connected.error());
  Mounted& sender = **connected;
  sender.drain([] { return false; });
  const WriteBackStats after = sender.write_stats();
  // What was found is known still, however fast it was sent.
  return tell({directory, source->source, after.recovered_bytes, after.unsent_files}, after, json);
}

}  // namespace

int recover_command(const std::string& cache, bool json, const Mounter& mounter) {
  set_log_level(LogLevel::kWarning);
  return cache.empty() ? list_caches(json, mounter) : send(cache, json, mounter);
}

}  // namespace slipway
