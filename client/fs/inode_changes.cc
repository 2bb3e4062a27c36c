// The table's side of what this mount changes itself.
#include "fs/inode_table.h"

#include "base/units.h"

#include <algorithm>
#include <utility>

namespace slipway {
namespace {

bool is_at_or_below(const std::string& path, const std::string& top) noexcept {
  return path == top ||
         (path.size() > top.size() && path.starts_with(top) && path[top.size()] == '/');
}

bool is_keyed_by_path(const Attributes& attributes) noexcept {
  return attributes.type == FileType::kDirectory || attributes.type == FileType::kSymlink;
}

/// Longer ago than anything is believed, and still far from what a clock's type holds.
constexpr TimePoint kLongAgo{TimePoint::min().time_since_epoch() / 4};

/// No path of an export: a component can't be "//".
constexpr const char* kAside = "//";

constexpr std::uint64_t kAllocationSize = 4096;  ///< bytes; as file systems mostly allocate

}  // namespace

InodeTable::Node* InodeTable::find_file(const FileId& id) {
  const auto found = by_file_.find(id);
  return found == by_file_.end() ? nullptr : &nodes_.at(found->second);
}

/// No file with unsent data may look as if it had no blocks: archivers take it for a hole.
void InodeTable::set_ours(const FileId& id, const LocalContent& content) {
  const std::lock_guard lock(mutex_);
  Node* const node = find_file(id);
  if (node == nullptr || content.number <= node->own_number)
    return;
  node->own_number = content.number;
  if (!node->ours)
    node->allocated_there = node->attributes.allocated;
  node->ours = true;
  node->attributes.version.size = content.size;
  node->attributes.version.mtime = content.mtime;
  node->attributes.allocated = round_up(
      std::min(content.size, node->allocated_there + content.unsent), kAllocationSize);
}

void InodeTable::end_ours(const FileId& id, const Attributes& applied, std::uint64_t number,
                          TimePoint now) {
  const std::lock_guard lock(mutex_);
  Node* const node = find_file(id);
  if (node == nullptr || node->own_number > number)
    return;
  node->own_number = number;
  node->ours = false;
  node->attributes = applied;
  node->fetched = now;
}

void InodeTable::drop_ours(const FileId& id, std::uint64_t number) {
  const std::lock_guard lock(mutex_);
  Node* const node = find_file(id);
  if (node == nullptr || !node->ours || node->own_number > number)
    return;
  node->ours = false;
  node->fetched = kLongAgo;
}

void InodeTable::own_change(std::uint64_t nodeid, const Attributes& after, TimePoint now) {
  const std::lock_guard lock(mutex_);
  const auto found = nodes_.find(nodeid);
  if (found == nodes_.end())
    return;
  Node& node = found->second;
  if (node.superseded || node.attributes.type != after.type ||
      !same_file(node.attributes.version, after.version))
    return;
  const Attributes mine = node.attributes;
  node.attributes = after;
  node.fetched = now;
  if (node.ours) {
    node.attributes.version.size = mine.version.size;
    node.attributes.version.mtime = mine.version.mtime;
    node.attributes.allocated = mine.allocated;
    node.allocated_there = after.allocated;
  }
}

void InodeTable::move_locked(const std::string& from, const std::string& to) {
  std::vector<std::uint64_t> moved;
  for (auto& [nodeid, node] : nodes_) {
    if (nodeid != kRootNodeId && is_at_or_below(node.path, from))
      moved.push_back(nodeid);
    std::set<std::string> others;
    for (const std::string& path : node.other_paths)
      others.insert(is_at_or_below(path, from) ? to + path.substr(from.size()) : path);
    node.other_paths = std::move(others);
  }
  for (const std::uint64_t nodeid : moved) {
    Node& node = nodes_.at(nodeid);
    const bool keyed = is_keyed_by_path(node.attributes) && !node.replaced;
    if (keyed)
      by_path_.erase(node.path);
    node.path = to + node.path.substr(from.size());
  }
  for (const std::uint64_t nodeid : moved) {
    const Node& node = nodes_.at(nodeid);
    if (is_keyed_by_path(node.attributes) && !node.replaced)
      by_path_[node.path] = nodeid;
  }
}

void InodeTable::remove(const std::string& path) {
  const std::lock_guard lock(mutex_);
  const auto found = by_path_.find(path);
  if (found != by_path_.end() && found->second != kRootNodeId)
    return drop_key(found->second, nodes_.at(found->second));
  // A file is found by its id: names are rarely removed, so they are searched.
  for (auto& [nodeid, node] : nodes_) {
    const bool was_other = node.other_paths.erase(path) != 0;
    if ((node.path != path && !was_other) || is_keyed_by_path(node.attributes) ||
        node.attributes.nlink == 0)
      continue;
    --node.attributes.nlink;
    if (node.path == path && !node.other_paths.empty())
      node.path = std::move(node.other_paths.extract(node.other_paths.begin()).value());
  }
}

InodeTable::NamesLeft InodeTable::names_left(const FileId& id, const std::string& removed) const {
  const std::lock_guard lock(mutex_);
  const auto found = by_file_.find(id);
  if (found == by_file_.end())
    return {};
  const Node& node = nodes_.at(found->second);
  if (node.path != removed)
    return {node.path, true};
  return {"", node.attributes.nlink != 0};
}

void InodeTable::move(const std::string& from, const std::string& to) {
  remove(to);
  const std::lock_guard lock(mutex_);
  move_locked(from, to);
}

void InodeTable::exchange(const std::string& a, const std::string& b) {
  const std::lock_guard lock(mutex_);
  move_locked(a, kAside);
  move_locked(b, a);
  move_locked(kAside, b);
}

void InodeTable::expire(std::uint64_t nodeid) {
  const std::lock_guard lock(mutex_);
  if (const auto found = nodes_.find(nodeid); found != nodes_.end())
    found->second.fetched = kLongAgo;
}

std::vector<std::uint64_t> InodeTable::expire_below(const std::string& path) {
  std::vector<std::uint64_t> found;
  const std::lock_guard lock(mutex_);
  for (auto& [nodeid, node] : nodes_) {
    if (!path.empty() && !is_at_or_below(node.path, path))
      continue;
    node.fetched = kLongAgo;
    node.pages_doubtful = true;
    found.push_back(nodeid);
  }
  return found;
}

void InodeTable::supersede_file(const FileId& id) {
  const std::lock_guard lock(mutex_);
  const auto found = by_file_.find(id);
  if (found == by_file_.end())
    return;
  const std::uint64_t nodeid = found->second;
  Node& node = nodes_.at(nodeid);
  node.ours = false;
  node.superseded = true;
  drop_key(nodeid, node);
}

bool InodeTable::is_ours(std::uint64_t nodeid) const {
  const std::lock_guard lock(mutex_);
  const auto found = nodes_.find(nodeid);
  return found != nodes_.end() && found->second.ours;
}

}  // namespace slipway
