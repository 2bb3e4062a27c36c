#include "fs/directory_reply.h"

#include "fs/inode_table.h"
#include "fs/stat.h"

#include <chrono>

namespace slipway {

DirectoryReply::DirectoryReply(fuse_req_t request, Names& names, InodeTable& table,
                               const FileSystemOptions& options, std::size_t size,
                               bool with_attributes)
    : request_(request),
      names_(names),
      table_(table),
      options_(options),
      with_attributes_(with_attributes),
      buffer_(size) {}

char* DirectoryReply::end() noexcept {
  return reinterpret_cast<char*>(buffer_.data()) + used_;
}

bool DirectoryReply::has_room(const char* name) const {
  const std::size_t needed = with_attributes_
                                 ? fuse_add_direntry_plus(request_, nullptr, 0, name, nullptr, 0)
                                 : fuse_add_direntry(request_, nullptr, 0, name, nullptr, 0);
  return needed <= buffer_.size() - used_;
}

bool DirectoryReply::add_dot(const char* name, const Directory& directory, std::uint64_t next) {
  if (!has_room(name))
    return false;
  // Node 0: the kernel takes no lookup of these two.
  fuse_entry_param param = {};
  param.attr.st_ino = directory.inode_number();
  param.attr.st_mode = S_IFDIR;
  const auto offset = static_cast<off_t>(next);
  const std::size_t room = buffer_.size() - used_;
  used_ += with_attributes_ ? fuse_add_direntry_plus(request_, end(), room, name, &param, offset)
                            : fuse_add_direntry(request_, end(), room, name, &param.attr, offset);
  return true;
}

bool DirectoryReply::add(const Directory& directory, const DirectoryEntry& entry, TimePoint asked,
                         std::uint64_t next) {
  if (!has_room(entry.name.c_str()))
    return false;
  fuse_entry_param param = {};
  param.attr = stat_of(entry.attributes, options_);
  const auto offset = static_cast<off_t>(next);
  const std::size_t room = buffer_.size() - used_;
  if (!with_attributes_) {
    used_ += fuse_add_direntry(request_, end(), room, entry.name.c_str(), &param.attr, offset);
    return true;
  }
  // What can't be a node (the root below itself) is shown by name only.
  if (const auto node = names_.remember(directory.path(), entry, asked)) {
    handed_out_.push_back(node->nodeid);
    const std::chrono::duration<double> valid = node->known.valid;
    param.ino = node->nodeid;
    param.attr = stat_of(node->known.attributes, options_);
    param.generation = node->generation;
    param.attr_timeout = param.entry_timeout = valid.count();
  }
  used_ += fuse_add_direntry_plus(request_, end(), room, entry.name.c_str(), &param, offset);
  return true;
}

void DirectoryReply::fill(const Directory& directory, const DirectoryChunk& chunk,
                          std::uint64_t from) {
  static constexpr const char* kDots[kDotEntries] = {".", ".."};
  for (; from < kDotEntries; ++from) {
    if (!add_dot(kDots[from], directory, from + 1))
      return;
  }
  for (; chunk.covers(from - kDotEntries); ++from) {
    const std::uint64_t at = from - kDotEntries - chunk.first;
    if (at >= chunk.entries.size() || !add(directory, chunk.entries[at], chunk.asked, from + 1))
      return;
  }
}

void DirectoryReply::send() {
  if (fuse_reply_buf(request_, reinterpret_cast<const char*>(buffer_.data()), used_) == 0)
    return;
  for (const std::uint64_t nodeid : handed_out_)
    table_.forget(nodeid, 1);
}

}  // namespace slipway
