// Files are found, listed and described.

#include "server/file_attributes.h"
#include "store_fixture.h"

#include <fcntl.h>
#include <sys/stat.h>

namespace slipway {

namespace {

int descriptors() {
  int count = 0;
  for (const auto& entry : fs::directory_iterator("/proc/self/fd"))
    count += entry.exists() ? 1 : 0;
  return count;
}

}  // namespace

TEST_CASE("a file is found, listed and read by its path") {
  const ExportFixture f;
  const Attributes found = f.store->lookup({"vm", {}}, "disk").value();
  CHECK(found.type == FileType::kRegular);
  CHECK(found.version.size == 4);
  CHECK(found.young);
  CHECK(f.list("vm").at("disk").version == found.version);
  CHECK(f.store->getattr({"vm/disk", found.version.id})->version == found.version);
  const auto file = f.store->open({"vm/disk", found.version.id}).value();
  Bytes data;
  CHECK(read(*file, {0, kUnitSize}, data).version == found.version);
  CHECK(as_text(data) == "disk");
  CHECK(f.store->getattr({"", {}})->type == FileType::kDirectory);
}

TEST_CASE("a name that means another file now is stale") {
  const ExportFixture f;
  const FileId id = f.store->getattr({"vm/disk", {}})->version.id;
  write_file(f.root + "/new", "new");
  fs::rename(f.root + "/new", f.root + "/vm/disk");
  CHECK(f.store->getattr({"vm/disk", id}).error().code == ErrorCode::kStale);
  CHECK(f.store->open({"vm/disk", id}).error().code == ErrorCode::kStale);
  CHECK(f.store->open_directory({"vm", id}, 0).error().code == ErrorCode::kStale);
  CHECK(f.store->getattr({"vm/disk", {}}).has_value());
}

TEST_CASE("times are exact, also before 1970") {
  const ExportFixture f;
  const std::string path = f.root + "/vm/disk";
  const struct timespec times[2] = {{-2, 999'999'999}, {-123456, 123'456'789}};
  REQUIRE(::utimensat(AT_FDCWD, path.c_str(), times, 0) == 0);
  const Attributes attributes = f.store->getattr({"vm/disk", {}}).value();
  CHECK(attributes.version.mtime == Timestamp{-123456, 123'456'789});
  CHECK(attributes.atime == Timestamp{-2, 999'999'999});
  CHECK(attributes.young);  // it was changed just now, whatever its mtime says
}

TEST_CASE("youth is judged by the later time, but not by an mtime set into the future") {
  VersionRecord version;
  version.mtime = {100, 500};
  version.ctime = {90, 0};
  CHECK(is_young(version, {102, 499}));
  CHECK(!is_young(version, {102, 500}));
  version.mtime = {5000, 0};
  CHECK(!is_young(version, {102, 0}));
  version.ctime = {101, 0};
  CHECK(is_young(version, {102, 0}));
  version.ctime = {INT64_MAX, 0};
  CHECK(is_young(version, {102, 0}));
}

TEST_CASE("a listing goes on from any cursor") {
  const ExportFixture f;
  for (int i = 0; i < 500; ++i)
    write_file(fmt::format("{}/vm/deep/file{}", f.root, i), "");
  std::map<std::string, int> seen;
  std::uint64_t cursor = 0;
  for (bool end = false; !end;) {
    const auto walk = f.store->open_directory({"vm/deep", {}}, cursor).value();
    for (int i = 0; i < 7 && !end; ++i) {
      const auto entry = walk->next().value();
      end = !entry.has_value();
      if (entry) {
        ++seen[entry->name];
        cursor = entry->next;
        CHECK(cursor != 0);
      }
    }
  }
  CHECK(seen.size() == 500);
  for (const auto& [name, count] : seen)
    CHECK(count == 1);
}

TEST_CASE("an entry that vanished since it was listed is left out") {
  const ExportFixture f;
  for (int i = 0; i < 100; ++i)
    write_file(fmt::format("{}/vm/deep/file{}", f.root, i), "");
  const auto walk = f.store->open_directory({"vm/deep", {}}, 0).value();
  REQUIRE(walk->next()->has_value());
  for (int i = 0; i < 100; ++i)
    fs::remove(fmt::format("{}/vm/deep/file{}", f.root, i));
  CHECK(!walk->next()->has_value());
}

TEST_CASE("nothing stays open behind a request") {
  const ExportFixture f;
  const int before = descriptors();
  (void)f.list("vm");
  (void)f.store->getattr({"vm/disk", {}});
  (void)f.store->open({"vm/disk", {}});
  (void)f.store->open({"vm/deep", {}});
  (void)f.store->statfs({"vm", {}});
  CHECK(descriptors() == before);
}

}  // namespace slipway
