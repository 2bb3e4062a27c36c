#include "server/directory_store.h"

#include "base/log.h"
#include "server/directory_file.h"
#include "server/file_attributes.h"
#include "server/safe_open.h"

#include <cerrno>
#include <dirent.h>
#include <fcntl.h>
#include <sys/statfs.h>
#include <unistd.h>
#include <utility>

namespace slipway {

namespace {

Result<Attributes> attributes_at(FileSystemTable& file_systems, int directory, const char* name) {
  SLIPWAY_TRY_ASSIGN(const struct statx stat, stat_at(directory, name));
  SLIPWAY_TRY_ASSIGN(const std::uint32_t index, file_systems.index_of(stat, directory, name));
  return attributes_of(stat, index);
}

Status check_regular(FileType type, std::string_view path) {
  switch (type) {
    case FileType::kRegular:
      return {};
    case FileType::kDirectory:
      return fail(ErrorCode::kIsDirectory, "'{}' is a directory", escape(path));
    case FileType::kSymlink:
      return fail(ErrorCode::kLoop, "'{}' is a symbolic link", escape(path));
    case FileType::kCharacterDevice:
    case FileType::kBlockDevice:
    case FileType::kFifo:
    case FileType::kSocket:
      break;
  }
  return fail(ErrorCode::kNotSupported, "'{}' is a special file, which is not served",
              escape(path));
}

// The cursor that the client sees is d_off + 1: never 0, and 0 is left to mean the start.
class DirectoryWalk final : public ImageDirectory {
 public:
  DirectoryWalk(DIR* opened, std::shared_ptr<FileSystemTable> file_systems, std::uint64_t cursor)
      : dir_(opened), file_systems_(std::move(file_systems)) {
    if (cursor != 0)
      ::seekdir(dir_, static_cast<long>(cursor - 1));
  }

  ~DirectoryWalk() override { ::closedir(dir_); }

  DirectoryWalk(const DirectoryWalk&) = delete;
  DirectoryWalk& operator=(const DirectoryWalk&) = delete;

  Result<std::optional<DirectoryEntry>> next() override {
    for (;;) {
      errno = 0;
      const struct dirent* found = ::readdir(dir_);
      if (found == nullptr && errno != 0)
        return fail_errno(errno, "readdir");
      if (found == nullptr)
        return std::optional<DirectoryEntry>();
      if (!is_valid_name(found->d_name) || found->d_name == kStateDirectoryName)
        continue;  // "." and ".." too
      Result<Attributes> attributes = attributes_at(*file_systems_, ::dirfd(dir_), found->d_name);
      if (!attributes && is_skipped(attributes.error().code))
        continue;
      if (!attributes)
        return fail(std::move(attributes).error());
      return DirectoryEntry{static_cast<std::uint64_t>(found->d_off) + 1, found->d_name,
                            std::move(*attributes)};
    }
  }

 private:
  // Vanished since it was listed, or one odd file that must not make its directory unreadable.
  static bool is_skipped(ErrorCode code) noexcept {
    return code == ErrorCode::kNotFound || code == ErrorCode::kStale ||
           code == ErrorCode::kFileTooBig;
  }

