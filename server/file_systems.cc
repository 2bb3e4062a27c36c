#include "server/file_systems.h"

#include "base/log.h"
#include "base/unique_fd.h"
#include "server/file_attributes.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <bit>
#include <cstring>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <sys/file.h>
#include <sys/vfs.h>
#include <unistd.h>

namespace slipway {

namespace {

constexpr std::size_t kStateFileMax = 4 * 1024 * 1024;  // bytes

// "TYPE SOURCE" of a mount whose source names it for good (a server's export, a device); else "".
std::string mount_source(std::uint64_t mount_id) {
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream fields(line);
    std::uint64_t id = 0;
    if (!(fields >> id) || id != mount_id)
      continue;
    const auto separator = line.find(" - ");
    if (separator == std::string::npos)
      return "";
    std::istringstream tail(line.substr(separator + 3));
    std::string type;
    std::string source;
    tail >> type >> source;
    return source.find_first_of(":/") == std::string::npos ? "" : type + " " + source;
  }
  return "";
}

// What names the file system for good; "" when nothing does.
std::string key_of(const struct statx& stat, int directory, const char* name) {
  UniqueFd opened;
  if (*name != '\0') {
    opened.reset(::openat(directory, name, O_PATH | O_NOFOLLOW | O_CLOEXEC));
    if (!opened)
      return "";
    directory = opened.get();
  }

  struct statfs info {};
  const Result<struct statx> again = stat_at(directory, "");
  if (!again || device_of(*again) != device_of(stat) || ::fstatfs(directory, &info) != 0)
    return "";
  static_assert(sizeof info.f_fsid == sizeof(std::uint64_t));
  const auto id = std::bit_cast<std::uint64_t>(info.f_fsid);
  if (id != 0)
    return fmt::format("{:x} {:016x}", static_cast<std::uint64_t>(info.f_type), id);
  return (again->stx_mask & STATX_MNT_ID) != 0 ? mount_source(again->stx_mnt_id) : "";
}

// Serialises sessions that number file systems of one export at the same time; best effort.
UniqueFd lock_beside(const std::string& state_file) {
  UniqueFd lock(
      ::open((state_file + ".lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (lock && ::flock(lock.get(), LOCK_EX) != 0)
    log_warning("can't lock '{}.lock'", state_file);
  return lock;
}

}  // namespace

FileSystemTable::FileSystemTable(std::string state_file, const struct statx& root)
    : state_file_(std::move(state_file)) {
  auto state = state_.lock();
  state->by_device[device_of(root)] = 0;
  state->numbers = load();
}

Result<std::uint32_t> FileSystemTable::index_of(const struct statx& stat, int directory,
                                                const char* name) {
  const std::uint64_t device = device_of(stat);
  {
    auto state = state_.lock();
    if (const auto known = state->by_device.find(device); known != state->by_device.end())
      return known->second;
  }
  std::string key = key_of(stat, directory, name);
  auto state = state_.lock();
  if (const auto known = state->by_device.find(device); known != state->by_device.end())
    return known->second;
  const auto same = state->numbers.by_key.find(key);
  if (same != state->numbers.by_key.end() &&
      std::any_of(state->by_device.begin(), state->by_device.end(),
                  [&](const auto& seen) { return seen.second == same->second; }))
    key.clear();  // two devices claim one identity: it tells nothing
  SLIPWAY_TRY_ASSIGN(const std::uint32_t index, assign(*state, key));
  state->by_device[device] = index;
  return index;
}

Result<std::uint32_t> FileSystemTable::assign(State& state, const std::string& key) {
  UniqueFd lock;
  if (!state_file_.empty()) {
    std::error_code ignored;
    const auto directory = std::filesystem::path(state_file_).parent_path();
    if (std::filesystem::create_directories(directory, ignored))
      ::chmod(directory.c_str(), 0700);
    lock = lock_beside(state_file_);
    Numbers stored = load();  // another session may have gone on meanwhile
    stored.next = std::max(stored.next, state.numbers.next);
    stored.by_key.insert(state.numbers.by_key.begin(), state.numbers.by_key.end());
    state.numbers = std::move(stored);
  }
  if (const auto known = state.numbers.by_key.find(key); known != state.numbers.by_key.end())
    return known->second;
  if (state.numbers.next > kFileSystemsMax)
    return fail(ErrorCode::kNotSupported, "the export holds more than {} file systems",
                kFileSystemsMax);
  const std::uint32_t index = state.numbers.next++;
  if (!key.empty())
    state.numbers.by_key[key] = index;
  if (!state_file_.empty())
    save(state.numbers);
  return index;
}

FileSystemTable::Numbers FileSystemTable::load() const {
  Numbers numbers;
  if (state_file_.empty())
    return numbers;
  const Result<std::string> text = read_small_file(state_file_, kStateFileMax);
  if (!text)
    return numbers;
  const auto json = nlohmann::json::parse(*text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object() || !json.contains("file_systems") || !json["file_systems"].is_object()) {
    log_warning("'{}' is damaged; file systems below the root are numbered anew", state_file_);
    return numbers;
  }
  for (const auto& [key, index] : json["file_systems"].items()) {
    if (!index.is_number_unsigned() || index > kFileSystemsMax || index == 0U)
      continue;
    numbers.by_key[key] = index;
    numbers.next = std::max(numbers.next, numbers.by_key[key] + 1);
  }
  if (json.contains("next") && json["next"].is_number_unsigned() &&
      json["next"] <= kFileSystemsMax + 1)
    numbers.next = std::max(numbers.next, json["next"].get<std::uint32_t>());
  return numbers;
}

void FileSystemTable::save(const Numbers& numbers) const {
  nlohmann::json json;
  json["version"] = 1;
  json["next"] = numbers.next;
  json["file_systems"] = numbers.by_key;
  if (const Status saved = replace_file(state_file_, json.dump(1) + "\n", 0644); !saved)
    log_warning("file system numbers are not kept: {}", saved.error().message);
}

}  // namespace slipway
