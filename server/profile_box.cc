#include "server/profile_box.h"

#include "base/log.h"
#include "manifest/profile.h"
#include "secure/secret.h"
#include "server/export_root.h"
#include "wire/codec.h"
#include "wire/fields.h"
#include "wire/manifest_messages.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <ctime>
#include <dirent.h>
#include <fcntl.h>
#include <filesystem>
#include <optional>
#include <string_view>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace slipway {

namespace {

constexpr std::string_view kProfileMagic = "SLIPPROF";
constexpr std::size_t kHeadSize = 8 + 8 + 4;  // bytes: magic, birth
constexpr std::size_t kMountDigits = 32;
constexpr std::size_t kOpenedMax = 4 * ProfileBox::kStartsMax;  // files that one get() reads
constexpr time_t kUnfinishedAge = 3600;  // seconds, then a file that was not finished goes

struct BoxFile {
  std::string name;
  uid_t uid = 0;  ///< that its name says, and that it belongs to
  Timestamp changed;
};

/// Newest first; by the change time, which nobody can set.
bool is_newer(const BoxFile& a, const BoxFile& b) {
  return a.changed > b.changed;
}

// What follows the uid in the names of an image's profiles, up to the mount's id.
std::string middle_of(const FileId& image, const std::string& role) {
  return fmt::format("-{}-{}-{}-", image.file_system, image.inode, role);
}

bool is_of_image(std::string_view name, std::string_view middle) {
  const auto dash = name.find('-');
  return dash != std::string_view::npos && name.size() == dash + middle.size() + kMountDigits &&
         name.substr(dash, middle.size()) == middle;
}

std::optional<uid_t> uid_of(std::string_view name) {
  uid_t uid = 0;
  const auto dash = name.find('-');
  if (dash == std::string_view::npos)
    return std::nullopt;
  const auto [end, error] = std::from_chars(name.data(), name.data() + dash, uid);
  const bool is_exact = error == std::errc() && end == name.data() + dash &&
                        name.substr(0, dash) == fmt::format("{}", uid);
  return is_exact ? std::optional(uid) : std::nullopt;
}

/// A directory whose entries are looked at once.
class BoxDirectory {
 public:
  explicit BoxDirectory(DIR* opened) : dir_(opened) {}

  ~BoxDirectory() { ::closedir(dir_); }

  BoxDirectory(const BoxDirectory&) = delete;
  BoxDirectory& operator=(const BoxDirectory&) = delete;

  int fd() const noexcept { return ::dirfd(dir_); }

  /// Files that `wanted` takes the names of and that belong to the uid that they name.
  template <class Wanted>
  std::vector<BoxFile> list(const Wanted& wanted) {
    std::vector<BoxFile> files;
    for (std::size_t i = 0; i < ProfileBox::kScanMax; ++i) {
      const struct dirent* entry = ::readdir(dir_);
      if (entry == nullptr)
        break;
      const std::string_view name = entry->d_name;
      const std::optional<uid_t> uid = uid_of(name.substr(name.starts_with('.') ? 1 : 0));
      if (!uid || !wanted(name, *uid))
        continue;

      struct stat info {};

      if (::fstatat(fd(), entry->d_name, &info, AT_SYMLINK_NOFOLLOW) == 0 &&
          S_ISREG(info.st_mode) && info.st_uid == *uid)
        files.push_back({entry->d_name,
                         *uid,
                         {info.st_ctim.tv_sec, static_cast<std::uint32_t>(info.st_ctim.tv_nsec)}});
    }
    return files;
  }

