#include "source/image_guide.h"

#include "base/log.h"
#include "manifest/image_facts.h"
#include "source/image_search.h"
#include "source/prefetcher.h"
#include "source/touch_recorder.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <utility>
#include <vector>

namespace slipway {

namespace {

/// Smaller files come whole with their first reads: nothing is asked about them.
constexpr std::uint64_t kGuidedSizeMin = 1024 * 1024;

/// Images whose starts are remembered, those that are open aside.
constexpr std::size_t kLearningMax = 32;

}  // namespace

/// One image of which a start is being learned, or was. Once per mount, because later reads of a
/// file whose pages the kernel has tell little; but over several opens, because VM monitors look at
/// an image, close it, and open it again to run from it. The recorder knows when the start is over.
struct ImageGuide::Learning {
  NodeRef node;
  std::uint64_t size = 0;
  std::shared_ptr<TouchRecorder> recorder;
  std::vector<UnitRun> working_set;  ///< came at the first open
  std::uint64_t units_sent = 0;      ///< in the latest profile that was sent
  unsigned open = 0;                 ///< tokens of images that it learns from
  bool over = false;                 ///< the mount ends
};

/// The token of an open image.
struct ImageGuide::Open {
  Open() = default;
  Open(const Open&) = default;
  Open& operator=(const Open&) = delete;

  ~Open() {
    if (guide != nullptr)
      guide->close(*this);
  }

  ImageGuide* guide = nullptr;  ///< null: a copy
  std::shared_ptr<Shared> shared;
  NodeRef node;
  std::shared_ptr<const Image> image;
  std::vector<UnitRun> working_set;
  bool everything = false;  ///< asked for; under the lock once others see it
};

struct ImageGuide::Shared {
  explicit Shared(RemoteSession& to) : remote(to) {}

  /// Sends what was learned, if it is more than before: the server keeps the latest profile of a
  /// mount. Not under the lock: the call may complete inside.
  static void send(const std::shared_ptr<Shared>& self, const FileId& id, const NodeRef& node,
                   const std::string& role, const TouchRecorder& recorder) {
    const Profile profile = recorder.take();
    std::uint64_t units = 0;
    for (const UnitRun& run : profile.runs)
      units += run.count;
    {
      const std::lock_guard lock(self->mutex);
      std::uint64_t& sent = self->learning[id].units_sent;
      if (units <= sent)
        return;
      sent = units;
      ++self->sending;
    }
    self->remote.put_profile({node, role, encode_profile(profile)},
                             [self](const Result<PutProfileDone>& sent) {
                               const std::lock_guard lock(self->mutex);
                               if (sent)
                                 ++self->stats.profiles_sent;
                               else
                                 log_debug("profile not kept: {}", sent.error().message);
                               --self->sending;
                               self->sent.notify_all();
                             });
  }

  RemoteSession& remote;
  std::mutex mutex;
  std::condition_variable sent;
  std::map<FileId, Learning> learning;
  std::map<FileId, std::vector<Open*>> open;  ///< by file; the tokens take themselves out
  unsigned sending = 0;  ///< profiles on their way
  Stats stats;
};

ImageGuide::ImageGuide(RemoteSession& remote, Prefetcher& prefetcher, ImageGuideOptions options,
                       std::unique_ptr<WholeFiles> whole)
    : remote_(remote),
      prefetcher_(prefetcher),
      options_(std::move(options)),
      loader_(remote, options_.kept_heads, options_.export_key),
      whole_(std::move(whole)),
      shared_(std::make_shared<Shared>(remote)) {}

ImageGuide::~ImageGuide() = default;

std::shared_ptr<ImageGuide::Search> ImageGuide::search(const NodeRef& node, std::uint64_t size,
                                                       std::function<void(Found)> done) {
  auto search = std::make_shared<Search>(remote_, loader_, std::move(done));
  const bool large = size > kGuidedSizeMin;
  const bool manifest = pin_of(node.path) || (large && options_.manifests);
  const bool profile =
      large && options_.profiles != ProfileMode::kOff && !is_known(node.expected, size);
  if (whole_ != nullptr && options_.bulk)
    whole_->opening(node, size);
  search->start(node, profile ? &options_.role : nullptr, manifest);
  return search;
}

/// What this mount has left in the box itself tells it nothing.
bool ImageGuide::is_known(const FileId& id, std::uint64_t size) const {
  const std::lock_guard lock(shared_->mutex);
  const auto known = shared_->learning.find(id);
  return known != shared_->learning.end() && known->second.size == size;
}

void ImageGuide::cancel(Search& search) {
  search.cancel();
}

std::optional<ContentHash> ImageGuide::pin_of(const std::string& path) const {
  if (const auto pin = options_.pins.find(path); pin != options_.pins.end())
    return pin->second;
  // A name with a root: name@<64 hex digits>.
  constexpr std::size_t kRootDigits = 2 * sizeof(ContentHash);
  if (path.size() <= kRootDigits || path[path.size() - kRootDigits - 1] != '@')
    return std::nullopt;
  const Result<ContentHash> root =
      parse_content_hash(std::string_view(path).substr(path.size() - kRootDigits));
  return root ? std::optional(*root) : std::nullopt;
}

Status ImageGuide::prepare(const NodeRef& node, const Found& found, Image& image) {
  const std::optional<ContentHash> pin = pin_of(node.path);
  image.manifest = loader_.share(found.manifest, image.version, pin.has_value());
  if (pin && (image.manifest == nullptr || image.manifest->manifest().root != *pin)) {
    log_error("'{}' is pinned to {}, and {}", escape(node.path), to_text(*pin),
              image.manifest == nullptr
                  ? "the server has no manifest for what is there now"
                  : "is now " + to_text(image.manifest->manifest().root));
    return fail(ErrorCode::kCorrupt, "'{}' is not the content that it is pinned to",
                escape(node.path));
  }
  const std::lock_guard lock(shared_->mutex);
  if (image.manifest != nullptr)
    ++shared_->stats.manifests;
  if (found.profile)
    ++shared_->stats.profiles_received;
  if (options_.profiles == ProfileMode::kOff || image.version.size <= kGuidedSizeMin)
    return {};
  // Of images that are closed not all is kept: one that is opened again later is asked about anew.
  if (shared_->learning.size() >= kLearningMax && !shared_->learning.contains(image.version.id))
    std::erase_if(shared_->learning, [](const auto& entry) { return entry.second.open == 0; });
  Learning& learning = shared_->learning[image.version.id];
  if (learning.recorder == nullptr || learning.size != image.version.size) {
    learning.node = node;
    learning.size = image.version.size;
    learning.recorder = std::make_shared<TouchRecorder>(image.version.size, TouchLimits{},
                                                        prefetcher_.touch_totals());
    learning.working_set.clear();
    learning.units_sent = 0;
    learning.over = false;
  }
  if (found.profile && found.profile->image_size == learning.size)
    learning.working_set = found.profile->runs;
  if (!learning.over)
    image.touches = learning.recorder;
  return {};
}

std::shared_ptr<const void> ImageGuide::opened(const NodeRef& node,
                                               std::shared_ptr<const Image> image) {
  const auto open = std::make_shared<Open>();
  open->guide = this;
  open->shared = shared_;
  open->node = node;
  open->image = image;
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->open[image->version.id].push_back(open.get());
    if (image->touches != nullptr) {
      Learning& learning = shared_->learning[image->version.id];
      if (learning.recorder == image->touches)
        open->working_set = learning.working_set;
      ++learning.open;
    }
  }
  start_transfer(*open);
  return open;
}

