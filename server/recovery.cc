#include "server/recovery.h"

#include "base/log.h"
#include "secure/secret.h"
#include "server/checkpoints.h"
#include "server/directory_store.h"
#include "server/publications.h"
#include "server/safe_open.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <system_error>
#include <unistd.h>
#include <vector>

namespace slipway {

namespace {

namespace fs = std::filesystem;

constexpr std::size_t kExportIdDigits = 32;  // of an export

std::string journal_parent(const std::string& state_root) {
  return state_root + "/" + std::string(kStateDirectoryName) + "/journal";
}

// As open_export names them; the directory is "" for the root, and else not known yet.
struct UserJournal {
  std::string path;
  std::string export_id;  ///< in hexadecimal; "": of the root
};

Result<std::vector<UserJournal>> list_journals(const std::string& state_root) {
  std::vector<UserJournal> journals;
  const std::string parent = journal_parent(state_root);
  const std::string own = std::to_string(::geteuid());
  std::error_code error;
  fs::directory_iterator at(parent, error);
  if (error == std::errc::no_such_file_or_directory || error == std::errc::permission_denied)
    return journals;
  for (; !error && at != fs::directory_iterator(); at.increment(error)) {
    const std::string name = at->path().filename();
    if (name == own)
      journals.push_back({parent + "/" + name, ""});
    else if (name.starts_with(own + "-") && name.size() == own.size() + 1 + kExportIdDigits)
      journals.push_back({parent + "/" + name, name.substr(own.size() + 1)});
  }
  if (error)
    return fail_errno(error.value(), "'{}'", escape(parent));
  return journals;
}

// The directories below the root that the wanted ids were made of (open_export), by id. An id can't
// be turned back, but there are rarely many directories.
std::map<std::string, std::string> find_directories(const std::string& state_root,
                                                    const ExportId& state_id,
                                                    const std::vector<std::string>& wanted) {
  std::map<std::string, std::string> found;
  const std::size_t skip = state_root == "/" ? 1 : state_root.size() + 1;
  std::error_code error;
  fs::recursive_directory_iterator at(state_root, fs::directory_options::skip_permission_denied,
                                      error);
  for (; !error && at != fs::recursive_directory_iterator() && found.size() < wanted.size();
       at.increment(error)) {
    std::error_code gone;
    const fs::file_status status = at->symlink_status(gone);
    if (gone || !fs::is_directory(status))
      continue;
    if (at->path().filename() == kStateDirectoryName) {
      at.disable_recursion_pending();
      continue;
    }
    const std::string path = at->path();
    const std::string id = to_hex(hash16({state_id, as_bytes(path).subspan(skip)}));
    if (std::find(wanted.begin(), wanted.end(), id) != wanted.end())
      found.emplace(id, path);
  }
  return found;
}

// A journal that can't be believed, or read, is left alone.
bool has_unfinished(const std::string& journal) {
  const Result<bool> has_any = Checkpoints::has_unfinished(journal);
  if (!has_any)
    log_warning("a journal is left alone: {}", has_any.error().message);
  return has_any.value_or(false);
}

bool shares_files(const std::string& a, const std::string& b) {
  const auto is_within = [](const std::string& path, const std::string& top) {
    return path == top || top == "/" || path.starts_with(top + "/");
  };
  return is_within(a, b) || is_within(b, a);
}

// In the directory that the journal's paths begin in.
Result<std::size_t> finish_journal(const std::string& journal, const std::string& directory) {
  if (!has_unfinished(journal))
    return 0;
  SLIPWAY_TRY_ASSIGN(ExportRoot root, open_export(directory, ""));
  std::unique_ptr<Publications> publications;
  if (root.initialised) {
    SLIPWAY_TRY_ASSIGN(publications, Publications::open(root.state_root));
  }
  SLIPWAY_TRY_ASSIGN(
      const std::unique_ptr<DirectoryStore> store,
      DirectoryStore::open(std::move(root.fd), root.state_file, std::move(publications)));
  return Checkpoints::finish(journal, *store);
}

Result<std::size_t> finish_shared(const ExportRoot& root, RecoveryScope scope) {
  SLIPWAY_TRY_ASSIGN(const std::vector<UserJournal> journals, list_journals(root.state_root));
  const auto state = find_state_directory(root.state_root, root.state_root);
  std::vector<std::string> wanted;
  std::vector<UserJournal> unfinished;
  for (const UserJournal& journal : journals) {
    if (journal.path == root.journal_directory || !has_unfinished(journal.path))
      continue;
    unfinished.push_back(journal);
    if (!journal.export_id.empty())
      wanted.push_back(journal.export_id);
  }
  std::map<std::string, std::string> directories;
  if (!wanted.empty() && state)
    directories = find_directories(root.state_root, state->id, wanted);
  std::size_t finished = 0;
  for (const UserJournal& journal : unfinished) {
    const auto found = directories.find(journal.export_id);
    if (!journal.export_id.empty() && found == directories.end()) {
      log_error("journal '{}' is of a directory that is not there any more; its commits stay",
                escape(journal.path));
      continue;
    }
    const std::string& directory =
        journal.export_id.empty() ? root.state_root : found->second;
    if (scope == RecoveryScope::kVisible && !shares_files(directory, root.path))
      continue;
    SLIPWAY_TRY_ASSIGN(const std::size_t more, finish_journal(journal.path, directory));
    finished += more;
  }
  return finished;
}

}  // namespace

Result<std::size_t> finish_commits(const ExportRoot& root, RecoveryScope scope) {
  std::size_t finished = 0;
  if (!root.journal_directory.empty()) {
    SLIPWAY_TRY_ASSIGN(finished, finish_journal(root.journal_directory, root.path));
  }
  if (root.initialised) {
    SLIPWAY_TRY_ASSIGN(const std::size_t more, finish_shared(root, scope));
    finished += more;
  }
  return finished;
}

}  // namespace slipway