  DIR* const dir_;
  const std::shared_ptr<FileSystemTable> file_systems_;
};

}  // namespace

Result<std::unique_ptr<DirectoryStore>> DirectoryStore::open(
    UniqueFd root, const std::string& state_file, std::unique_ptr<Publications> publications) {
  SLIPWAY_TRY_ASSIGN(const struct statx stat, stat_at(root.get(), ""));
  if (!S_ISDIR(stat.stx_mode))
    return fail(ErrorCode::kNotDirectory, "the export is not a directory");
  auto file_systems = std::make_shared<FileSystemTable>(state_file, stat);
  return std::unique_ptr<DirectoryStore>(
      new DirectoryStore(std::move(root), std::move(file_systems), std::move(publications)));
}

Result<DirectoryStore::OpenNode> DirectoryStore::open_node(const NodeRef& node, int flags) {
  if (!is_valid_path(node.path))
    return fail(ErrorCode::kInvalid, "'{}' is not a path of an export", escape(node.path));
  if (has_hidden_component(node.path))
    return fail(ErrorCode::kNotFound, "'{}': no such file or directory", escape(node.path));
  OpenNode opened;
  Result<UniqueFd> fd = open_beneath(root_.get(), node.path, O_PATH | O_NOFOLLOW | flags);
  const bool is_missing = !fd && fd.error().code == ErrorCode::kNotFound;
  const auto root_name = is_missing && publications_ != nullptr && (flags & O_DIRECTORY) == 0
                             ? split_root_name(node.path)
                             : std::nullopt;
  if (root_name) {
    SLIPWAY_TRY_ASSIGN(opened, open_root_name(*root_name));
  } else if (!fd) {
    return fail(std::move(fd).error());
  } else {
    opened.fd = std::move(*fd);
    SLIPWAY_TRY_ASSIGN(opened.attributes, attributes_at(*file_systems_, opened.fd.get(), ""));
  }
  if (!node.expected.any() && node.expected != opened.attributes.version.id)
    return fail(ErrorCode::kStale, "'{}' is another file now", escape(node.path));
  return opened;
}

// The published inode behind "NAME@ROOT". The name must be one that the user could look up, though
// nothing needs to stand there any more; who may read the inode is the system's to say.
Result<DirectoryStore::OpenNode> DirectoryStore::open_root_name(const RootName& wanted) {
  const std::string path(wanted.name);
  const auto slash = path.rfind('/');
  const std::string directory = slash == std::string::npos ? "" : path.substr(0, slash);
  if (!is_valid_path(path) || has_hidden_component(path))
    return fail(ErrorCode::kNotFound, "'{}': no such file or directory", escape(path));
  SLIPWAY_TRY(open_beneath(root_.get(), directory, O_PATH | O_DIRECTORY | O_NOFOLLOW));
  if (const Result<UniqueFd> there = open_beneath(root_.get(), path, O_PATH | O_NOFOLLOW);
      !there && there.error().code != ErrorCode::kNotFound)
    return fail(there.error());
  OpenNode opened;
  SLIPWAY_TRY_ASSIGN(opened.fd, publications_->open_root(wanted.root));
  SLIPWAY_TRY_ASSIGN(opened.attributes, attributes_at(*file_systems_, opened.fd.get(), ""));
  SLIPWAY_TRY_ASSIGN(const struct statx stat, stat_at(opened.fd.get(), ""));
  if (opened.attributes.type != FileType::kRegular)
    return fail(ErrorCode::kNotFound, "no published content has the root {}", to_text(wanted.root));
  SLIPWAY_TRY(publications_->find_root(opened.fd.get(), stat,
                                       opened.attributes.version.id.file_system, wanted.root));
  opened.root = wanted.root;
  return opened;
}

Result<Attributes> DirectoryStore::lookup(const NodeRef& directory, std::string_view name) {
  if (!is_valid_name(name))
    return fail(ErrorCode::kInvalid, "'{}' is not a name", escape(name));
  SLIPWAY_TRY_ASSIGN(const OpenNode opened, open_node(directory, O_DIRECTORY));
  if (name == kStateDirectoryName)
    return fail(ErrorCode::kNotFound, "'{}': no such file or directory", escape(name));
  Result<Attributes> found =
      attributes_at(*file_systems_, opened.fd.get(), std::string(name).c_str());
  const bool is_missing = !found && found.error().code == ErrorCode::kNotFound;
  if (is_missing && publications_ != nullptr && split_root_name(name))
    return getattr(
        {directory.path.empty() ? std::string(name) : directory.path + "/" + std::string(name),
         {}});
  return found;
}

Result<Attributes> DirectoryStore::getattr(const NodeRef& node) {
  SLIPWAY_TRY_ASSIGN(OpenNode opened, open_node(node));
  return opened.attributes;
}

Result<std::unique_ptr<ImageDirectory>> DirectoryStore::open_directory(const NodeRef& directory,
                                                                       std::uint64_t cursor) {
  SLIPWAY_TRY_ASSIGN(const OpenNode opened, open_node(directory, O_DIRECTORY));
  SLIPWAY_TRY_ASSIGN(UniqueFd fd, reopen_for_reading(opened.fd.get()));
  DIR* const dir = ::fdopendir(fd.get());
  if (dir == nullptr)
    return fail_errno(errno, "fdopendir");
  (void)fd.release();
  return std::make_unique<DirectoryWalk>(dir, file_systems_, cursor);
}

Result<std::string> DirectoryStore::readlink(const NodeRef& node) {
  SLIPWAY_TRY_ASSIGN(const OpenNode opened, open_node(node));
  if (opened.attributes.type != FileType::kSymlink)
    return fail(ErrorCode::kInvalid, "'{}' is not a symbolic link", escape(node.path));
  std::string target(kLinkTargetMax + 1, '\0');
  const ssize_t n = ::readlinkat(opened.fd.get(), "", target.data(), target.size());
  if (n < 0)
    return fail_errno(errno, "readlink '{}'", escape(node.path));
  if (static_cast<std::size_t>(n) > kLinkTargetMax)
    return fail(ErrorCode::kNameTooLong, "the target of '{}' is too long", escape(node.path));
  target.resize(static_cast<std::size_t>(n));
  return target;
}

Result<StatfsReply> DirectoryStore::statfs(const NodeRef& node) {
  SLIPWAY_TRY_ASSIGN(const OpenNode opened, open_node(node));

  struct statfs info {};

  if (::fstatfs(opened.fd.get(), &info) != 0)
    return fail_errno(errno, "statfs '{}'", escape(node.path));
  return statfs_reply_of(info);
}

Result<std::unique_ptr<ImageFile>> DirectoryStore::open(const NodeRef& node) {
  SLIPWAY_TRY_ASSIGN(const OpenNode opened, open_node(node));
  SLIPWAY_TRY(check_regular(opened.attributes.type, node.path));
  return open_regular(opened);
}

Result<DirectoryStore::Target> DirectoryStore::open_target(const NodeRef& node,
                                                           Published published) {
  SLIPWAY_TRY_ASSIGN(const OpenNode opened, open_node(node));
  return target_of(opened, node.path, published);
}

Result<DirectoryStore::Target> DirectoryStore::target_of(const OpenNode& node,
                                                         std::string_view path,
                                                         Published published) {
  SLIPWAY_TRY(check_regular(node.attributes.type, path));
  if (node.root)
    return fail(ErrorCode::kReadOnly, "'{}' is published content", escape(path));
  Target target;
  // From here on nobody publishes it: publish asks whether a file is open for writing.
  SLIPWAY_TRY_ASSIGN(target.fd, reopen_for_writing(node.fd.get()));
  SLIPWAY_TRY(make_changeable(target.fd.get(), published));
  SLIPWAY_TRY_ASSIGN(target.attributes, attributes_of_fd(target.fd.get()));
  return target;
}

Status DirectoryStore::make_changeable(int fd, Published published) {
  if (publications_ == nullptr)
    return {};
  SLIPWAY_TRY_ASSIGN(const struct statx stat, stat_at(fd, ""));
  if (published == Published::kStays) {
    SLIPWAY_TRY_ASSIGN(const bool is_published, publications_->is_published(fd, stat));
    if (is_published)
      return fail(ErrorCode::kReadOnly, "a published image is not written to");
  }
  publications_->give_up(fd, stat);
  return {};
}

Result<UniqueFd> DirectoryStore::find_directory(const NodeRef& directory) {
  SLIPWAY_TRY_ASSIGN(OpenNode opened, open_node(directory, O_DIRECTORY));
  return std::move(opened.fd);
}

Result<UniqueFd> DirectoryStore::open_parent(const std::string& path) {
  const auto slash = path.rfind('/');
  if (path.empty() || !is_valid_path(path) || has_hidden_component(path))
    return fail(ErrorCode::kNotFound, "'{}': no such file or directory", escape(path));
  const std::string parent = slash == std::string::npos ? "" : path.substr(0, slash);
  SLIPWAY_TRY_ASSIGN(const OpenNode opened, open_node({parent, {}}, O_DIRECTORY));
  return reopen_for_reading(opened.fd.get());
}

Result<Attributes> DirectoryStore::attributes_of_fd(int fd) {
  return attributes_at(*file_systems_, fd, "");
}

Result<Attributes> DirectoryStore::attributes_of_name(int directory, const char* name) {
  return attributes_at(*file_systems_, directory, name);
}

Result<std::unique_ptr<ImageFile>> DirectoryStore::open_regular(const OpenNode& node) {
  SLIPWAY_TRY_ASSIGN(UniqueFd fd, reopen_for_reading(node.fd.get()));
  const int number = fd.get();
  const FileId& id = node.attributes.version.id;
  if (publications_ == nullptr)
    return std::make_unique<DirectoryFile>(std::move(fd), id.file_system, id);
  SLIPWAY_TRY_ASSIGN(const struct statx stat, stat_at(number, ""));
  SLIPWAY_TRY_ASSIGN(const FileId shared_id, publications_->shared_id(number, stat));
  auto file = std::make_unique<DirectoryFile>(std::move(fd), id.file_system, shared_id);
  std::optional<Publication> publication;
  if (node.root) {
    SLIPWAY_TRY_ASSIGN(publication,
                       publications_->find_root(number, stat, id.file_system, *node.root));
  } else {
    publication = publications_->find(number, stat, id.file_system);
  }
  if (!publication)
    return file;
  return std::make_unique<PublishedFile>(std::move(file), std::move(*publication),
                                         node.root.has_value());
}

}  // namespace slipway
