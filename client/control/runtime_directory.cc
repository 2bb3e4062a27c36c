#include "control/runtime_directory.h"

#include <dirent.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "secure/secret.h"

namespace slipway {

Result<std::string> runtime_directory() {
  const uid_t uid = ::geteuid();
  std::string path;
  if (uid == 0)
    path = "/run/slipway";
  else if (const char* base = std::getenv("XDG_RUNTIME_DIR"); base != nullptr && *base == '/')
    path = std::string(base) + "/slipway";
  else if (const auto usual = fmt::format("/run/user/{}", uid); ::access(usual.c_str(), W_OK) == 0)
    path = usual + "/slipway";  // mount(8), sudo and su may have lost the variable
  else
    path = fmt::format("/tmp/slipway-{}", uid);
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
    return fail_errno(errno, "create '{}'", path);
  struct stat st {};
  if (::lstat(path.c_str(), &st) != 0)
    return fail_errno(errno, "stat '{}'", path);
  if (!S_ISDIR(st.st_mode) || st.st_uid != uid || (st.st_mode & 077) != 0)
    return fail(ErrorCode::kNotPermitted,
                "'{}' must be a directory of yours with mode 0700: remove it", path);
  return path;
}

Result<std::string> control_socket_path(std::string_view mountpoint) {
  SLIPWAY_TRY_ASSIGN(std::string path, runtime_directory());
  path += '/';
  for (const std::byte b : hash16({as_bytes(mountpoint)}))
    path += fmt::format("{:02x}", static_cast<unsigned>(b));
  return path + ".sock";
}

Result<std::vector<std::string>> control_sockets() {
  SLIPWAY_TRY_ASSIGN(const std::string directory, runtime_directory());
  std::vector<std::string> out;
  DIR* dir = ::opendir(directory.c_str());
  if (dir == nullptr)
    return fail_errno(errno, "open '{}'", directory);
  while (const dirent* entry = ::readdir(dir)) {
    const std::string_view name = entry->d_name;
    if (name.ends_with(".sock"))
      out.push_back(fmt::format("{}/{}", directory, name));
  }
  ::closedir(dir);
  return out;
}

}  // namespace slipway
