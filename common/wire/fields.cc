#include "wire/fields.h"

namespace slipway {
namespace {

constexpr std::uint32_t kNanosecondsPerSecond = 1'000'000'000;
constexpr std::uint32_t kModeBits = 07777;

bool is_type(std::uint8_t number) noexcept {
  return number >= static_cast<std::uint8_t>(FileType::kRegular) &&
         number <= static_cast<std::uint8_t>(FileType::kSocket);
}

}  // namespace

void put(WireWriter& to, const Timestamp& m) {
  to.i64(m.seconds);
  to.u32(m.nanoseconds);
}

void put(WireWriter& to, const FileId& m) {
  to.u32(m.file_system);
  to.u64(m.inode);
}

void put(WireWriter& to, const VersionRecord& m) {
  put(to, m.id);
  put(to, m.birth);
  to.u64(m.size);
  put(to, m.mtime);
  put(to, m.ctime);
}

void put(WireWriter& to, const Attributes& m) {
  put(to, m.version);
  to.u64(m.inode_number);
  to.u8(static_cast<std::uint8_t>(m.type));
  to.u32(m.mode);
  to.u32(m.nlink);
  to.u32(m.uid);
  to.u32(m.gid);
  to.u64(m.allocated);
  put(to, m.atime);
  put_bool(to, m.young);
}

void put(WireWriter& to, const NodeRef& m) {
  to.string(m.path);
  put(to, m.expected);
}

Timestamp get_timestamp(WireReader& from) noexcept {
  Timestamp time;
  time.seconds = from.i64();
  time.nanoseconds = from.u32();
  if (time.nanoseconds >= kNanosecondsPerSecond)
    from.set_bad();
  return time;
}

FileId get_file_id(WireReader& from) noexcept {
  FileId id;
  id.file_system = from.u32();
  id.inode = from.u64();
  return id;
}

VersionRecord get_version(WireReader& from) noexcept {
  VersionRecord version;
  version.id = get_file_id(from);
  version.birth = get_timestamp(from);
  version.size = from.u64();
  version.mtime = get_timestamp(from);
  version.ctime = get_timestamp(from);
  if (version.id.any() || version.size > kFileSizeMax)
    from.set_bad();
  return version;
}

Attributes get_attributes(WireReader& from) noexcept {
  Attributes m;
  m.version = get_version(from);
  m.inode_number = from.u64();
  const std::uint8_t type = from.u8();
  if (is_type(type))
    m.type = static_cast<FileType>(type);
  else
    from.set_bad();
  m.mode = from.u32();
  m.nlink = from.u32();
  m.uid = from.u32();
  m.gid = from.u32();
  m.allocated = from.u64();
  m.atime = get_timestamp(from);
  m.young = get_bool(from);
  if (!is_plausible(m))
    from.set_bad();
  return m;
}

bool same_file(const VersionRecord& a, const VersionRecord& b) noexcept {
  return a.id == b.id && a.birth == b.birth;
}

bool same_content(const VersionRecord& a, const VersionRecord& b) noexcept {
  return same_file(a, b) && a.size == b.size && a.mtime == b.mtime;
}

NodeRef get_node(WireReader& from) {
  NodeRef node;
  node.path = from.string(kPathMax);
  node.expected = get_file_id(from);
  if (!is_valid_path(node.path))
    from.set_bad();
  return node;
}

std::string get_name(WireReader& from) {
  const std::string_view name = from.string(kNameMax);
  if (!is_valid_name(name))
    from.set_bad();
  return std::string(name);
}

bool is_valid_name(std::string_view name) noexcept {
  return !name.empty() && name.size() <= kNameMax && name != "." && name != ".." &&
         name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos;
}

bool is_valid_path(std::string_view path) noexcept {
  if (path.size() > kPathMax)
    return false;
  while (!path.empty()) {
    const std::size_t slash = path.find('/');
    if (!is_valid_name(path.substr(0, slash)))
      return false;
    if (slash == std::string_view::npos)
      return true;
    path.remove_prefix(slash + 1);
    if (path.empty())
      return false;  // the slash was trailing
  }
  return true;
}

bool is_plausible(const Attributes& attributes) noexcept {
  const VersionRecord& version = attributes.version;
  const std::uint64_t size_max = attributes.type == FileType::kRegular   ? kFileSizeMax
                                 : attributes.type == FileType::kSymlink ? kLinkTargetMax
                                                                         : 0;
  const std::uint32_t nanoseconds =
      std::max({version.birth.nanoseconds, version.mtime.nanoseconds, version.ctime.nanoseconds,
                attributes.atime.nanoseconds});
  return !version.id.any() && version.size <= size_max && nanoseconds < kNanosecondsPerSecond &&
         attributes.inode_number != 0 && is_type(static_cast<std::uint8_t>(attributes.type)) &&
         (attributes.mode & ~kModeBits) == 0 && attributes.allocated <= kFileSizeMax;
}

}  // namespace slipway
