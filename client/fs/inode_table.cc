#include "fs/inode_table.h"

#include <algorithm>
#include <utility>

namespace slipway {
namespace {

/// Names of one file that are remembered besides the last; all of them matter for few files.
constexpr std::size_t kOtherPathsMax = 64;

/// A directory or link belongs to its path; anything else to its file id.
bool is_path_bound(const Attributes& attributes) noexcept {
  return attributes.type == FileType::kDirectory || attributes.type == FileType::kSymlink;
}

tl::unexpected<Error> unknown_node() {
  return fail(ErrorCode::kStale, "the node is not known");
}

}  // namespace

Change classify(const Attributes& known, const Attributes& fresh) noexcept {
  if (known.type != fresh.type || !same_file(known.version, fresh.version))
    return Change::kOther;
  if (known.type != FileType::kRegular || same_content(known.version, fresh.version))
    return Change::kNone;
  return std::max(known.version.size, fresh.version.size) > kSmallFileMax ? Change::kSuperseded
                                                                          : Change::kInPlace;
}

InodeTable::InodeTable(const Attributes& root) {
  Node node;
  node.generation = 1;
  node.attributes = root;
  node.lookups = 1;
  nodes_.emplace(kRootNodeId, std::move(node));
  by_path_.emplace("", kRootNodeId);
}

std::uint64_t InodeTable::lookup_number(const std::string& path,
                                        const Attributes& attributes) const {
  if (is_path_bound(attributes)) {
    const auto found = by_path_.find(path);
    return found == by_path_.end() ? 0 : found->second;
  }
  const auto found = by_file_.find(attributes.version.id);
  return found == by_file_.end() ? 0 : found->second;
}

std::uint64_t InodeTable::make_node(const std::string& path, const Attributes& attributes,
                                    TimePoint now) {
  const std::uint64_t nodeid = next_++;
  Node node;
  node.generation = nodeid;
  node.path = path;
  node.attributes = attributes;
  node.fetched = now;
  if (is_path_bound(attributes))
    by_path_[path] = nodeid;
  else
    by_file_[attributes.version.id] = nodeid;
  nodes_.emplace(nodeid, std::move(node));
  return nodeid;
}

/// A superseded node keeps the attributes of the content that its handles and pages have.
Change InodeTable::update(Node& node, const Attributes& attributes, TimePoint asked,
                          TimePoint now) {
  if (node.ours && node.attributes.type == attributes.type &&
      same_file(node.attributes.version, attributes.version)) {
    const Attributes mine = node.attributes;
    node.attributes = attributes;
    node.attributes.version.size = mine.version.size;
    node.attributes.version.mtime = mine.version.mtime;
    node.attributes.allocated = mine.allocated;
    node.allocated_there = attributes.allocated;
    node.fetched = now;
    return Change::kNone;
  }
  const Change change = classify(node.attributes, attributes);
  if (change == Change::kOther)
    return change;
  const bool came_late =
      asked < node.fetched && attributes.version.ctime < node.attributes.version.ctime;
  if (came_late)
    return node.superseded ? Change::kSuperseded : Change::kNone;
  if (change == Change::kSuperseded || node.superseded)
    return Change::kSuperseded;
  node.attributes = attributes;
  node.fetched = now;
  if (change == Change::kInPlace)
    node.pages_doubtful = true;
  return change;
}

void InodeTable::drop_key(std::uint64_t nodeid, Node& node) {
  if (node.replaced)
    return;
  node.replaced = true;
  if (is_path_bound(node.attributes)) {
    const auto found = by_path_.find(node.path);
    if (found != by_path_.end() && found->second == nodeid)
      by_path_.erase(found);
  } else {
    const auto found = by_file_.find(node.attributes.version.id);
    if (found != by_file_.end() && found->second == nodeid)
      by_file_.erase(found);
  }
}

Result<InodeTable::Remembered> InodeTable::remember(const std::string& path,
                                                    const Attributes& attributes, TimePoint asked,
                                                    TimePoint now) {
  const std::lock_guard lock(mutex_);
  const Attributes& root = nodes_.at(kRootNodeId).attributes;
  if (attributes.type == FileType::kDirectory && same_file(attributes.version, root.version))
    return fail(ErrorCode::kProtocol, "the server shows the export's root below itself");

  std::uint64_t nodeid = lookup_number(path, attributes);
  Change change = Change::kNone;
  if (nodeid != 0) {
    Node& node = nodes_.at(nodeid);
    change = update(node, attributes, asked, now);
    if (change == Change::kSuperseded || change == Change::kOther) {
      node.superseded = node.superseded || change == Change::kSuperseded;
      drop_key(nodeid, node);
      nodeid = 0;
    }
  }
  if (nodeid == 0)
    nodeid = make_node(path, attributes, now);
  Node& node = nodes_.at(nodeid);
  if (node.path != path) {
    node.other_paths.erase(path);
    if (attributes.nlink > 1 && !is_path_bound(attributes) &&
        node.other_paths.size() < kOtherPathsMax)
      node.other_paths.insert(node.path);
    node.path = path;
  }
  ++node.lookups;
  return Remembered{nodeid, node.generation, change, node.attributes};
}

Change InodeTable::observe(std::uint64_t nodeid, const Attributes& attributes, TimePoint asked,
                           TimePoint now) {
  const std::lock_guard lock(mutex_);
  const auto found = nodes_.find(nodeid);
  if (found == nodes_.end())
    return Change::kOther;
  Node& node = found->second;
  const Change change = update(node, attributes, asked, now);
  if (change == Change::kSuperseded)
    node.superseded = true;
  if ((change == Change::kSuperseded || change == Change::kOther) && nodeid != kRootNodeId)
    drop_key(nodeid, node);
  return change;
}

void InodeTable::supersede(std::uint64_t nodeid) {
  const std::lock_guard lock(mutex_);
  const auto found = nodes_.find(nodeid);
  if (found == nodes_.end() || nodeid == kRootNodeId)
    return;
  found->second.superseded = true;
  drop_key(nodeid, found->second);
}

Result<NodeView> InodeTable::find(std::uint64_t nodeid) const {
  const std::lock_guard lock(mutex_);
  const auto found = nodes_.find(nodeid);
  if (found == nodes_.end())
    return unknown_node();
  const Node& node = found->second;
  return NodeView{nodeid,
                  node.generation,
                  node.path,
                  node.attributes,
                  node.fetched,
                  node.superseded,
                  node.ours,
                  node.handles.empty() ? 0 : node.handles.back()};
}

Result<VersionRecord> InodeTable::version(std::uint64_t nodeid) const {
  const std::lock_guard lock(mutex_);
  const auto found = nodes_.find(nodeid);
  if (found == nodes_.end())
    return unknown_node();
  return found->second.attributes.version;
}

void InodeTable::forget(std::uint64_t nodeid, std::uint64_t lookups) {
  const std::lock_guard lock(mutex_);
  const auto found = nodes_.find(nodeid);
  if (found == nodes_.end() || nodeid == kRootNodeId)
    return;
  found->second.lookups -= std::min(lookups, found->second.lookups);
  erase_if_unused(nodeid);
}

void InodeTable::add_handle(std::uint64_t nodeid, std::uint64_t handle) {
  const std::lock_guard lock(mutex_);
  const auto found = nodes_.find(nodeid);
  if (found != nodes_.end())
    found->second.handles.push_back(handle);
}

void InodeTable::remove_handle(std::uint64_t nodeid, std::uint64_t handle) {
  const std::lock_guard lock(mutex_);
  const auto found = nodes_.find(nodeid);
  if (found == nodes_.end())
    return;
  auto& handles = found->second.handles;
  handles.erase(std::remove(handles.begin(), handles.end(), handle), handles.end());
  erase_if_unused(nodeid);
}

bool InodeTable::keep_pages_over_open(std::uint64_t nodeid, bool young, bool doubtful_now) {
  const std::lock_guard lock(mutex_);
  const auto found = nodes_.find(nodeid);
  if (found == nodes_.end())
    return false;
  const bool doubtful = std::exchange(found->second.pages_doubtful, young);
  return !doubtful && !doubtful_now;
}

void InodeTable::set_link_target(std::uint64_t nodeid, std::string target) {
  const std::lock_guard lock(mutex_);
  const auto found = nodes_.find(nodeid);
  if (found != nodes_.end())
    found->second.link_target = std::move(target);
}

std::string InodeTable::link_target(std::uint64_t nodeid) const {
  const std::lock_guard lock(mutex_);
  const auto found = nodes_.find(nodeid);
  return found == nodes_.end() ? std::string() : found->second.link_target;
}

std::size_t InodeTable::size() const {
  const std::lock_guard lock(mutex_);
  return nodes_.size() - 1;
}

void InodeTable::erase_if_unused(std::uint64_t nodeid) {
  const auto found = nodes_.find(nodeid);
  if (found->second.lookups != 0 || !found->second.handles.empty())
    return;
  drop_key(nodeid, found->second);
  nodes_.erase(found);
}

}  // namespace slipway
