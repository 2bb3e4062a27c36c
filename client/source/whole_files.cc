#include "source/whole_files.h"

#include "base/guarded.h"
#include "base/log.h"
#include "base/worker.h"
#include "manifest/image_facts.h"
#include "source/cache_lookup.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace slipway {

namespace {

/// Entries of a directory that are looked at: the first page of its listing, or less.
constexpr std::size_t kEntriesMax = 4096;

std::string_view name_in(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

std::string directory_of(const std::string& path) {
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? std::string() : path.substr(0, slash);
}

bool is_whole(const DirectoryEntry& entry) {
  const Attributes& a = entry.attributes;
  return a.type == FileType::kRegular && !a.young && is_plausible(a) && a.version.size > 0 &&
         plan_by_name(entry.name, a.version.size) == TransferPlan::kWhole;
}

/// What is to be brought of a listing: small files first, so that one of them does not take the
/// place of many.
std::vector<DirectoryEntry> choose(std::vector<DirectoryEntry> entries) {
  if (entries.size() > kEntriesMax)
    entries.resize(kEntriesMax);
  const bool is_of_machine = std::any_of(entries.begin(), entries.end(), [](const auto& entry) {
    return entry.attributes.type == FileType::kRegular && is_valid_name(entry.name) &&
           names_machine(entry.name);
  });
  if (!is_of_machine)
    return {};
  std::erase_if(entries, [](const auto& e) { return !is_valid_name(e.name) || !is_whole(e); });
  std::stable_sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return a.attributes.version.size < b.attributes.version.size;
  });
  std::uint64_t bytes = 0;
  std::size_t count = 0;
  while (count < std::min(entries.size(), WholeFiles::kFilesMax) &&
         bytes + entries[count].attributes.version.size <= WholeFiles::kBytesMax)
    bytes += entries[count++].attributes.version.size;
  entries.resize(count);
  return entries;
}

}  // namespace

class WholeFiles::Work : public std::enable_shared_from_this<Work> {
 public:
  explicit Work(const Parts& parts) : parts_(parts), worker_(std::make_unique<Worker>()) {}

  /// The jobs that are queued run to their end; they begin nothing.
  void stop() {
    std::unique_ptr<Worker> worker;
    {
      const std::lock_guard lock(mutex_);
      worker = std::move(worker_);
    }
  }

  void opening(const NodeRef& node, std::uint64_t size) {
    if (size == 0 || plan_by_name(name_in(node.path), size) != TransferPlan::kWhole)
      return;
    const std::string directory = directory_of(node.path);
    {
      const std::lock_guard lock(mutex_);
      if (worker_ == nullptr || !note_directory(directory))
        return;
      ++stats_.directories;
    }
    parts_.remote.readdir({directory, {}}, 0,
                          [self = shared_from_this(), directory](Result<ReaddirReply> listed) {
                            if (listed)
                              self->listed(directory, choose(std::move(listed->entries)));
                          });
  }

  Stats stats() const {
    const std::lock_guard lock(mutex_);
    return stats_;
  }

 private:
  class Sink;

  /// Whether it is its turn. REQUIRES: mutex_.
  bool note_directory(const std::string& directory) {
    const TimePoint now = parts_.clock.now();
    const auto known = asked_.find(directory);
    if (known != asked_.end() && now - known->second < kAgain)
      return false;
    if (known == asked_.end() && asked_.size() >= kDirectoriesMax)
      asked_.erase(std::min_element(asked_.begin(), asked_.end(), [](const auto& a, const auto& b) {
        return a.second < b.second;
      }));
    asked_[directory] = now;
    return true;
  }

  /// Nothing is done when this has stopped.
  bool post(std::function<void()> job) {
    const std::lock_guard lock(mutex_);
    if (worker_ != nullptr)
      worker_->post(std::move(job));
    return worker_ != nullptr;
  }

  bool stopped() const {
    const std::lock_guard lock(mutex_);
    return worker_ == nullptr;
  }

