#include <chrono>
#include <cstdio>
#include <filesystem>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/log.h"
#include "base/units.h"
#include "commands/cache_source.h"
#include "commands/commands.h"
#include "commands/default_cache.h"
#include "commands/exit_codes.h"
#include "commands/mounted.h"
#include "writeback/log_replay.h"

namespace slipway {

namespace {

using Json = nlohmann::json;

int report(const Error& error) {
  fmt::print(stderr, "slipway: {}\n", error.message);
  return kExitFailure;
}

struct Left {
  std::string directory;
  std::string source;
  std::uint64_t bytes = 0;
  std::size_t files = 0;
};

/// What is unsent in a cache that no process has; nothing: none, or it is in use.
std::optional<Left> look_into(const std::string& directory) {
  if (!WriteBack::has_log(directory))
    return std::nullopt;
  LogReplay replay;
  LogOptions options;
  options.directory = directory + "/log";
  const auto log = WriteLog::open(options, replay);
  if (!log) {
    if (log.error().code != ErrorCode::kBusy)
      fmt::print(stderr, "slipway: '{}': {}\n", directory, log.error().message);
    return std::nullopt;
  }
  const LogReplay::Found found = replay.take({});
  Left left;
  left.directory = directory;
  left.files = found.files.size();
  for (const auto& file : found.files)
    left.bytes += file->unsent_bytes();
  if (left.files == 0)
    return std::nullopt;
  if (const auto source = read_source(directory))
    left.source = source->source;
  return left;
}

int list_caches(bool json, const Mounter& mounter) {
  const auto base = cache_base_directory(mounter);
  if (!base)
    return report(base.error());
  std::vector<Left> all;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(*base, error)) {
    if (auto left = look_into(entry.path().string()))
      all.push_back(std::move(*left));
  }
  if (json) {
    Json list = Json::array();
    for (const Left& left : all)
      list.push_back({{"cache", left.directory},
                      {"source", left.source},
                      {"unsent_bytes", left.bytes},
                      {"unsent_files", left.files}});
    fmt::print("{}\n", list.dump(2, ' ', false, Json::error_handler_t::replace));
  } else {
    for (const Left& left : all)
      fmt::print("{}\n  {} of writes to {} files of {} are not on the server\n", left.directory,
                 format_size(left.bytes), left.files,
                 left.source.empty() ? "an unknown source" : left.source);
    if (all.empty())
      fmt::print("no unsent writes are left in caches below {}\n", *base);
  }
  return all.empty() ? kExitOk : kExitUnsent;
}

int send(const std::string& typed, const Mounter& mounter) {
  std::error_code error;
  const std::string directory = std::filesystem::weakly_canonical(typed, error).string();
  const auto source = read_source(directory);
  if (!source)
    return report(source.error());
  auto options = parse_mount_options(source->source, "/", source->option_strings, mounter);
  if (!options)
    return report(options.error());
  options->cache.directory = directory;
  options->read_only = false;
  set_log_level(LogLevel::kWarning);
  auto connected = Mounted::connect(*options, "", /*interactive=*/true);
  if (!connected)
    return report(connected.error());
  Mounted& sender = **connected;
  const std::uint64_t bytes = sender.write_stats().unsent_bytes;
  sender.drain([] { return false; });
  const WriteBackStats stats = sender.write_stats();
  fmt::print("{} sent\n", format_size(bytes - std::min(bytes, stats.unsent_bytes)));
  if (!sender.is_clean())
    return kExitUnsent;
  return stats.conflicts.empty() ? kExitOk : kExitConflict;
}

}  // namespace

int recover_command(const std::string& cache, bool json, const Mounter& mounter) {
  return cache.empty() ? list_caches(json, mounter) : send(cache, mounter);
}

}  // namespace slipway
