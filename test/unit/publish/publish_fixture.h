#pragma once

#include "base/clock.h"
#include "base/units.h"
#include "publish/collector.h"
#include "publish/publisher.h"
#include "server/export_root.h"
#include "server/file_attributes.h"
#include "server/init_export.h"
#include "server/manifest_file.h"
#include "support/catch.h"
#include "support/temp_dir.h"

#include <algorithm>
#include <ctime>
#include <fcntl.h>
#include <filesystem>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <sys/stat.h>
#include <unistd.h>
#include <vector>

namespace slipway {

/// A wall clock that is far enough ahead for every file to be old.
inline Timestamp later_clock() {
  Timestamp now = wall_clock_now();
  now.seconds += 60;
  return now;
}

inline Bytes random_bytes(std::size_t size, unsigned seed) {
  std::mt19937_64 random(seed);
  Bytes bytes(size);
  std::ranges::generate(bytes, [&] { return std::byte(random()); });
  return bytes;
}

/// Text that compresses well, different for each seed.
inline Bytes soft_bytes(std::size_t size, unsigned seed) {
  Bytes bytes(size);
  for (std::size_t i = 0; i < size; ++i)
    bytes[i] = std::byte((i / 64 * seed + i % 7) & 0xffU);
  return bytes;
}

inline Bytes bytes_of(std::string_view text) {
  const ByteView view = as_bytes(text);
  return {view.begin(), view.end()};
}

/// Keeps what a publisher said.
class RecordedReport final : public PublishReport {
 public:
  void planned(std::uint64_t files, std::uint64_t) override { planned_files += files; }

  void progress(const std::string& path, std::uint64_t) override {
    if (on_progress)
      on_progress(path);
  }

  void published(const PublishedImage& image) override { images[image.path] = image; }

  void skipped(const std::string& path, std::uint64_t) override { skipped_paths.push_back(path); }

  void failed(const std::string& path, const Error& error) override { errors[path] = error; }

  void note(const std::string& path, const std::string& text) override { notes[path] += text; }

  void finished(const PublishSummary&) override {}

  std::uint64_t planned_files = 0;
  std::map<std::string, PublishedImage> images;
  std::vector<std::string> skipped_paths;
  std::map<std::string, Error> errors;
  std::map<std::string, std::string> notes;
  std::function<void(const std::string& path)> on_progress;
};

/// An initialised export in a directory of its own.
class TestExport {
 public:
  TestExport() { reopen(); }

  void reopen() {
    REQUIRE(init_export(directory_.path()).has_value());
    auto opened = PublishedExport::open(directory_.path());
    REQUIRE(opened.has_value());
    served_ = std::move(*opened);
  }

  PublishedExport& served() { return *served_; }

  std::string path(const std::string& name) const { return directory_ / name; }

  std::string state_path(const std::string& name) const {
    return directory_ / (".slipway/" + name);
  }

  void write(const std::string& name, ByteView bytes, std::uint64_t offset = 0) {
    std::filesystem::create_directories(std::filesystem::path(path(name)).parent_path());
    wait_for_next_tick();
    const UniqueFd fd(::open(path(name).c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    REQUIRE(fd.get() >= 0);
    REQUIRE(pwrite_full(fd.get(), bytes, offset).has_value());
  }

  /// Two changes within one tick of the kernel's clock have the same times.
  static void wait_for_next_tick() {
    timespec start{};
    timespec now{};
    ::clock_gettime(CLOCK_REALTIME_COARSE, &start);
    do {
      ::clock_gettime(CLOCK_REALTIME_COARSE, &now);
    } while (now.tv_sec == start.tv_sec && now.tv_nsec == start.tv_nsec);
  }

  PublishSummary publish(const std::vector<std::string>& paths, RecordedReport& report,
                         PublishOptions options = {}) {
    if (options.clock == wall_clock_now)
      options.clock = later_clock;
    Interrupt interrupt;
    Publisher publisher(served(), options, report, interrupt);
    for (const std::string& relative : paths)
      publisher.add(relative);
    const Result<PublishSummary> done = publisher.run();
    REQUIRE(done.has_value());
    return *done;
  }

  PublishSummary publish(const std::vector<std::string>& paths,
                         const PublishOptions& options = {}) {
    RecordedReport report;
    return publish(paths, report, options);
  }

  PublishableImage open(const std::string& relative) {
    auto image = served().open_image(relative);
    REQUIRE(image.has_value());
    return std::move(*image);
  }

  /// The valid manifest of a file, or why there is none.
  Result<std::shared_ptr<const ManifestFile>> manifest(const std::string& relative) {
    const PublishableImage image = open(relative);
    return ManifestFile::open(served().state(), image.version, image.owner);
  }

  std::string manifest_path_of(const std::string& relative) {
    return state_path(manifest_path(open(relative).version.id));
  }

  bool has(const std::string& state_relative) const {
    return std::filesystem::exists(std::filesystem::symlink_status(state_path(state_relative)));
  }

  std::size_t count(const std::string& directory) const {
    std::size_t files = 0;
    for (const auto& entry : std::filesystem::directory_iterator(state_path(directory)))
      if (entry.path().filename().string().front() != '.')
        ++files;
    return files;
  }

  Collected collect(const CollectOptions& options = {}) {
    Collector collector(served(), options, [](const std::string&) {});
    const auto freed = collector.collect();
    REQUIRE(freed.has_value());
    return *freed;
  }

 private:
  TempDir directory_;
  std::unique_ptr<PublishedExport> served_;
};

inline ContentHash root_of_file(TestExport& images, const std::string& name) {
  const auto manifest = images.manifest(name);
  REQUIRE(manifest.has_value());
  return (*manifest)->manifest().root;
}

}  // namespace slipway
