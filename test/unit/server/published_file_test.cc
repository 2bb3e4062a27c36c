// Reads of files that were published: what comes without looking, and when it ceases to.

#include "manifest_export.h"

#include <atomic>
#include <thread>
#include <utime.h>
#include <vector>

namespace slipway {
namespace {

constexpr std::size_t kAll = 64 * kUnitSize;

ImageChunk read(ImageFile& file, Bytes& data, bool take_frames, ByteRange range = {0, kAll},
                std::size_t data_max = kAll) {
  data.clear();
  return file.read({range, data_max, take_frames}, data).value();
}

Bytes whole_content(ImageFile& file, bool take_frames) {
  Bytes data;
  const ImageChunk chunk = read(file, data, take_frames);
  return content_of(chunk, data);
}

bool has_run(const ImageChunk& chunk, ImageRunKind kind) {
  return std::any_of(chunk.runs.begin(), chunk.runs.end(),
                     [&](const ImageRun& run) { return run.kind == kind; });
}

void set_mtime(const std::string& path, const Timestamp& mtime) {
  const struct timespec times[2] = {{0, UTIME_OMIT}, {mtime.seconds, mtime.nanoseconds}};
  REQUIRE(::utimensat(AT_FDCWD, path.c_str(), times, 0) == 0);
}

}  // namespace

TEST_CASE("a published file comes as holes, frames and data") {
  const ManifestExport f;
  const Bytes content = make_content("zzcrzrc", 1, 100);
  f.publish("disk", content);
  const auto file = f.open("disk");
  Bytes data;
  const ImageChunk chunk = read(*file, data, true);
  REQUIRE(chunk.runs.size() == 6);
  CHECK(chunk.runs[0].kind == ImageRunKind::kHole);
  CHECK(chunk.runs[0].range == ByteRange{0, 2 * kUnitSize});
  CHECK(chunk.runs[1].kind == ImageRunKind::kFrame);
  CHECK(chunk.runs[1].stored < 100);
  CHECK(chunk.runs[2].kind == ImageRunKind::kData);
  CHECK(chunk.runs[3].kind == ImageRunKind::kHole);
  CHECK(chunk.runs[4].kind == ImageRunKind::kData);
  CHECK(chunk.runs[5].kind == ImageRunKind::kFrame);
  CHECK(chunk.runs[5].range == ByteRange{6 * kUnitSize, kUnitSize - 100});
  CHECK(chunk.end == content.size());
  CHECK(chunk.version == f.version("disk"));
  CHECK((content_of(chunk, data) == content));
  CHECK(file->manifest() != nullptr);

  const ImageChunk plain = read(*file, data, false);
  CHECK(!has_run(plain, ImageRunKind::kFrame));
  CHECK((content_of(plain, data) == content));
}

TEST_CASE("zeros are not looked at") {
  const ManifestExport f;
  Bytes content = make_content("rrr");
  f.write("disk", content);
  std::fill_n(content.begin() + kUnitSize, kUnitSize, std::byte{0});
  f.write_manifest(make_manifest(f.version("disk"), content));  // it lies
  f.settle("disk");
  CHECK((whole_content(*f.open("disk"), false) == content));
}

TEST_CASE("a published file in pieces of any size is the same file") {
  const ManifestExport f;
  const std::string units = "crzzcrzrrrzcczzzzzrcz";
  const Bytes content = make_content(units, 3, 16000);
  f.publish("disk", content);
  const auto file = f.open("disk");
  for (std::size_t data_max = kUnitSize; data_max <= 5 * kUnitSize; data_max += kUnitSize) {
    for (const bool frames : {false, true}) {
      Bytes whole;
      while (whole.size() < content.size()) {
        Bytes data;
        const ImageChunk chunk = read(*file, data, frames, {whole.size(), kAll}, data_max);
        REQUIRE(chunk.end > whole.size());
        CHECK(data.size() <= data_max);
        std::uint64_t with_data = 0;
        for (const ImageRun& run : chunk.runs)
          with_data += run.kind == ImageRunKind::kHole ? 0 : run.range.length;
        CHECK(with_data <= data_max);
        append(whole, content_of(chunk, data));
        CHECK(whole.size() == chunk.end);
      }
      CHECK((whole == content));
    }
  }
  Bytes data;
  CHECK(read(*file, data, true, {64 * kUnitSize, kUnitSize}).runs.empty());
  CHECK(read(*file, data, true, {kUnitSize, kUnitSize}).runs.size() == 1);
}

TEST_CASE("an empty file can be published") {
  const ManifestExport f;
  f.publish("empty", {});
  const auto file = f.open("empty");
  Bytes data;
  CHECK(read(*file, data, true).runs.empty());
  CHECK(file->manifest() != nullptr);
}

TEST_CASE("without a manifest that can be believed a file is served as it is") {
  const ManifestExport f;
  const Bytes content = make_content("zrc");
  const Manifest manifest = f.publish("disk", content);
  const std::string path = f.state + "/" + manifest_path(manifest.version.id);
  SECTION("it is gone") {
    fs::remove(path);
  }
  SECTION("others may write to it") {
    REQUIRE(::chmod(path.c_str(), 0664) == 0);
  }
  SECTION("it is damaged") {
    fs::resize_file(path, fs::file_size(path) - 1);
  }
  SECTION("it is of the file before it was changed") {
    f.patch("disk", 0, as_bytes("changed"));
    set_mtime(f.path("disk"), manifest.version.mtime);
  }
  SECTION("it is of another file with the same inode number") {
    VersionRecord other = manifest.version;
    other.birth.nanoseconds ^= 1;
    f.write_manifest(make_manifest(other, content));
  }
  const auto file = f.open("disk");
  CHECK(file->manifest() == nullptr);
  CHECK(read_small_file(f.path("disk"), kAll).value() == as_text(whole_content(*file, true)));
}

TEST_CASE("a file that is young has no manifest") {
  ManifestExport f;
  f.publish("disk", make_content("zrc"));
  f.store = f.open_store(wall_clock_now);
  CHECK(f.open("disk")->manifest() == nullptr);
}

TEST_CASE("without frames, or with damaged ones, units come from the file") {
  const ManifestExport f;
  const Bytes content = make_content("zccr");
  const Manifest manifest = f.publish("disk", content, false);
  CHECK((whole_content(*f.open("disk"), true) == content));
  f.write_frames(content, manifest);
  const auto file = f.open("disk");
  Bytes data;
  CHECK(has_run(read(*file, data, true), ImageRunKind::kFrame));
  const std::string pack = f.state + "/" + frames_path(manifest.root);
  SECTION("cut off while it is open") {
    fs::resize_file(pack, 10);
  }
  SECTION("with no bytes left") {
    fs::resize_file(pack, 0);
  }
  CHECK((whole_content(*file, true) == content));
}

TEST_CASE("when an open file changes, what was published of it is not used any more") {
  const ManifestExport f;
  const Bytes content = make_content("zzcrc", 1, 5);
  f.publish("disk", content);
  const auto file = f.open("disk");
  REQUIRE(whole_content(*file, true) == content);
  REQUIRE(file->manifest() != nullptr);
  const Timestamp mtime = f.version("disk").mtime;
  Bytes now = content;
  SECTION("zeros are written over") {
    now = make_content("rrcrc", 2, 5);
    f.patch("disk", 0, now);
  }
  SECTION("and the mtime is set back") {
    now = make_content("rzrrc", 2, 5);
    f.patch("disk", 0, now);
    set_mtime(f.path("disk"), mtime);
  }
  SECTION("it becomes shorter") {
    now.resize(2 * kUnitSize + 7);
    fs::resize_file(f.path("disk"), now.size());
  }
  SECTION("it becomes longer") {
    append(now, make_content("r"));
    f.patch("disk", 0, now);
  }
  SECTION("it is emptied") {
    now.clear();
    fs::resize_file(f.path("disk"), 0);
  }
  SECTION("only its ctime changes") {
    REQUIRE(::chmod(f.path("disk").c_str(), 0600) == 0);
  }
  SECTION("its name is given to another file") {
    f.write("new", make_content("rrrrr", 7));
    fs::rename(f.path("new"), f.path("disk"));
  }
  Bytes data;
  const ImageChunk chunk = read(*file, data, true);
  CHECK(!has_run(chunk, ImageRunKind::kFrame));
  CHECK((content_of(chunk, data) == now));
  CHECK(file->manifest() == nullptr);
  CHECK((whole_content(*file, true) == now));
}

TEST_CASE("a manifest that was let go does not come back on the same handle") {
  const ManifestExport f;
  const Bytes content = make_content("zcr");
  f.publish("disk", content);
  const auto file = f.open("disk");
  f.patch("disk", 0, make_content("r", 5));
  CHECK(file->attributes().has_value());
  CHECK(file->manifest() == nullptr);
  const Bytes other = make_content("rcz", 5);
  f.patch("disk", 0, other);
  f.write_manifest(make_manifest(f.version("disk"), other));
  f.settle("disk");
  CHECK((whole_content(*file, true) == other));
  CHECK(file->manifest() == nullptr);
  CHECK(f.open("disk")->manifest() != nullptr);
}

TEST_CASE("a read during which the file changes is not taken for the published version") {
  // Many short runs: a read takes long enough to be overtaken at its end.
  const ManifestExport f;
  std::string units;
  for (int i = 0; i < 512; ++i)
    units += "zr";
  const std::size_t last = (units.size() - 1) * kUnitSize;
  for (unsigned round = 0; round < 10; ++round) {
    const Bytes before = make_content(units, round);
    f.publish("disk", before, false);
    const VersionRecord published = f.version("disk");
    const auto file = f.open("disk");
    std::atomic<bool> reading{false};
    std::thread writer([&] {
      while (!reading) {
      }
      (void)f.overwrite("disk", last, make_content("c", 77));
    });
    reading = true;
    Bytes data;
    const ImageChunk chunk = file->read({{0, before.size()}, before.size(), true}, data).value();
    writer.join();
    // New times with old bytes may be: the times change first. Never the other way round.
    const bool is_old = content_of(chunk, data) == before;
    CHECK((is_old || chunk.version != published));
    f.write("disk", {});
  }
}

TEST_CASE("a file that is opened for writing loses its manifest first, for good") {
  const ManifestExport f;
  const Bytes content = make_content("rzr");
  const Manifest published = f.publish("disk", content);
  REQUIRE(f.store->open({"vm/disk", {}}).value()->manifest() != nullptr);
  const std::string manifest = f.state + "/" + manifest_path(published.version.id);
  REQUIRE(fs::exists(manifest));
  SECTION("by open") {
    const auto file = f.store->open_for_writing({"vm/disk", {}}, Published::kMayChange).value();
    CHECK(file->manifest() == nullptr);
    CHECK(file->writable_fd().has_value());
  }
  SECTION("by make") {
    MakeRequest request;
    request.directory = {"vm", {}};
    request.name = "disk";
    request.even_published = true;
    CHECK(!f.store->make(request).value().reply.made);
  }
  SECTION("for a checkpoint") {
    CHECK(f.store->open_target({"vm/disk", {}}, Published::kMayChange).has_value());
  }
  CHECK(!fs::exists(manifest));
  CHECK(f.store->open({"vm/disk", {}}).value()->manifest() == nullptr);
  CHECK(f.open_store()->open({"vm/disk", {}}).value()->manifest() == nullptr);
}

TEST_CASE("published content that is named by its root is not written to") {
  const ManifestExport f;
  const Manifest published = f.publish("disk", make_content("r"));
  const std::string name = "vm/disk@" + to_text(published.root);
  const auto opened = f.store->open({name, {}});
  REQUIRE(opened.has_value());
  CHECK(f.store->open_for_writing({name, {}}, Published::kMayChange).error().code ==
        ErrorCode::kReadOnly);
  SetattrRequest setattr;
  setattr.node = {name, {}};
  setattr.mask = kSetMode;
  CHECK(f.store->setattr(setattr, nullptr).error().code == ErrorCode::kReadOnly);
  CHECK(f.store->setattr(setattr, opened->get()).error().code == ErrorCode::kNotSupported);
  CHECK(f.store->link({1, {name, {}}, {"vm", {}}, "x"}).error().code == ErrorCode::kReadOnly);
  CHECK(f.store->remove({1, {"vm", {}}, "disk@" + to_text(published.root), false}).error().code ==
        ErrorCode::kNotFound);
}

TEST_CASE("many threads read a published file and see it change") {
  const ManifestExport f;
  const Bytes before = make_content("zcrzcrzc", 1);
  const Bytes after = make_content("crzcrzcr", 2);
  f.publish("disk", before);
  const VersionRecord published = f.version("disk");
  const auto file = f.open("disk");
  std::atomic<bool> done{false};
  std::atomic<int> wrong{0};
  std::vector<std::thread> readers;
  for (int i = 0; i < 4; ++i) {
    readers.emplace_back([&] {
      for (bool last = false; !last;) {
        last = done;
        Bytes data;
        const auto chunk = file->read({{0, kAll}, kAll, false}, data);
        if (chunk && chunk->version == published && chunk->runs.size() != 6)
          ++wrong;
        if (last && (!chunk || file->manifest() != nullptr))
          ++wrong;
      }
    });
  }
  f.patch("disk", 0, after);
  done = true;
  for (std::thread& reader : readers)
    reader.join();
  CHECK(wrong == 0);
  CHECK((whole_content(*file, true) == after));
}

}  // namespace slipway
