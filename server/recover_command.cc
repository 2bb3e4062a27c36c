// `slipwayd recover`.

#include "base/log.h"
#include "server/recovery.h"
#include "server/safe_open.h"

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <dirent.h>
#include <fcntl.h>
#include <grp.h>
#include <memory>
#include <pwd.h>
#include <set>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

namespace slipway {

namespace {

constexpr int kExitNoExport = 1;
constexpr int kExitLeft = 2;

/// Whose journals there are, with the group of the directory for a user whom nobody knows any more.
struct Owner {
  uid_t user = 0;
  gid_t group = 0;

  friend auto operator<=>(const Owner& a, const Owner& b) { return a.user <=> b.user; }
};

// "UID" and "UID-EXPORTID" that belong to the user whom they name.
Result<std::set<Owner>> journal_owners(const std::string& state_root) {
  const UniqueFd root(::open(state_root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  Result<UniqueFd> journals =
      open_beneath(root.get(), std::string(kStateDirectoryName) + "/journal",
                   O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!journals && journals.error().code == ErrorCode::kNotFound)
    return std::set<Owner>();
  if (!journals)
    return fail(std::move(journals).error());
  const int fd = journals->get();
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(::fdopendir(fd), &::closedir);
  if (dir == nullptr)
    return fail_errno(errno, "the journals");
  (void)journals->release();
  std::set<Owner> owners;
  while (const struct dirent* const entry = ::readdir(dir.get())) {
    const std::string_view name = entry->d_name;
    uid_t user = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), user);

    struct stat info {};

    if (error == std::errc() && (end == name.data() + name.size() || *end == '-') &&
        ::fstatat(fd, entry->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(info.st_mode) &&
        info.st_uid == user)
      owners.insert({user, info.st_gid});
  }
  return owners;
}

std::string name_of(uid_t user) {
  const struct passwd* const known = ::getpwuid(user);
  return known != nullptr ? fmt::format("{} ({})", user, escape(known->pw_name))
                          : fmt::to_string(user);
}

// All that this process may do, then, is what a session of that user may. What is remembered of
// file systems is looked for where such a session keeps it.
Status become(const Owner& owner) {
  const struct passwd* const known = ::getpwuid(owner.user);
  const gid_t group = known != nullptr ? known->pw_gid : owner.group;
  const int groups =
      known != nullptr ? ::initgroups(known->pw_name, group) : ::setgroups(1, &group);
  ::unsetenv("XDG_STATE_HOME");
  ::setenv("HOME", known != nullptr ? known->pw_dir : "/nonexistent", 1);
  if (groups != 0 || ::setresgid(group, group, group) != 0 ||
      ::setresuid(owner.user, owner.user, owner.user) != 0)
    return fail_errno(errno, "becoming user {}", owner.user);
  return {};
}

int recover_own(const std::string& directory) {
  const Result<ExportRoot> root = open_export(directory, "");
  const Result<std::size_t> finished =
      root ? finish_commits(*root, RecoveryScope::kAll) : fail(root.error());
  const std::string who = name_of(::geteuid());
  if (!finished) {
    log_error("commits of user {} are not finished: {}", who, finished.error().message);
    return kExitLeft;
  }
  if (*finished != 0)
    fmt::print("finished {} commit{} of user {}\n", *finished, *finished == 1 ? "" : "s", who);
  return EXIT_SUCCESS;
}

int recover_as(const Owner& owner, const std::string& directory) {
  std::fflush(nullptr);
  const pid_t child = ::fork();
  if (child < 0) {
    log_error("{}", system_error(errno, "fork").message);
    return kExitLeft;
  }
  if (child == 0) {
    const Status became = owner.user == 0 ? Status() : become(owner);
    if (!became)
      log_error("{}", became.error().message);
    const int status = became ? recover_own(directory) : kExitLeft;
    std::fflush(nullptr);
    ::_exit(status);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS ? EXIT_SUCCESS : kExitLeft;
}

}  // namespace

int run_recover_command(const std::string& directory) {
  const Result<ExportRoot> root = open_export(directory, "");
  if (!root) {
    log_error("{}", root.error().message);
    return kExitNoExport;
  }
  if (::geteuid() != 0 || !root->initialised)
    return recover_own(directory);
  Result<std::set<Owner>> owners = journal_owners(root->state_root);
  if (!owners) {
    log_error("{}", owners.error().message);
    return kExitLeft;
  }
  owners->insert({0, 0});  // whose journals may lie elsewhere
  int result = EXIT_SUCCESS;
  for (const Owner& owner : *owners)
    if (const int status = recover_as(owner, root->path); status != EXIT_SUCCESS)
      result = status;
  return result;
}

}  // namespace slipway
