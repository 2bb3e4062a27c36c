#include "cache/cache_directory.h"

#include "base/bytes.h"
#include "base/checksum.h"
#include "base/log.h"
#include "wire/codec.h"

#include <cerrno>
#include <charconv>
#include <fcntl.h>
#include <filesystem>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

namespace slipway {
namespace {

constexpr std::string_view kFormatName = "slipway-cache ";
constexpr std::string_view kFormat = "slipway-cache 1\n";
constexpr std::size_t kSmallFileMax = 4096;      // bytes
constexpr std::size_t kMarkSize = 16;            // bytes: sequence, checksum
constexpr std::uint64_t kMarkSeed = 0x6b72616d;  // "mark"

/// Why a cache does not belong on this kind of file system; empty when it does.
std::string_view unsafe_kind(long type) {
  switch (static_cast<unsigned long>(type) & 0xffffffffUL) {
    case NFS_SUPER_MAGIC:
      return "NFS";
    case 0x65735546UL:
      return "FUSE";
    case TMPFS_MAGIC:
    case RAMFS_MAGIC:
      return "tmpfs";
    case 0xff534d42UL:
    case 0xfe534d42UL:
    case SMB_SUPER_MAGIC:
      return "SMB";
    case AFS_SUPER_MAGIC:
    case AFS_FS_MAGIC:
      return "AFS";
    case V9FS_MAGIC:
      return "9p";
    default:
      return "";
  }
}

Status check_file_system(const std::string& path) {
  struct statfs fs {};

  if (::statfs(path.c_str(), &fs) != 0)
    return fail_errno(errno, "statfs '{}'", path);
  const std::string_view kind = unsafe_kind(fs.f_type);
  if (!kind.empty())
    return fail(ErrorCode::kInvalid,
                "the cache directory '{}' is on {}; it needs a local disk file system", path, kind);
  return {};
}

/// Eviction gives space back by punching holes.
Status check_punching(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (!fd)
    return {};  // the file system has no unnamed files; holes are found out when evicting
  if (::fallocate(fd.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) != 0 &&
      errno == EOPNOTSUPP)
    return fail(ErrorCode::kInvalid,
                "the file system of the cache directory '{}' can't free parts of a file", path);
  return {};
}

Result<UniqueFd> take_lock(const std::string& directory) {
  const std::string path = directory + "/LOCK";
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd)
    return fail_errno(errno, "open '{}'", path);
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK)
      return fail_errno(errno, "lock '{}'", path);
    const auto owner = read_small_file(path, kSmallFileMax);
    unsigned long pid = 0;
    if (owner.has_value())
      std::from_chars(owner->data(), owner->data() + owner->size(), pid);
    return fail(ErrorCode::kBusy, "the cache directory '{}' is in use by process {}", directory,
                pid != 0 ? std::to_string(pid) : "(unknown)");
  }
  const std::string pid = std::to_string(::getpid()) + "\n";
  if (::ftruncate(fd.get(), 0) != 0)
    return fail_errno(errno, "write '{}'", path);
  SLIPWAY_TRY(pwrite_full(fd.get(), as_bytes(pid), 0));
  return fd;
}

Status make_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
    return fail_errno(errno, "mkdir '{}'", path);

  struct stat st {};

  if (::stat(path.c_str(), &st) != 0)
    return fail_errno(errno, "stat '{}'", path);
  if (!S_ISDIR(st.st_mode))
    return fail(ErrorCode::kInvalid, "'{}' is not a directory", path);
  return {};
}

Status make_parents(const std::string& path) {
  for (std::size_t slash = path.find('/', 1); slash != std::string::npos;
       slash = path.find('/', slash + 1)) {
    const std::string parent = path.substr(0, slash);
    if (::mkdir(parent.c_str(), 0755) != 0 && errno != EEXIST && errno != EROFS && errno != EACCES)
      return fail_errno(errno, "mkdir '{}'", parent);
  }
  return {};
}

/// Others must not read what the server showed only to this user, nor change it.
Status make_private(const std::string& path) {
  struct stat st {};

  if (::stat(path.c_str(), &st) != 0)
    return fail_errno(errno, "stat '{}'", path);
  if (st.st_uid != ::geteuid())
    return fail(ErrorCode::kNotPermitted, "the cache directory '{}' belongs to user {}, not to {}",
                path, st.st_uid, ::geteuid());
  if ((st.st_mode & 077) != 0 && ::chmod(path.c_str(), 0700) != 0)
    return fail_errno(errno, "chmod '{}'", path);
  return {};
}

bool has_other_files(const std::string& path) {
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
    const std::string name = entry.path().filename().string();
    if (name != "LOCK" && name != "lost+found" && name != "FORMAT.new")
      return true;
  }
  return false;
}

bool looks_like_a_cache(const std::string& path) {
  std::error_code error;
  return std::filesystem::is_directory(path + "/index", error) &&
         std::filesystem::is_directory(path + "/data", error);
}

