#pragma once

#include "base/log.h"
#include "manifest/manifest.h"
#include "server/directory_store.h"
#include "server/file_attributes.h"
#include "server/frame_pack.h"
#include "server/manifest_file.h"
#include "support/catch.h"
#include "support/temp_dir.h"
#include "wire/compression.h"

#include <algorithm>
#include <fcntl.h>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <sys/stat.h>
#include <unistd.h>

namespace slipway {

namespace fs = std::filesystem;

/// Some time from now, so that what a test has just written counts as old.
inline Timestamp later_clock() {
  Timestamp time = wall_clock_now();
  time.seconds += 10;
  return time;
}

/// Content by letters, one for each unit: 'z' zero, 'c' compresses, 'r' does not. `seed` makes
/// other bytes of the same kinds; the last unit is cut by `cut` bytes.
inline Bytes make_content(std::string_view units, unsigned seed = 1, std::size_t cut = 0) {
  Bytes content(units.size() * kUnitSize, std::byte{0});
  std::uint64_t random = seed * 0x9e3779b97f4a7c15ULL + 1;
  for (std::size_t unit = 0; unit < units.size(); ++unit) {
    const MutableBytes bytes = MutableBytes(content).subspan(unit * kUnitSize, kUnitSize);
    for (std::size_t i = 0; i < bytes.size() && units[unit] != 'z'; ++i) {
      random = random * 6364136223846793005ULL + 1442695040888963407ULL;
      bytes[i] = units[unit] == 'r' ? static_cast<std::byte>(random >> 56)
                                    : static_cast<std::byte>(1 + (seed + unit) % 250);
    }
  }
  content.resize(content.size() - cut);
  return content;
}

/// The manifest of a file with this content, and its leaves.
struct MadeManifest {
  Manifest manifest;
  Bytes leaves;
};

inline MadeManifest make_manifest(const VersionRecord& version, ByteView content) {
  MadeManifest made;
  made.manifest.version = version;
  made.manifest.regions.resize(region_count(content.size()));
  for (std::uint64_t at = 0; at < content.size(); at += kRegionSize) {
    ManifestRegion& region = made.manifest.regions[region_of(at)];
    Bytes leaves;
    const std::uint64_t end = std::min<std::uint64_t>(at + kRegionSize, content.size());
    for (std::uint64_t unit = at; unit < end; unit += kUnitSize) {
      const ByteView bytes = content.subspan(unit, std::min<std::uint64_t>(kUnitSize, end - unit));
      if (is_all_zero(bytes))
        add_unit(region.zero, unit_of(unit) % kUnitsPerRegion);
      else
        append(leaves, content_hash(HashKind::kLeaf, {bytes}));
    }
    region.node = node_of(region.zero, leaves);
    append(made.leaves, leaves);
  }
  made.manifest.root = root_of(content.size(), made.manifest.regions);
  return made;
}

/// An initialised export and a store over it. What it publishes, it publishes as slipwayd does.
struct ManifestExport {
  ManifestExport() {
    log_to(LogSink::kNone, "");
    for (const char* name : {"manifests", "frames", "roots", "profiles"})
      fs::create_directories(state + "/" + name);
    fs::create_directories(root + "/vm");
    state_fd.reset(::open(state.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    store = open_store();
  }

  std::unique_ptr<DirectoryStore> open_store(WallClock clock = later_clock) const {
    UniqueFd fd(::open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    return DirectoryStore::open(std::move(fd), "", Publications::open(root, clock).value()).value();
  }

  std::string path(const std::string& name) const { return root + "/vm/" + name; }

  void write(const std::string& name, ByteView content) const {
    const UniqueFd fd(::open(path(name).c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    REQUIRE(fd);
    REQUIRE(write_full(fd.get(), content).has_value());
  }

  /// Overwrites some bytes in place. From any thread, as Catch's assertions can't.
  bool overwrite(const std::string& name, std::uint64_t offset, ByteView bytes) const {
    const UniqueFd fd(::open(path(name).c_str(), O_WRONLY | O_CLOEXEC));
    return fd && pwrite_full(fd.get(), bytes, offset).has_value();
  }

  void patch(const std::string& name, std::uint64_t offset, ByteView bytes) const {
    REQUIRE(overwrite(name, offset, bytes));
  }

  VersionRecord version(const std::string& name) const {
    return version_of(stat_at(AT_FDCWD, path(name).c_str()).value(), 0);
  }

  /// Waits until the file system's clock has moved on since the file was last changed, as a file
  /// that is old enough to be published has.
  void settle(const std::string& name) const {
    const VersionRecord before = version(name);
    const std::string probe = state + "/probe";
    do {
      const UniqueFd fd(::open(probe.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
      REQUIRE(write_full(fd.get(), as_bytes("x")).has_value());
    } while (version_of(stat_at(AT_FDCWD, probe.c_str()).value(), 0).ctime <= before.ctime);
  }

  void write_manifest(const MadeManifest& made) const {
    Bytes head;
    encode_head(head, made.manifest);
    Bytes file = wrap_head(head);
    append(file, made.leaves);
    const std::string to = state + "/" + manifest_path(made.manifest.version.id);
    REQUIRE(replace_file(to, as_text(file), 0644).has_value());
    REQUIRE(::chmod(to.c_str(), 0644) == 0);
  }

  /// Writes a file and publishes it, with the frames of its units when `frames`.
  Manifest publish(const std::string& name, const Bytes& content, bool frames = true) const {
    write(name, content);
    const ContentHash content_root = make_manifest({}, content).manifest.root;
    const std::string link = state + "/" + root_link_path(content_root);
    ::unlink(link.c_str());
    REQUIRE(::link(path(name).c_str(), link.c_str()) == 0);
    const MadeManifest made = make_manifest(version(name), content);
    write_manifest(made);
    if (frames)
      write_frames(content, made.manifest);
    settle(name);
    return made.manifest;
  }

  void write_frames(const Bytes& content, const Manifest& manifest) const {
    UnitCompressor compressor;
    const auto writer = FramePackWriter::create(state_fd.get()).value();
    for (std::uint64_t at = 0; at < content.size(); at += kUnitSize) {
      Bytes frame;
      const auto length = std::min<std::uint64_t>(kUnitSize, content.size() - at);
      if (!is_zero_unit(manifest, at) &&
          compressor.compress(ByteView(content).subspan(at, length), frame) != 0)
        REQUIRE(writer->add(unit_of(at), frame).has_value());
    }
    REQUIRE(writer->finish(manifest.root, ::geteuid(), ::getegid(), 0644).has_value());
  }

  std::unique_ptr<ImageFile> open(const std::string& name) const {
    return store->open({"vm/" + name, {}}).value();
  }

  TempDir dir;
  std::string root = dir / "export";
  std::string state = root + "/.slipway";
  UniqueFd state_fd;
  std::unique_ptr<DirectoryStore> store;
};

/// What a chunk shows of the file, its frames unpacked.
inline Bytes content_of(const ImageChunk& chunk, ByteView data) {
  Bytes content;
  for (const ImageRun& run : chunk.runs) {
    const std::size_t before = content.size();
    content.resize(before + run.range.length, std::byte{0});
    const MutableBytes to = MutableBytes(content).subspan(before);
    std::fill(to.begin(), to.end(), std::byte{0});
    if (run.kind == ImageRunKind::kFrame) {
      REQUIRE(decompress_unit(data.first(run.stored), to).has_value());
      data = data.subspan(run.stored);
    } else if (run.kind == ImageRunKind::kData) {
      std::copy_n(data.begin(), run.range.length, to.begin());
      data = data.subspan(run.range.length);
    }
  }
  CHECK(data.empty());
  return content;
}

}  // namespace slipway