 private:
  DIR* const dir_;
};

Result<std::unique_ptr<BoxDirectory>> open_box(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  DIR* const dir = fd ? ::fdopendir(fd.get()) : nullptr;
  if (dir == nullptr)
    return fail_errno(errno, "'{}'", escape(path));
  (void)fd.release();
  return std::make_unique<BoxDirectory>(dir);
}

// For this user alone: a box for all is made by `slipwayd init`.
Status make_box(const std::string& path) {
  const std::string parent = std::filesystem::path(path).parent_path();
  std::error_code error;
  if (std::filesystem::create_directories(parent, error))
    ::chmod(parent.c_str(), 0700);
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
    return fail_errno(errno, "'{}'", escape(path));
  return {};
}

/// The newest go on, the others go; files whose writer died, too.
void make_room(BoxDirectory& box, std::string_view own_name, std::string_view middle) {
  const uid_t self = ::geteuid();
  const time_t now = ::time(nullptr);
  std::vector<BoxFile> files =
      box.list([&](std::string_view name, uid_t uid) { return uid == self && name != own_name; });
  std::sort(files.begin(), files.end(), is_newer);
  std::size_t kept = 0;
  std::size_t of_image = 0;
  for (const BoxFile& file : files) {
    const bool is_unfinished = file.name.starts_with('.');
    const bool is_same_image = !is_unfinished && is_of_image(file.name, middle);
    const bool goes = is_unfinished
                          ? file.changed.seconds + kUnfinishedAge < now
                          : kept + 1 >= ProfileBox::kPerUserMax ||
                                (is_same_image && of_image + 1 >= ProfileBox::kPerImageMax);
    if (goes) {
      ::unlinkat(box.fd(), file.name.c_str(), 0);
    } else if (!is_unfinished) {
      ++kept;
      of_image += is_same_image ? 1 : 0;
    }
  }
}

Status write_box_file(int box, const std::string& name, ByteView content) {
  std::array<std::byte, 8> random{};
  fill_random(random);
  const std::string aside = fmt::format(".{}-{}", ::geteuid(), to_hex(random));
  const UniqueFd fd(::openat(box, aside.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
  if (!fd)
    return fail_errno(errno, "a profile");
  Status done = write_full(fd.get(), content);
  // Others read it, whatever the umask is. No fsync: a lost profile costs a slower start.
  if (done && ::fchmod(fd.get(), 0644) != 0)
    done = fail_errno(errno, "a profile");
  if (done && ::renameat(box, aside.c_str(), box, name.c_str()) != 0)
    done = fail_errno(errno, "a profile");
  if (!done)
    ::unlinkat(box, aside.c_str(), 0);
  return done;
}

Bytes box_head(const Timestamp& birth) {
  Bytes head;
  append(head, as_bytes(kProfileMagic));
  WireWriter writer(head);
  put(writer, birth);
  return head;
}

// The profile in a file of the box, if it is one of this image.
std::optional<Profile> read_box_file(int box, const BoxFile& file, const VersionRecord& image) {
  const UniqueFd fd(
      ::openat(box, file.name.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));

  struct stat info {};

  if (!fd || ::fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode) || info.st_uid != file.uid ||
      info.st_size < static_cast<off_t>(kHeadSize) ||
      info.st_size > static_cast<off_t>(kHeadSize + kProfileMax))
    return std::nullopt;
  Bytes content(static_cast<std::size_t>(info.st_size));
  const Result<std::size_t> got = pread_full(fd.get(), content, 0);
  const Bytes head = box_head(image.birth);
  if (!got || *got != content.size() || !std::equal(head.begin(), head.end(), content.begin()))
    return std::nullopt;
  Result<Profile> profile = decode_profile(ByteView(content).subspan(kHeadSize));
  if (!profile || profile->image_size != image.size)
    return std::nullopt;
  return std::move(*profile);
}

}  // namespace

Status ProfileBox::put(const VersionRecord& image, const std::string& role, const MountId& mount_id,
                       ByteView profile) {
  SLIPWAY_TRY_ASSIGN(const Profile checked, decode_profile(profile));
  if (checked.image_size != image.size)
    return fail(ErrorCode::kStale, "the profile is of an image of another size");
  if (!is_valid_role(role))
    return fail(ErrorCode::kInvalid, "'{}' is not a role", escape(role));
  if (directory_.empty())
    return fail(ErrorCode::kNotSupported, "there is nowhere to keep a profile");
  Result<std::unique_ptr<BoxDirectory>> box = open_box(directory_);
  if (!box && box.error().code == ErrorCode::kNotFound) {
    SLIPWAY_TRY(make_box(directory_));
    box = open_box(directory_);
  }
  if (!box)
    return fail(box.error());
  const std::string middle = middle_of(image.id, role);
  const std::string name = fmt::format("{}{}{}", ::geteuid(), middle, to_hex(mount_id));
  make_room(**box, name, middle);
  Bytes content = box_head(image.birth);
  append(content, profile);
  return write_box_file((*box)->fd(), name, content);
}

Result<Bytes> ProfileBox::get(const VersionRecord& image, const std::string& role) const {
  if (directory_.empty() || !is_valid_role(role))
    return Bytes();
  const Result<std::unique_ptr<BoxDirectory>> box = open_box(directory_);
  if (!box && box.error().code == ErrorCode::kNotFound)
    return Bytes();
  if (!box)
    return fail(box.error());
  const std::string middle = middle_of(image.id, role);
  std::vector<BoxFile> files = (*box)->list(
      [&](std::string_view name, uid_t) { return name[0] != '.' && is_of_image(name, middle); });
  // What this user left counts before what others did, who may not mean well.
  const uid_t self = ::geteuid();
  std::sort(files.begin(), files.end(), [&](const BoxFile& a, const BoxFile& b) {
    return (a.uid == self) != (b.uid == self) ? a.uid == self : is_newer(a, b);
  });
  std::vector<Profile> starts;
  for (std::size_t i = 0; i < std::min(files.size(), kOpenedMax) && starts.size() < kStartsMax;
       ++i) {
    if (std::optional<Profile> profile = read_box_file((*box)->fd(), files[i], image))
      starts.push_back(std::move(*profile));
  }
  if (starts.empty())
    return Bytes();
  return encode_profile(merge_profiles(starts));
}

}  // namespace slipway