/// The number of another version's FORMAT; nothing when the text is no FORMAT at all.
std::optional<unsigned> other_version(std::string_view text) {
  if (!text.starts_with(kFormatName) || !text.ends_with('\n'))
    return std::nullopt;
  text.remove_prefix(kFormatName.size());
  text.remove_suffix(1);
  unsigned version = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), version);
  if (error != std::errc() || end != text.data() + text.size())
    return std::nullopt;
  return version;
}

/// "WORD CHECKSUM\n": small text files that must not be believed when damaged.
std::string checked_line(std::string_view word) {
  return fmt::format("{} {:016x}\n", word, checksum64(as_bytes(word), 0));
}

std::optional<std::string> read_checked_line(const std::string& path) {
  auto text = read_small_file(path, kSmallFileMax);
  if (!text.has_value())
    return std::nullopt;
  const std::string word = text->substr(0, text->find(' '));
  if (*text != checked_line(word))
    return std::nullopt;
  return word;
}

}  // namespace

Result<std::unique_ptr<CacheDirectory>> CacheDirectory::open(const std::string& path,
                                                             bool allow_unsafe_file_system) {
  if (path.empty() || path.front() != '/')
    return fail(ErrorCode::kInvalid, "the cache directory '{}' is not an absolute path", path);
  SLIPWAY_TRY(make_parents(path));
  SLIPWAY_TRY(make_directory(path));
  if (!allow_unsafe_file_system)
    SLIPWAY_TRY(check_file_system(path));
  std::error_code error;
  if (!std::filesystem::exists(path + "/FORMAT", error) && has_other_files(path) &&
      !looks_like_a_cache(path))
    return fail(ErrorCode::kInvalid, "'{}' holds other files; the cache needs its own directory",
                path);
  SLIPWAY_TRY(make_private(path));
  SLIPWAY_TRY_ASSIGN(auto lock, take_lock(path));
  std::unique_ptr<CacheDirectory> out(new CacheDirectory(path, std::move(lock)));
  SLIPWAY_TRY(out->check_format());
  SLIPWAY_TRY(out->make_parts(allow_unsafe_file_system));
  SLIPWAY_TRY(out->open_mark());
  return out;
}

Status CacheDirectory::check_format() {
  const std::string path = path_ + "/FORMAT";
  const auto text = read_small_file(path, kSmallFileMax);
  if (text.has_value() && *text == kFormat)
    return {};
  if (text.has_value()) {
    if (const auto version = other_version(*text))
      return fail(ErrorCode::kInvalid,
                  "the cache in '{}' has format version {}; this program knows version 1: "
                  "name another with -o cache=DIR, or remove it", path_,
                  *version);
  }
  if (looks_like_a_cache(path_)) {
    log_error("'{}' is damaged or missing; it is written again and all cached files are confirmed",
              path);
    was_damaged_ = true;
  }
  return replace_file(path, kFormat, 0600);
}

Status CacheDirectory::make_parts(bool allow_unsafe_file_system) {
  SLIPWAY_TRY(make_directory(index_path()));
  SLIPWAY_TRY(make_directory(path_ + "/data"));
  if (!allow_unsafe_file_system)
    SLIPWAY_TRY(check_punching(path_ + "/data"));
  return {};
}

std::optional<std::array<std::byte, 16>> CacheDirectory::read_client_id() const {
  const auto word = read_checked_line(path_ + "/client-id");
  std::array<std::byte, 16> id;
  if (!word || word->size() != 2 * id.size())
    return std::nullopt;
  for (std::size_t i = 0; i < id.size(); i++) {
    unsigned value = 0;
    const char* const digits = word->data() + 2 * i;
    if (std::from_chars(digits, digits + 2, value, 16).ptr != digits + 2)
      return std::nullopt;
    id[i] = static_cast<std::byte>(value);
  }
  return id;
}

Status CacheDirectory::write_client_id(const std::array<std::byte, 16>& id) {
  std::string word;
  for (const std::byte b : id)
    word += fmt::format("{:02x}", static_cast<unsigned>(b));
  return replace_file(path_ + "/client-id", checked_line(word), 0600);
}

Status CacheDirectory::open_mark() {
  const std::string path = path_ + "/index-mark";
  mark_.reset(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!mark_)
    return fail_errno(errno, "open '{}'", path);
  return {};
}

std::optional<std::uint64_t> CacheDirectory::read_mark() const {
  Bytes bytes(kMarkSize + 1);
  if (pread_full(mark_.get(), bytes, 0).value_or(0) != kMarkSize)
    return std::nullopt;
  WireReader reader(ByteView(bytes).first(kMarkSize));
  const std::uint64_t sequence = reader.u64();
  if (reader.u64() != checksum64(ByteView(bytes).first(8), kMarkSeed))
    return std::nullopt;
  return sequence;
}

Status CacheDirectory::write_mark(std::uint64_t sequence) {
  Bytes bytes;
  WireWriter writer(bytes);
  writer.u64(sequence);
  writer.u64(checksum64(bytes, kMarkSeed));
  return pwrite_full(mark_.get(), bytes, 0);
}

Status CacheDirectory::sync_mark() {
  if (::fsync(mark_.get()) != 0)
    return fail_errno(errno, "fsync 'index-mark'");
  return {};
}

}  // namespace slipway