  void listed(const std::string& directory, std::vector<DirectoryEntry> entries) {
    if (entries.empty())
      return;
    post([self = shared_from_this(), directory, entries = std::move(entries)] {
      for (const DirectoryEntry& entry : entries)
        self->ask(directory, entry);
    });
  }

  bool is_here(const VersionRecord& version) const {
    const auto known = parts_.cache.find_file(parts_.export_key, version.id);
    const ByteRange all{0, version.size};
    return known != nullptr && same_content(known->version(), version) &&
           look_up(*known, {&all, 1}).missing.empty();
  }

  void ask(const std::string& directory, const DirectoryEntry& entry) {
    const VersionRecord& version = entry.attributes.version;
    const std::string path = directory.empty() ? entry.name : directory + "/" + entry.name;
    if (stopped() || (parts_.leave_out && parts_.leave_out(path)) || is_here(version))
      return;
    parts_.remote.open({path, version.id}, [self = shared_from_this(), path](
                                               const Result<OpenedHandle>& opened) {
      if (!opened)
        return;
      const bool begun = self->post([self, path, opened = *opened] { self->bring(path, opened); });
      if (!begun)
        self->parts_.remote.close(opened->handle);
    });
  }

  void bring(const std::string& path, const OpenedHandle& opened);

  void brought(std::uint64_t handle, std::uint64_t bytes, const Status& status) {
    parts_.remote.close(handle);
    const std::lock_guard lock(mutex_);
    stats_.files += status ? 1U : 0U;
    stats_.bytes += status ? bytes : 0U;
  }

  const Parts parts_;
  mutable std::mutex mutex_;
  std::map<std::string, TimePoint> asked_;  // guarded by mutex_: when a directory was listed
  Stats stats_;                             // guarded by mutex_
  std::unique_ptr<Worker> worker_;          // guarded by mutex_; null: stopped
};

/// Owner: the source, until on_done.
class WholeFiles::Work::Sink final : public ReadSink {
 public:
  Sink(std::shared_ptr<Work> work, const Image& image)
      : work_(std::move(work)), handle_(image.handle), bytes_(image.version.size) {}

  void on_pieces(std::span<Piece>) override {}

  void on_done(Status status) override { work_->brought(handle_, bytes_, status); }

 private:
  const std::shared_ptr<Work> work_;
  const std::uint64_t handle_;
  const std::uint64_t bytes_;
};

/// The version that is stored is that of the open's answer, and each read's answer is compared with
/// it, so that what changes meanwhile is not kept.
void WholeFiles::Work::bring(const std::string& path, const OpenedHandle& opened) {
  const Attributes& now = opened.attributes;
  const DirectoryEntry entry{0, std::string(name_in(path)), now};
  // A file in use with another content is its users' to look after: perhaps they have just changed
  // it. Cached units that must be confirmed first are the next open's.
  auto cached = !stopped() && is_whole(entry)
                    ? parts_.cache.open_file_ahead(parts_.export_key, now.version)
                    : fail(ErrorCode::kNotSupported, "it isn't a small file any more");
  if (!cached || cached->must_confirm) {
    parts_.remote.close(opened.handle);
    return;
  }
  auto image = std::make_shared<Image>();
  image->handle = opened.handle;
  image->version = now.version;
  image->cached = std::move(cached->file);
  SourceRead read;
  read.image = image;
  read.ranges = {{0, now.version.size}};
  read.priority = Priority::kPrefetch;
  parts_.source.read(std::move(read), std::make_shared<Sink>(shared_from_this(), *image));
}

WholeFiles::WholeFiles(const Parts& parts) : work_(std::make_shared<Work>(parts)) {}

WholeFiles::~WholeFiles() {
  work_->stop();
}

void WholeFiles::opening(const NodeRef& node, std::uint64_t size) {
  work_->opening(node, size);
}

WholeFiles::Stats WholeFiles::stats() const {
  return work_->stats();
}

}  // namespace slipway
