#include "commands/default_cache.h"

#include "secure/secret.h"

#include <cctype>
#include <cstdlib>
#include <pwd.h>

namespace slipway {

namespace {

/// mount(8) takes HOME out of the environment when a user mounts what fstab lets him mount.
std::string home_directory(const Mounter& mounter) {
  if (const char* home = std::getenv("HOME"); home != nullptr && *home == '/')
    return home;
  const passwd* const entry = ::getpwuid(mounter.uid);
  return entry != nullptr && entry->pw_dir != nullptr ? entry->pw_dir : "";
}

}  // namespace

Result<std::string> cache_base_directory(const Mounter& mounter) {
  if (mounter.uid == 0)
    return "/var/lib/slipway";
  if (const char* state = std::getenv("XDG_STATE_HOME"); state != nullptr && *state == '/')
    return std::string(state) + "/slipway";
  if (const std::string home = home_directory(mounter); home.starts_with('/'))
    return home + "/.local/state/slipway";
  return fail(ErrorCode::kInvalid,
              "neither XDG_STATE_HOME nor HOME is set: name the cache with -o cache=DIR");
}

Result<std::string> default_cache_directory(const MountOptions& options, const Mounter& mounter) {
  SLIPWAY_TRY_ASSIGN(const std::string base, cache_base_directory(mounter));
  // One directory per export as it is typed; who the server really is stands inside the cache.
  std::string name;
  for (const char c : options.connect.host + options.export_path)
    name += (std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '-') ? c : '_';
  if (name.size() > 80)
    name.resize(80);
  const auto digest = hash16({as_bytes(options.connect.user), as_bytes(options.connect.host),
                              as_bytes(options.export_path)});
  std::string hex;
  for (std::size_t i = 0; i < 4; ++i)
    hex += fmt::format("{:02x}", static_cast<unsigned>(digest[i]));
  return fmt::format("{}/{}-{}", base, name, hex);
}

}  // namespace slipway
