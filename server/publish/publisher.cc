#include "publish/publisher.h"

#include "base/clock.h"
#include "base/log.h"
#include "publish/confined_facts.h"
#include "publish/root_links.h"
#include "publish/tree_walk.h"
#include "server/safe_open.h"

#include <algorithm>
#include <fcntl.h>

namespace slipway {

namespace {

constexpr std::chrono::seconds kPatience{10};  // with a file that does not get old enough

std::string last_component(const std::string& path) {
  return path.substr(path.rfind('/') + 1);  // npos + 1 is 0
}

// Where a name inside of `path` leads, relative to the export, as the file system would walk it if
// there were no links. Nothing when it leads out.
std::optional<std::string> resolve_name(const std::string& path, std::string_view name) {
  if (name.empty() || name.front() == '/' || name.find('\0') != name.npos)
    return std::nullopt;
  const auto slash = path.rfind('/');
  std::string at = slash == std::string::npos ? "" : path.substr(0, slash);
  while (!name.empty()) {
    const std::string_view part = name.substr(0, name.find('/'));
    name.remove_prefix(std::min(part.size() + 1, name.size()));
    if (part.empty() || part == ".")
      continue;
    if (part != "..") {
      at += (at.empty() ? "" : "/") + std::string(part);
    } else {
      if (at.empty())
        return std::nullopt;
      const auto last = at.rfind('/');
      at.resize(last == std::string::npos ? 0 : last);
    }
  }
  return at;
}

// May a file of this kind name others?
bool may_name_others(const Manifest& manifest) noexcept {
  return manifest.image_class != ImageClass::kMemory || manifest.plan == TransferPlan::kWhole;
}

}  // namespace

void Publisher::add(const std::string& relative) {
  TreeVisitor visitor;
  visitor.file = [&](const std::string& path, const struct statx& stat, int) {
    add_file(path, stat.stx_size);
  };
  visitor.unseen = [&](const std::string& path, const Error& error) {
    ++summary_.failed;
    report_.failed(path, error);
  };
  walk_tree(served_, relative, visitor);
}

void Publisher::add_file(const std::string& path, std::uint64_t size) {
  if (!seen_.insert(path).second)
    return;
  queue_.push_back(path);
  report_.planned(1, size);
}

Result<PublishSummary> Publisher::run() {
  Result<FrameStore> store = FrameStore::open(served_, options_.frames_max);
  if (!store && store.error().code == ErrorCode::kNotFound)
    return fail(ErrorCode::kNotFound,
                "'{}' was initialised by an older version: run slipwayd init "
                "on it again",
                escape(served_.path()));
  if (!store)
    return fail(std::move(store).error());
  SLIPWAY_TRY(StateFileWriter::create(served_.state(), "manifests"));  // may this user publish?
  store_ = std::make_unique<FrameStore>(*store);
  images_ = std::make_unique<ImagePublisher>(
      served_, options_, *store_, [&](const std::string& path, std::uint64_t bytes) {
        report_.progress(path, bytes);
        return interrupt_.came() ? Status(fail(ErrorCode::kInterrupted, "interrupted")) : Status();
      });
  if (options_.rebind) {
    SLIPWAY_TRY_ASSIGN(index_, read_published_index(served_));
  }
  while (!queue_.empty() && !interrupt_.came()) {
    const std::string path = std::move(queue_.front());
    queue_.pop_front();
    if (const Status done = publish(path); !done) {
      if (done.error().code == ErrorCode::kInterrupted)
        break;
      ++summary_.failed;
      report_.failed(path, done.error());
    }
  }
  summary_.interrupted = interrupt_.came();
  report_.finished(summary_);
  return summary_;
}

Status Publisher::publish(const std::string& path) {
  SLIPWAY_TRY_ASSIGN(PublishableImage image, served_.open_image(path));
  if (!options_.force) {
    const auto valid = ManifestFile::open(served_.state(), image.version, image.owner);
    if (valid) {
      if (may_name_others((*valid)->manifest()))
        add_names(image, facts_of(image));
      ++summary_.skipped;
      report_.skipped(path, image.version.size);
      return {};
    }
  }
  if (region_count(image.version.size) > kManifestRegionsMax)
    return fail(ErrorCode::kFileTooBig, "it is larger than {}, the most that a manifest covers",
                format_size(kManifestRegionsMax * kRegionSize));
  SLIPWAY_TRY(check_not_written(image.fd.get(), path));
  SLIPWAY_TRY_ASSIGN(image, open_old_enough(path));
  const ImageFacts facts = facts_of(image);
  if (!facts.complaint.empty())
    report_.note(path, escape(facts.complaint));
  add_names(image, facts);
  SLIPWAY_TRY_ASSIGN(const PublishedImage done, images_->publish(image, facts, known_of(image)));
  for (const std::string& note : done.notes)
    report_.note(path, note);
  ++summary_.published;
  summary_.bytes += done.size;
  summary_.frame_bytes += done.frame_bytes;
  report_.published(done);
  return {};
}

// A file that changed just now could change once more without its times showing it.
Result<PublishableImage> Publisher::open_old_enough(const std::string& path) {
  const TimePoint deadline = SteadyClock::instance().now() + kPatience;
  for (bool said = false;; said = true) {
    const Timestamp now = options_.clock();
    SLIPWAY_TRY_ASSIGN(PublishableImage image, served_.open_image(path));
    if (!is_young(image.version, now))
      return image;
    if (SteadyClock::instance().now() >= deadline)
      return fail(ErrorCode::kChanging, "it changes all the time, or its times lie in the future");
    if (!said)
      report_.note(path, "changed a moment ago; waiting until it is 2 s old");
    if (interrupt_.wait(std::chrono::milliseconds(100)))
      return fail(ErrorCode::kInterrupted, "interrupted");
  }
}

ImageFacts Publisher::facts_of(const PublishableImage& image) {
  return read_confined_facts(last_component(image.path), image.fd.get(), image.version.size,
                             image.owner, image.group);
}

// What the files of a set name is published too; what lies outside of the export is not.
void Publisher::add_names(const PublishableImage& image, const ImageFacts& facts) {
  for (const std::string& name : facts.names) {
    const std::optional<std::string> path = resolve_name(image.path, name);
    if (!path || has_hidden_component(*path)) {
      report_.note(image.path,
                   fmt::format("names '{}', which is not beneath the export", escape(name)));
      continue;
    }
    const Result<PublishableImage> named = served_.open_image(*path);
    if (named)
      add_file(*path, named->version.size);
    else
      report_.note(image.path, fmt::format("names '{}', which can't be published: {}", escape(name),
                                           named.error().message));
  }
}

// What may describe this content: the file's own older manifest; of a copied tree, those of files
// with the same size and mtime.
std::vector<PublishedEntry> Publisher::known_of(const PublishableImage& image) const {
  std::vector<PublishedEntry> known;
  const auto own = ManifestFile::open_any(served_.state(), image.version.id, image.owner);
  if (own && same_file((*own)->manifest().version, image.version)) {
    const Manifest& manifest = (*own)->manifest();
    known.push_back({manifest.version, manifest.root, manifest.image_class, manifest.plan,
                     manifest.first, image.owner});
  }
  for (const PublishedEntry& entry : index_.entries) {
    if (entry.version.size == image.version.size && entry.version.mtime == image.version.mtime &&
        !same_file(entry.version, image.version) && entry.is_believed(image.owner))
      known.push_back(entry);
  }
  return known;
}

}  // namespace slipway