/// A file of some hundred kilobytes is read in more than one piece: the first one brings all. Smaller
/// ones come with their first read anyway.
bool ImageGuide::comes_whole(const Open& open) const {
  const std::uint64_t size = open.image->version.size;
  const std::string& path = open.node.path;
  return options_.bulk && size > kBlockSize &&
         plan_by_name(std::string_view(path).substr(path.rfind('/') + 1), size) ==
             TransferPlan::kWhole;
}

void ImageGuide::start_transfer(const Open& open) {
  const std::shared_ptr<ImageManifest>& known = open.image->manifest;
  TransferOrder order;
  order.image = open.image;
  order.recorder = open.image->touches;
  order.work.working_set = open.working_set;
  order.work.everything = open.everything || comes_whole(open);
  if (known != nullptr) {
    order.work.first = known->manifest().first;
    order.work.everything |= options_.bulk && known->manifest().plan == TransferPlan::kBulk;
    order.work.content = [known](const ByteRange& range) {
      return known->trusted() ? content_ranges(known->manifest(), range)
                              : std::vector<ByteRange>{range};
    };
  }
  prefetcher_.opened(std::move(order));
}

TransferProgress ImageGuide::bring(const Image& image) {
  std::optional<Open> begun;
  {
    const std::lock_guard lock(shared_->mutex);
    const auto all = shared_->open.find(image.version.id);
    if (all != shared_->open.end()) {
      for (Open* open : all->second) {
        if (open->image.get() != &image || std::exchange(open->everything, true))
          continue;
        begun.emplace(*open).guide = nullptr;
      }
    }
  }
  if (begun)
    start_transfer(*begun);
  return prefetcher_.progress(image).value_or(TransferProgress{});
}

void ImageGuide::close(const Open& open) {
  const std::shared_ptr<const Image>& image = open.image;
  prefetcher_.closed(*image);
  std::shared_ptr<const Image> learned;
  std::optional<Open> other;
  {
    const std::lock_guard lock(shared_->mutex);
    auto& all = shared_->open[image->version.id];
    std::erase(all, &open);
    if (all.empty())
      shared_->open.erase(image->version.id);
    else
      other.emplace(*all.back()).guide = nullptr;
    if (image->touches != nullptr) {
      Learning& learning = shared_->learning[image->version.id];
      if (--learning.open == 0 && learning.recorder == image->touches && !learning.over)
        learned = image;
    }
  }
  if (other)
    start_transfer(*other);  // what this handle was fetching goes on through another one
  if (learned != nullptr && options_.profiles == ProfileMode::kLearn)
    Shared::send(shared_, image->version.id, open.node, options_.role, *image->touches);
}

void ImageGuide::flush(TimePoint deadline) {
  std::vector<std::pair<FileId, Learning>> left;
  {
    const std::lock_guard lock(shared_->mutex);
    for (auto& [id, learning] : shared_->learning) {
      if (learning.open == 0 || learning.over)
        continue;
      learning.over = true;
      left.emplace_back(id, learning);
    }
  }
  if (options_.profiles == ProfileMode::kLearn) {
    for (const auto& [id, learning] : left)
      Shared::send(shared_, id, learning.node, options_.role, *learning.recorder);
  }
  std::unique_lock lock(shared_->mutex);
  shared_->sent.wait_until(lock, deadline, [this] { return shared_->sending == 0; });
}

ImageGuide::Stats ImageGuide::stats() const {
  Stats stats;
  {
    const std::lock_guard lock(shared_->mutex);
    stats = shared_->stats;
  }
  if (whole_ != nullptr)
    stats.whole = whole_->stats();
  return stats;
}

}  // namespace slipway
