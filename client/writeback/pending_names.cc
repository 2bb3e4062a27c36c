#include "writeback/pending_names.h"

#include <cassert>
#include <utility>

namespace slipway {
namespace {

/// What all paths below a directory begin with.
std::string prefix_of(const std::string& directory) {
  return directory.empty() ? "" : directory + '/';
}

}  // namespace

std::optional<PendingName> PendingNames::find(const std::string& path) const {
  if (empty())
    return std::nullopt;
  const std::lock_guard lock(mutex_);
  const auto found = names_.find(path);
  if (found == names_.end())
    return std::nullopt;
  return found->second;
}

PendingNames::Names::const_iterator PendingNames::first_below(const std::string& directory) const {
  return names_.lower_bound(prefix_of(directory));
}

std::vector<PendingNames::Child> PendingNames::children(const std::string& directory) const {
  std::vector<Child> children;
  const std::string prefix = prefix_of(directory);
  const std::lock_guard lock(mutex_);
  for (auto at = first_below(directory); at != names_.end() && at->first.starts_with(prefix); ++at) {
    std::string name = at->first.substr(prefix.size());
    if (name.find('/') == std::string::npos)
      children.push_back({std::move(name), at->second.attributes});
  }
  return children;
}

bool PendingNames::has_children(const std::string& directory) const {
  const std::lock_guard lock(mutex_);
  const auto at = first_below(directory);
  return at != names_.end() && at->first.starts_with(prefix_of(directory));
}

std::vector<FileId> PendingNames::ids() const {
  std::vector<FileId> ids;
  const std::lock_guard lock(mutex_);
  for (const auto& [path, name] : names_)
    ids.push_back(name.attributes.version.id);
  return ids;
}

void PendingNames::add(const std::string& path, PendingName name) {
  const Timestamp now = name.attributes.version.mtime;
  const FileType type = name.attributes.type;
  const std::lock_guard lock(mutex_);
  [[maybe_unused]] const bool is_new = names_.emplace(path, std::move(name)).second;
  assert(is_new);
  count_ = names_.size();
  change_parent(path, type, 1, now);
}

void PendingNames::move(const std::string& from, const std::string& to, const Timestamp& now) {
  const std::lock_guard lock(mutex_);
  auto moved = names_.extract(from);
  assert(!moved.empty());
  const FileType type = moved.mapped().attributes.type;
  const bool is_replaced = names_.erase(to) != 0;
  moved.key() = to;
  names_.insert(std::move(moved));
  count_ = names_.size();
  change_parent(from, type, -1, now);
  change_parent(to, type, is_replaced ? 0 : 1, now);
}

void PendingNames::remove(const std::vector<Named>& names) {
  const std::lock_guard lock(mutex_);
  for (const Named& name : names) {
    const auto found = names_.find(name.path);
    if (found != names_.end() && found->second.file.get() == name.file)
      names_.erase(found);
  }
  count_ = names_.size();
}

void PendingNames::remove(const std::string& path, const WrittenFile* file, const Timestamp& now) {
  const std::lock_guard lock(mutex_);
  const auto found = names_.find(path);
  if (found == names_.end() || found->second.file.get() != file)
    return;
  const FileType type = found->second.attributes.type;
  names_.erase(found);
  count_ = names_.size();
  change_parent(path, type, -1, now);
}

/// A directory has a link more for each directory in it.
void PendingNames::change_parent(const std::string& path, FileType type, int more,
                                 const Timestamp& now) {
  const auto slash = path.rfind('/');
  if (slash == std::string::npos)
    return;
  const auto parent = names_.find(path.substr(0, slash));
  if (parent == names_.end())
    return;
  parent->second.attributes.version.mtime = now;
  parent->second.attributes.version.ctime = now;
  if (type == FileType::kDirectory)
    parent->second.attributes.nlink += static_cast<std::uint32_t>(more);  // modulo 2^32
}

}  // namespace slipway
