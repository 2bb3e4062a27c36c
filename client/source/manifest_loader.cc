#include "source/manifest_loader.h"

#include "base/checksum.h"
#include "base/log.h"
#include "base/unique_fd.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <mutex>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace slipway {

/// Owners: who started it (to cancel), and the call under way.
class ManifestLoader::Load : public std::enable_shared_from_this<Load> {
 public:
  Load(RemoteSession& remote, NodeRef node, std::shared_ptr<const Manifest> kept,
       std::function<void(Loaded)> done)
      : remote_(remote), node_(std::move(node)), kept_(std::move(kept)), done_(std::move(done)) {}

  void ask() {
    ManifestRequest request;
    request.node = node_;
    request.offset = head_.size();
    if (kept_ != nullptr)
      request.known = kept_->root;
    const CallId call = remote_.manifest(
        std::move(request), [self = shared_from_this()](Result<ManifestReply> reply) {
          self->answered(std::move(reply));
        });
    std::unique_lock lock(mutex_);
    call_ = call;
    const bool cancelled = cancelled_;
    lock.unlock();
    if (cancelled)
      remote_.cancel(call);
  }

  void cancel() {
    std::unique_lock lock(mutex_);
    cancelled_ = true;
    const CallId call = call_;
    lock.unlock();
    if (call != 0)
      remote_.cancel(call);
  }

 private:
  void answered(Result<ManifestReply> reply) {
    if (!reply || reply->state == ManifestState::kNone)
      return end({});
    if (reply->state == ManifestState::kSame) {
      if (kept_ != nullptr && kept_->version == reply->version)
        return end({kept_, {}});
      if (std::exchange(kept_, nullptr) == nullptr)
        return end({});
      return ask();  // the same content, published again: with another version
    }
    if (reply->total > kManifestHeadMax || (!head_.empty() && reply->version != version_) ||
        reply->part.size() > reply->total - head_.size()) {
      log_warning("'{}': the server sends a manifest that can't be", escape(node_.path));
      return end({});
    }
    version_ = reply->version;
    append(head_, reply->part);
    if (head_.size() < reply->total)
      return ask();
    Result<Manifest> manifest = decode_head(head_);
    if (!manifest || manifest->version != version_) {
      log_warning("'{}': {}", escape(node_.path),
                  manifest ? "the manifest is of another version" : manifest.error().message);
      return end({});
    }
    end({std::make_shared<const Manifest>(std::move(*manifest)), std::move(head_)});
  }

  void end(Loaded loaded) {
    const auto done = std::exchange(done_, nullptr);
    done(std::move(loaded));
  }

  RemoteSession& remote_;
  const NodeRef node_;
  std::shared_ptr<const Manifest> kept_;
  std::function<void(Loaded)> done_;
  VersionRecord version_;
  Bytes head_;
  std::mutex mutex_;
  CallId call_ = 0;         // guarded by mutex_
  bool cancelled_ = false;  // guarded by mutex_
};

ManifestLoader::ManifestLoader(RemoteSession& remote, std::string directory,
                               const ExportKey& export_key)
    : remote_(remote),
      directory_(std::move(directory)),
      prefix_(fmt::format("{:016x}-", checksum64(export_key, 0))) {}

std::shared_ptr<ManifestLoader::Load> ManifestLoader::load(const NodeRef& node,
                                                           std::function<void(Loaded)> done) {
  auto load = std::make_shared<Load>(remote_, node, read_kept(node.expected), std::move(done));
  load->ask();
  return load;
}

void ManifestLoader::cancel(Load& load) {
  load.cancel();
}

std::string ManifestLoader::path_of(const FileId& id) const {
  return fmt::format("{}/{}{}-{}", directory_, prefix_, id.file_system, id.inode);
}

std::shared_ptr<const Manifest> ManifestLoader::read_kept(const FileId& id) const {
  if (directory_.empty() || id.any())
    return nullptr;
  const UniqueFd fd(::open(path_of(id).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  struct stat info {};
  if (!fd || ::fstat(fd.get(), &info) != 0 || !S_ISREG(info.st_mode))
    return nullptr;
  const auto size = static_cast<std::uint64_t>(info.st_size);
  constexpr std::size_t kAround = kManifestPrologueSize + kHeadChecksumSize;
  if (size <= kAround || size > kManifestHeadMax + kAround)
    return nullptr;
  Bytes file(size);
  const auto got = pread_full(fd.get(), file, 0);
  if (!got || *got != size)
    return nullptr;
  const ByteView view(file);
  const auto length = parse_prologue(view.first(kManifestPrologueSize));
  if (!length || *length + kAround != size ||
      !check_head_checksum(view.first(size - kHeadChecksumSize), view.last(kHeadChecksumSize)))
    return nullptr;
  auto manifest = decode_head(view.subspan(kManifestPrologueSize, *length));
  if (!manifest || manifest->version.id != id)
    return nullptr;
  return std::make_shared<const Manifest>(std::move(*manifest));
}

void ManifestLoader::save(const Loaded& loaded) {
  if (directory_.empty() || loaded.manifest == nullptr || loaded.head.empty())
    return;
  (void)::mkdir(directory_.c_str(), 0700);
  const std::string path = path_of(loaded.manifest->version.id);
  const Bytes file = wrap_head(loaded.head);
  const std::string text(reinterpret_cast<const char*>(file.data()), file.size());
  if (const Status kept = replace_file(path, text, 0600); !kept)
    log_debug("manifest not kept: {}", kept.error().message);
}

std::shared_ptr<ImageManifest> ManifestLoader::share(const Loaded& loaded,
                                                     const VersionRecord& version, bool pinned) {
  if (loaded.manifest == nullptr || loaded.manifest->version != version)
    return nullptr;
  auto shared = shared_.lock();
  std::erase_if(*shared, [](const auto& entry) { return entry.second.expired(); });
  auto& slot = (*shared)[{version.id, loaded.manifest->root, pinned}];
  auto image = slot.lock();
  if (image == nullptr) {
    image = std::make_shared<ImageManifest>(*loaded.manifest, pinned);
    slot = image;
  }
  return image;
}

}  // namespace slipway
