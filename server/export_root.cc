#include "server/export_root.h"

#include "base/log.h"
#include "secure/secret.h"
#include "server/safe_open.h"
#include "wire/limits.h"

#include <climits>

#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <memory>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

namespace slipway {

namespace {

constexpr std::size_t kIdTextMax = 64;  // bytes: 32 digits and a newline

bool is_within(const std::string& path, const std::string& directory) noexcept {
  return directory.empty() || directory == "/" || path == directory ||
         (path.starts_with(directory) && path[directory.size()] == '/');
}

// Where a path that can't be opened would lie: by the longest part of its way that exists, so that
// an error says nothing of what is outside of `directory`, be it reached by ".." or by a link.
bool leads_within(std::string path, const std::string& directory) {
  for (;;) {
    const std::unique_ptr<char, decltype(&std::free)> found(::realpath(path.c_str(), nullptr),
                                                            &std::free);
    if (found != nullptr)
      return is_within(found.get(), directory);
    const auto slash = path.rfind('/');
    if (slash == std::string::npos)
      return false;
    path.resize(std::max<std::size_t>(slash, 1));
  }
}

std::string expand_home(const std::string& typed) {
  if (typed.starts_with('/'))
    return typed;
  if (typed == "~" || typed.empty())
    return home_directory();
  return home_directory() + "/" + (typed.starts_with("~/") ? typed.substr(2) : typed);
}

std::optional<ExportId> parse_export_id(const std::string& text) {
  ExportId id{};
  if (text.size() < 2 * id.size() || text.find_first_not_of(" \n", 2 * id.size()) != text.npos)
    return std::nullopt;
  for (std::size_t i = 0; i < 2 * id.size(); ++i) {
    const char c = text[i];
    if ((c < '0' || c > '9') && (c < 'a' || c > 'f'))
      return std::nullopt;
    const auto digit = static_cast<unsigned>(c <= '9' ? c - '0' : c - 'a' + 10);
    id[i / 2] = id[i / 2] << 4 | std::byte{static_cast<unsigned char>(digit)};
  }
  return id;
}

bool is_believed(const struct stat& entry, const struct stat& directory) noexcept {
  return (entry.st_uid == 0 || entry.st_uid == directory.st_uid) &&
         (entry.st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

// The id in `directory`/.slipway, if there is one to believe.
std::optional<ExportId> read_export_id(const std::string& directory) {
  const UniqueFd root(::open(directory.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));

  struct stat root_stat {};

  if (!root || ::fstat(root.get(), &root_stat) != 0)
    return std::nullopt;
  const Result<UniqueFd> state =
      open_beneath(root.get(), std::string(kStateDirectoryName), O_PATH | O_DIRECTORY | O_NOFOLLOW);

  struct stat state_stat {};

  if (!state || ::fstat(state->get(), &state_stat) != 0)
    return std::nullopt;
  const Result<UniqueFd> path = open_beneath(state->get(), "id", O_PATH | O_NOFOLLOW);

  struct stat id_stat {};

  if (!path || ::fstat(path->get(), &id_stat) != 0 || !S_ISREG(id_stat.st_mode))
    return std::nullopt;
  if (!is_believed(state_stat, root_stat) || !is_believed(id_stat, root_stat)) {
    log_warning("'{}/{}' is not believed: others may write to it", escape(directory),
                kStateDirectoryName);
    return std::nullopt;
  }
  const Result<UniqueFd> file = reopen_for_reading(path->get());
  std::string text(kIdTextMax, '\0');
  if (!file)
    return std::nullopt;
  const Result<std::size_t> size =
      pread_full(file->get(), std::as_writable_bytes(std::span(text)), 0);
  if (!size)
    return std::nullopt;
  text.resize(*size);
  return parse_export_id(text);
}

std::string user_state_directory() {
  const char* const xdg = std::getenv("XDG_STATE_HOME");
  if (xdg != nullptr && *xdg == '/')
    return std::string(xdg) + "/slipwayd";
  const std::string home = home_directory();
  return home.empty() ? "" : home + "/.local/state/slipwayd";
}

std::string choose_state_file(const ExportRoot& root, const std::optional<StateDirectory>& state) {
  if (state) {
    const std::string directory = state->root + "/" + std::string(kStateDirectoryName);
    if (::faccessat(AT_FDCWD, directory.c_str(), W_OK | X_OK, AT_EACCESS) == 0)
      return directory +
             (state->root == root.path ? "/filesystems" : "/filesystems-" + to_hex(root.id));
  }
  const std::string directory = user_state_directory();
  return directory.empty() ? "" : directory + "/filesystems-" + to_hex(root.id);
}

// The export's box, which everybody may write to; without it the user's own.
std::string choose_profile_directory(const ExportRoot& root,
                                     const std::optional<StateDirectory>& state) {
  if (state) {
    const std::string box = state->root + "/" + std::string(kStateDirectoryName) + "/profiles";

    struct stat info {};

    if (::lstat(box.c_str(), &info) == 0 && S_ISDIR(info.st_mode))
      return box;
  }
  const std::string directory = user_state_directory();
  return directory.empty() ? "" : directory + "/profiles-" + to_hex(root.id);
}

// Whether a journal of this user is or may be at `path`, in a directory for all users. Whoever made
// one there first, or a link, gets no journal to read or to write.
bool may_keep_journal(const std::string& parent, const std::string& path) {
  struct stat info {};

  if (::lstat(path.c_str(), &info) == 0)
    return S_ISDIR(info.st_mode) && info.st_uid == ::geteuid() && (info.st_mode & 0077) == 0;
  return errno == ENOENT && ::lstat(parent.c_str(), &info) == 0 && S_ISDIR(info.st_mode) &&
         ::faccessat(AT_FDCWD, parent.c_str(), W_OK | X_OK, AT_EACCESS) == 0;
}

// Each exported directory has its own, since journals hold paths below its root.
std::string choose_journal_directory(const ExportRoot& root,
                                     const std::optional<StateDirectory>& state) {
  if (state) {
    const std::string parent = state->root + "/" + std::string(kStateDirectoryName) + "/journal";
    const std::string path = fmt::format("{}/{}", parent, ::geteuid()) +
                             (state->root == root.path ? "" : "-" + to_hex(root.id));
    if (may_keep_journal(parent, path))
      return path;
    log_debug("no journal in '{}': this user's own directory is used", escape(parent));
  }
  const std::string directory = user_state_directory();
  return directory.empty() ? "" : directory + "/journal-" + to_hex(root.id);
}

// The export's own, which everybody may write to; without it the user's, and then leases exclude no
// other users.
std::string choose_lease_directory(const ExportRoot& root,
                                   const std::optional<StateDirectory>& state) {
  if (state) {
    const std::string shared = state->root + "/" + std::string(kStateDirectoryName) + "/leases";

    struct stat info {};

    if (::lstat(shared.c_str(), &info) == 0 && S_ISDIR(info.st_mode) &&
        ::faccessat(AT_FDCWD, shared.c_str(), W_OK | X_OK, AT_EACCESS) == 0)
      return shared;
  }
  const std::string directory = user_state_directory();
  return directory.empty() ? "" : directory + "/leases-" + to_hex(state ? state->id : root.id);
}

void identify(ExportRoot& root, const std::optional<StateDirectory>& state) {
  root.initialised = state.has_value();
  if (!state) {
    root.id = hash16({as_bytes("slipway-derived"), machine_id(), as_bytes(root.path)});
  } else if (state->root == root.path) {
    root.id = state->id;
  } else {
    const std::size_t skip = state->root == "/" ? 1 : state->root.size() + 1;
    root.id = hash16({state->id, as_bytes(root.path).subspan(skip)});
  }
}

// As open_export; what it says about paths outside of a restriction must not reach the client.
Result<ExportRoot> open_any_export(const std::string& typed) {
  ExportRoot root;
  SLIPWAY_TRY_ASSIGN(root.path, canonical_directory(expand_home(typed), typed));
  if (has_hidden_component(root.path))
    return fail(ErrorCode::kNotPermitted,
                "export '{}' is inside a {} directory, which is never served", escape(typed),
                kStateDirectoryName);
  const UniqueFd top(::open("/", O_PATH | O_DIRECTORY | O_CLOEXEC));
  Result<UniqueFd> fd =
      open_beneath(top.get(), root.path.substr(1), O_PATH | O_DIRECTORY | O_NOFOLLOW);
  if (!fd || ::faccessat(fd->get(), ".", X_OK, AT_EACCESS) != 0)
    return fail(ErrorCode::kAccessDenied, "export '{}': permission denied", escape(typed));
  root.fd = std::move(*fd);
  return root;
}

}  // namespace

Result<ExportRoot> open_export(const std::string& typed, const std::string& restrict_to) {
  std::string top;
  if (!restrict_to.empty()) {
    const Result<std::string> canonical = canonical_directory(restrict_to, restrict_to);
    if (!canonical)
      return fail(ErrorCode::kNotPermitted, "the server's --restrict-to directory does not exist");
    top = *canonical;
  }
  Result<ExportRoot> root = open_any_export(typed);
  const bool is_inside =
      top.empty() || (root ? is_within(root->path, top) : leads_within(expand_home(typed), top));
  if (!is_inside)
    return fail(ErrorCode::kNotPermitted, "export '{}' is outside of what this key may mount",
                escape(typed));
  if (!root)
    return root;
  const std::optional<StateDirectory> state = find_state_directory(root->path, top);
  identify(*root, state);
  root->state_file = choose_state_file(*root, state);
  root->state_root = state ? state->root : "";
  root->profile_directory = choose_profile_directory(*root, state);
  root->journal_directory = choose_journal_directory(*root, state);
  root->lease_directory = choose_lease_directory(*root, state);
  root->lease_top = state ? state->root : root->path;
  return root;
}

std::optional<StateDirectory> find_state_directory(const std::string& directory,
                                                   const std::string& top) {
  for (std::string at = directory; is_within(at, top);) {
    if (const std::optional<ExportId> id = read_export_id(at))
      return StateDirectory{at, *id};
    if (at == "/")
      break;
    at.resize(std::max<std::size_t>(at.rfind('/'), 1));
  }
  return std::nullopt;
}

Result<std::string> canonical_directory(const std::string& wanted, const std::string& typed) {
  if (typed.find('\0') != std::string::npos || wanted.size() > kPathMax || wanted.empty())
    return fail(ErrorCode::kInvalid, "export '{}' is not a path", escape(typed));
  const std::unique_ptr<char, decltype(&std::free)> canonical(::realpath(wanted.c_str(), nullptr),
                                                              &std::free);
  if (canonical == nullptr) {
    switch (errno) {
      case ENOENT:
        return fail(ErrorCode::kNotFound, "export '{}' does not exist", escape(typed));
      case ENOTDIR:
        return fail(ErrorCode::kNotDirectory, "export '{}' is not a directory", escape(typed));
      case EACCES:
        return fail(ErrorCode::kAccessDenied, "export '{}': permission denied", escape(typed));
      default:
        return fail_errno(errno, "export '{}'", escape(typed));
    }
  }

  struct stat info {};

  if (::stat(canonical.get(), &info) != 0)
    return fail_errno(errno, "export '{}'", escape(typed));
  if (!S_ISDIR(info.st_mode))
    return fail(ErrorCode::kNotDirectory, "export '{}' is not a directory", escape(typed));
  return std::string(canonical.get());
}

std::array<std::byte, 16> machine_id() {
  static constexpr std::size_t kTextMax = 4096;  // bytes
  Result<std::string> text = read_small_file("/etc/machine-id", kTextMax);
  if (!text || text->find_first_not_of(" \n") == std::string::npos)
    text = read_small_file("/proc/sys/kernel/random/boot_id", kTextMax);
  return hash16({as_bytes("slipway-machine"), as_bytes(text ? *text : "")});
}

std::string home_directory() {
  const char* const home = std::getenv("HOME");
  if (home != nullptr && *home == '/')
    return home;

  struct passwd entry {};
  struct passwd* found = nullptr;
  std::string buffer(16 * 1024, '\0');
  if (::getpwuid_r(::geteuid(), &entry, buffer.data(), buffer.size(), &found) == 0 &&
      found != nullptr)
    return found->pw_dir;
  return "";
}

std::string to_hex(std::span<const std::byte> bytes) {
  std::string text;
  for (const std::byte b : bytes)
    text += fmt::format("{:02x}", std::to_integer<unsigned>(b));
  return text;
}

}  // namespace slipway
