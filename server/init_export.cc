#include "server/init_export.h"

#include "base/log.h"
#include "base/unique_fd.h"
#include "secure/secret.h"
#include "server/export_root.h"
#include "server/safe_open.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace slipway {

namespace {

// Either the whole id or no file: written aside, then linked to its name, which fails when another
// process was first.
Status write_id(const std::string& state, const ExportId& id) {
  const std::string temporary = fmt::format("{}/.id.{}", state, ::getpid());
  SLIPWAY_TRY(replace_file(temporary, to_hex(id) + "\n", 0644));
  const int made = ::chmod(temporary.c_str(), 0644) == 0
                       ? ::link(temporary.c_str(), (state + "/id").c_str())
                       : -1;
  const int error = errno;
  ::unlink(temporary.c_str());
  if (made != 0 && error != EEXIST)
    return fail_errno(error, "'{}/id'", escape(state));
  const UniqueFd directory(::open(state.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!directory || ::fsync(directory.get()) != 0)
    return fail_errno(errno, "fsync '{}'", escape(state));
  return {};
}

Status make_state_directory(const std::string& state) {
  if (::mkdir(state.c_str(), 0755) != 0 && errno != EEXIST)
    return fail_errno(errno, "'{}'", escape(state));

  struct stat info {};

  if (::lstat(state.c_str(), &info) != 0)
    return fail_errno(errno, "'{}'", escape(state));
  if (!S_ISDIR(info.st_mode))
    return fail(ErrorCode::kNotDirectory, "'{}' is there and is not a directory", escape(state));
  if (info.st_uid != ::geteuid())
    return fail(ErrorCode::kNotPermitted, "'{}' belongs to another user", escape(state));
  if (::chmod(state.c_str(), 0755) != 0)  // whatever the umask is
    return fail_errno(errno, "'{}'", escape(state));
  return {};
}

// What an export keeps besides its id (design of `.slipway`: docs/manifest-format.md).
struct StateFolder {
  const char* name;
  mode_t mode;
};

constexpr StateFolder kFolders[] = {{"manifests", 0755},
                                    {"frames", 0755},
                                    {"roots", 0755},
                                    {"profiles", 01777},
                                    {"journal", 01777},
                                    {"leases", 01777}};

// Those that are there keep the mode that an administrator may have given them.
Status make_folders(const std::string& root) {
  const UniqueFd directory(::open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  SLIPWAY_TRY_ASSIGN(const UniqueFd state,
                     open_beneath(directory.get(), std::string(kStateDirectoryName),
                                  O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  for (const StateFolder& folder : kFolders) {
    if (::mkdirat(state.get(), folder.name, 0700) != 0) {
      if (errno == EEXIST)
        continue;
      return fail_errno(errno, "'{}/{}/{}'", escape(root), kStateDirectoryName, folder.name);
    }
    if (::fchmodat(state.get(), folder.name, folder.mode, 0) != 0)  // whatever the umask is
      return fail_errno(errno, "chmod '{}'", folder.name);
  }
  return {};
}

}  // namespace

Result<InitialisedExport> init_export(const std::string& directory) {
  const Result<std::string> path = canonical_directory(directory, directory);
  if (!path)
    return fail(path.error());
  if (has_hidden_component(*path))
    return fail(ErrorCode::kInvalid, "'{}' is inside the {} directory of an export", escape(*path),
                kStateDirectoryName);
  if (const auto found = find_state_directory(*path, "")) {
    if (found->root == *path) {
      SLIPWAY_TRY(make_folders(*path));  // an older version made fewer
      return InitialisedExport{found->id, false};
    }
    return fail(
        ErrorCode::kExists,
        "'{}' lies inside the export '{}', and exports do not nest; clients may mount it as it is",
        escape(*path), escape(found->root));
  }
  const std::string state = (*path == "/" ? "" : *path) + "/" + std::string(kStateDirectoryName);
  SLIPWAY_TRY(make_state_directory(state));
  ExportId id{};
  fill_random(id);
  SLIPWAY_TRY(write_id(state, id));
  const auto made = find_state_directory(*path, *path);
  if (!made)
    return fail(ErrorCode::kIo,
                "'{}/id' is there but can't be believed: it must belong to root or the owner of "
                "'{}', be writable by nobody else, and hold 32 hexadecimal digits",
                escape(state), escape(*path));
  SLIPWAY_TRY(make_folders(*path));
  return InitialisedExport{made->id, made->id == id};
}

}  // namespace slipway
