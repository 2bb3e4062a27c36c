#include "commands/mount_note.h"

#include "base/log.h"
#include "base/unique_fd.h"
#include "control/runtime_directory.h"
#include "secure/secret.h"

#include <dirent.h>
#include <fcntl.h>
#include <memory>
#include <string_view>
#include <unistd.h>

namespace slipway {

namespace {

// Fields end with a zero byte, which no path holds.
constexpr std::string_view kFirstField = "slipway-mount 1";
constexpr std::string_view kEnding = ".mount";
constexpr std::size_t kNoteSizeMax = 64 * 1024;  ///< bytes

Result<std::string> path_of(const std::string& cache) {
  SLIPWAY_TRY_ASSIGN(std::string path, runtime_directory());
  path += '/';
  for (const std::byte b : hash16({as_bytes(cache)}))
    path += fmt::format("{:02x}", static_cast<unsigned>(b));
  return path.append(kEnding);
}

Status write_note(const MountNote& note) {
  SLIPWAY_TRY_ASSIGN(const std::string path, path_of(note.cache));
  std::string text;
  for (const std::string_view field :
       {kFirstField, std::string_view(note.cache), std::string_view(note.mountpoint),
        std::string_view(note.source)}) {
    text += field;
    text += '\0';
  }
  const std::string aside = path + ".new";
  UniqueFd fd(::open(aside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd)
    return fail_errno(errno, "open '{}'", aside);
  SLIPWAY_TRY(pwrite_full(fd.get(), std::as_bytes(std::span(text)), 0));
  if (::rename(aside.c_str(), path.c_str()) != 0)
    return fail_errno(errno, "write '{}'", path);
  return {};
}

Result<MountNote> read_note(const std::string& path) {
  SLIPWAY_TRY_ASSIGN(const std::string text, read_small_file(path, kNoteSizeMax));
  std::vector<std::string> fields;
  std::size_t at = 0;
  for (std::size_t end = 0; (end = text.find('\0', at)) != std::string::npos; at = end + 1)
    fields.push_back(text.substr(at, end - at));
  if (fields.size() != 4 || fields[0] != kFirstField || fields[1].empty())
    return fail(ErrorCode::kInvalid, "'{}' is not a mount's note", path);
  return MountNote{fields[1], fields[2], fields[3]};
}

}  // namespace

void write_mount_note(const MountNote& note) {
  if (const Status written = write_note(note); !written)
    log_warning(
        "should this process be killed, `slipway umount` will not know of the cache '{}': {}",
        note.cache, written.error().message);
}

void remove_mount_note(const std::string& cache) {
  if (const auto path = path_of(cache))
    ::unlink(path->c_str());
}

bool has_mount_note(const std::string& cache) {
  const auto path = path_of(cache);
  return path && ::access(path->c_str(), F_OK) == 0;
}

std::vector<MountNote> mount_notes() {
  std::vector<MountNote> notes;
  const auto directory = runtime_directory();
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(directory ? ::opendir(directory->c_str()) : nullptr,
                                                &::closedir);
  if (!dir)
    return notes;
  while (const dirent* const entry = ::readdir(dir.get())) {
    if (!std::string_view(entry->d_name).ends_with(kEnding))
      continue;
    if (auto note = read_note(fmt::format("{}/{}", *directory, entry->d_name)))
      notes.push_back(std::move(*note));
  }
  return notes;
}

void forget_mountpoint(const MountNote& note) {
  write_mount_note({note.cache, "", note.source});
}

}  // namespace slipway
