#include "server/directory_store.h"

#include "base/log.h"
#include "server/file_attributes.h"
#include "server/safe_open.h"
#include "support/catch.h"
#include "support/temp_dir.h"

#include <atomic>
#include <cstdio>
#include <dirent.h>
#include <fcntl.h>
#include <filesystem>
#include <map>
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>

namespace slipway {
namespace {

namespace fs = std::filesystem;

void write_file(const std::string& path, std::string_view content) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  REQUIRE(fd);
  REQUIRE(write_full(fd.get(), as_bytes(content)).has_value());
}

/// An export in `dir`/export, with a secret beside it.
struct ExportFixture {
  ExportFixture() {
    log_to(LogSink::kNone, "");
    fs::create_directories(root + "/vm/deep");
    write_file(root + "/vm/disk", "disk");
    write_file(dir / "secret", "secret");
    fs::create_directories(root + "/.slipway");
    write_file(root + "/.slipway/id", "x");
    fs::create_directories(root + "/vm/.slipway");
    store = open_store("");
  }

  std::unique_ptr<DirectoryStore> open_store(const std::string& state_file) const {
    UniqueFd fd(::open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    return DirectoryStore::open(std::move(fd), state_file).value();
  }

  std::map<std::string, Attributes> list(const std::string& path) const {
    std::map<std::string, Attributes> entries;
    const auto walk = store->open_directory({path, {}}, 0).value();
    while (const auto entry = walk->next().value())
      entries[entry->name] = entry->attributes;
    return entries;
  }

  ErrorCode open_error(const std::string& path) const {
    const auto opened = store->open({path, {}});
    REQUIRE(!opened);
    return opened.error().code;
  }

  TempDir dir;
  std::string root = dir / "export";
  std::unique_ptr<DirectoryStore> store;
};

ImageChunk read(ImageFile& file, const ByteRange& range, Bytes& data,
                std::size_t data_max = 1024 * 1024) {
  data.clear();
  return file.read(range, data_max, data).value();
}

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

TEST_CASE("no path leads out of the export") {
  const ExportFixture f;
  fs::create_symlink("../../secret", f.root + "/vm/relative");
  fs::create_symlink(f.dir / "secret", f.root + "/vm/absolute");
  fs::create_directory_symlink("/", f.root + "/vm/top");
  fs::create_directory_symlink("deep", f.root + "/vm/inside");
  fs::create_directory_symlink("/proc/self/root", f.root + "/vm/magic");
  for (const std::string path : {"../secret", "vm/../../secret", "/etc/passwd", "vm/./disk",
                                 "vm//disk", "vm/disk/", ".", ".."})
    CHECK(f.open_error(path) == ErrorCode::kInvalid);
  CHECK(f.open_error("vm/relative") == ErrorCode::kLoop);
  CHECK(f.open_error("vm/absolute") == ErrorCode::kLoop);
  CHECK(f.open_error("vm/top/etc/passwd") == ErrorCode::kStale);
  CHECK(f.open_error("vm/magic/etc/passwd") == ErrorCode::kStale);
  CHECK(f.open_error("vm/inside/x") == ErrorCode::kStale);  // the client resolves links, not we
  CHECK(f.store->lookup({"vm/inside", {}}, "x").error().code == ErrorCode::kNotDirectory);
  CHECK(f.store->lookup({"", {}}, "..").error().code == ErrorCode::kInvalid);
  CHECK(f.store->lookup({"", {}}, "vm/disk").error().code == ErrorCode::kInvalid);
  CHECK(f.store->readlink({"vm/relative", {}}).value() == "../../secret");
  CHECK(f.list("vm").at("top").type == FileType::kSymlink);
}

TEST_CASE("a directory that is exchanged with a link all the time never leads out") {
  const ExportFixture f;
  fs::create_directory(f.dir / "outside");
  write_file(f.dir / "outside/disk", "secret");
  fs::create_directory_symlink(f.dir / "outside", f.root + "/link");
  std::atomic<bool> stop{false};
  std::thread swapper([&] {
    const std::string a = f.root + "/vm";
    const std::string b = f.root + "/link";
    while (!stop)
      (void)::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE);
  });
  int opened = 0;
  int refused = 0;
  for (int i = 0; i < 20000 && (opened < 20 || refused < 20); ++i) {
    const auto file = f.store->open({"vm/disk", {}});
    if (!file) {
      ++refused;
      continue;
    }
    ++opened;
    Bytes data;
    REQUIRE((*file)->read({0, kUnitSize}, kUnitSize, data).has_value());
    REQUIRE(as_text(data) == "disk");
  }
  stop = true;
  swapper.join();
  CHECK(opened > 0);
  CHECK(refused > 0);
}

TEST_CASE("special files are listed and never opened") {
  const ExportFixture f;
  REQUIRE(::mkfifo((f.root + "/vm/fifo").c_str(), 0666) == 0);
  const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));

  struct sockaddr_un address {};

  address.sun_family = AF_UNIX;
  const std::string path = f.root + "/vm/socket";
  REQUIRE(path.size() < sizeof address.sun_path);
  path.copy(address.sun_path, path.size());
  const void* const raw = &address;
  REQUIRE(::bind(socket.get(), static_cast<const sockaddr*>(raw), sizeof address) == 0);
  CHECK(f.list("vm").at("fifo").type == FileType::kFifo);
  CHECK(f.list("vm").at("socket").type == FileType::kSocket);
  CHECK(f.open_error("vm/fifo") == ErrorCode::kNotSupported);
  CHECK(f.open_error("vm/socket") == ErrorCode::kNotSupported);
  CHECK(f.open_error("vm/deep") == ErrorCode::kIsDirectory);
  if (::geteuid() == 0 && ::mknod((f.root + "/vm/zero").c_str(), S_IFCHR | 0666, 0x105) == 0) {
    CHECK(f.list("vm").at("zero").type == FileType::kCharacterDevice);
    CHECK(f.list("vm").at("zero").version.size == 0);
    CHECK(f.open_error("vm/zero") == ErrorCode::kNotSupported);
  }
  const UniqueFd fifo(::open((f.root + "/vm/fifo").c_str(), O_PATH | O_CLOEXEC));
  CHECK(reopen_for_reading(fifo.get()).error().code == ErrorCode::kNotSupported);
  // A writer that waits for a reader of the fifo would have been let through by an open.
  CHECK(::open((f.root + "/vm/fifo").c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC) == -1);
}

TEST_CASE(".slipway is hidden at every level") {
  const ExportFixture f;
  CHECK(!f.list("").contains(".slipway"));
  CHECK(!f.list("vm").contains(".slipway"));
  CHECK(f.list("").contains("vm"));
  for (const std::string path : {".slipway", ".slipway/id", "vm/.slipway"}) {
    CHECK(f.store->getattr({path, {}}).error().code == ErrorCode::kNotFound);
    CHECK(f.open_error(path) == ErrorCode::kNotFound);
  }
  CHECK(f.store->lookup({"", {}}, ".slipway").error().code == ErrorCode::kNotFound);
  CHECK(f.store->lookup({"vm", {}}, ".slipway").error().code == ErrorCode::kNotFound);
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

TEST_CASE("holes, data and a short tail come as runs of whole units") {
  const ExportFixture f;
  const std::string path = f.root + "/sparse";
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  const std::uint64_t size = 100 * kUnitSize + 5000;
  REQUIRE(::ftruncate(fd.get(), static_cast<off_t>(size)) == 0);
  // One byte makes its whole unit data, whatever the file system's blocks are.
  const std::byte one[1] = {std::byte{7}};
  REQUIRE(pwrite_full(fd.get(), one, 10 * kUnitSize + 9000).has_value());
  REQUIRE(pwrite_full(fd.get(), one, size - 1).has_value());
  const auto file = f.store->open({"sparse", {}}).value();
  Bytes data;
  const ImageChunk chunk = read(*file, {0, 200 * kUnitSize}, data);
  CHECK(chunk.end == size);
  REQUIRE(chunk.runs.size() == 4);
  CHECK(chunk.runs[0].kind == ImageRunKind::kHole);
  CHECK(chunk.runs[0].range == ByteRange{0, 10 * kUnitSize});
  CHECK(chunk.runs[1].kind == ImageRunKind::kData);
  CHECK(chunk.runs[1].range == ByteRange{10 * kUnitSize, kUnitSize});
  CHECK(chunk.runs[2].range == ByteRange{11 * kUnitSize, 89 * kUnitSize});
  CHECK(chunk.runs[3].range == ByteRange{100 * kUnitSize, 5000});
  REQUIRE(data.size() == kUnitSize + 5000);
  CHECK(data[9000] == std::byte{7});
  CHECK(data.back() == std::byte{7});

  const ImageChunk limited = read(*file, {0, 200 * kUnitSize}, data, kUnitSize);
  CHECK(limited.end == 100 * kUnitSize);  // through the second hole, up to data that has no room
  CHECK(data.size() == kUnitSize);
  const ImageChunk behind = read(*file, {300 * kUnitSize, kUnitSize}, data);
  CHECK(behind.runs.empty());
  CHECK(data.empty());
}

TEST_CASE(
    "a file that changes while it is read gives one version, marked young, or says that it "
    "changes") {
  const ExportFixture f;
  const std::string path = f.root + "/moving";
  write_file(path, std::string(256 * 1024, 'a'));
  const auto file = f.store->open({"moving", {}}).value();
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    for (int i = 0; !stop; ++i) {
      const Bytes content(256 * 1024, static_cast<std::byte>('b' + i % 20));
      (void)pwrite_full(fd.get(), content, 0);
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
  });
  int whole = 0;
  for (int i = 0; i < 300; ++i) {
    Bytes data;
    const auto chunk = file->read({0, 256 * 1024}, 256 * 1024, data);
    if (!chunk) {
      CHECK(chunk.error().code == ErrorCode::kChanging);
      CHECK(data.empty());
      continue;
    }
    CHECK(chunk->young);  // so that the client fetches it again
    ++whole;
  }
  stop = true;
  writer.join();
  CHECK(whole > 0);
}

TEST_CASE("a file that shrinks while it is read is reported with the size that was read") {
  const ExportFixture f;
  const std::string path = f.root + "/shrinking";
  write_file(path, std::string(8 * kUnitSize, 'x'));
  const auto file = f.store->open({"shrinking", {}}).value();
  REQUIRE(::truncate(path.c_str(), kUnitSize + 1) == 0);
  Bytes data;
  const ImageChunk chunk = read(*file, {0, 8 * kUnitSize}, data);
  CHECK(chunk.version.size == kUnitSize + 1);
  CHECK(chunk.end == kUnitSize + 1);
  CHECK(data.size() == kUnitSize + 1);
}

TEST_CASE("what a read returns fits the version that it names, while the file shrinks and grows") {
  const ExportFixture f;
  const std::string path = f.root + "/breathing";
  write_file(path, std::string(64 * kUnitSize, 'x'));
  const auto file = f.store->open({"breathing", {}}).value();
  std::atomic<bool> stop{false};
  std::thread writer([&] {
    const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    const Bytes content(64 * kUnitSize, std::byte{'x'});
    while (!stop) {
      if (::ftruncate(fd.get(), kUnitSize) == 0)
        (void)pwrite_full(fd.get(), content, 0);
    }
  });
  for (int i = 0; i < 2000; ++i) {
    Bytes data;
    const auto chunk = file->read({0, 64 * kUnitSize}, 64 * kUnitSize, data);
    if (!chunk)
      continue;
    std::uint64_t at = 0;
    std::uint64_t data_size = 0;
    for (const ImageRun& run : chunk->runs) {
      REQUIRE(run.range.offset == at);
      at = run.range.end();
      data_size += run.kind == ImageRunKind::kData ? run.range.length : 0;
    }
    REQUIRE(at == chunk->version.size);
    REQUIRE(chunk->end == at);
    REQUIRE(data.size() == data_size);
  }
  stop = true;
  writer.join();
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

TEST_CASE("space is told in units of 4096 bytes") {
  const ExportFixture f;
  const StatfsReply reply = f.store->statfs({"vm", {}}).value();
  const fs::space_info space = fs::space(f.root);
  CHECK(reply.blocks == space.capacity / 4096);
  CHECK(reply.name_max == 255);
}

TEST_CASE("what a file system claims of itself is brought into the protocol's bounds") {
  const auto is_accepted = [](const StatfsReply& reply) {
    Bytes body;
    encode(body, reply);
    return decode_statfs_reply(body).has_value();
  };

  struct statfs info {};

  SECTION("names: vfat says 1530, some say nothing") {
    info.f_namelen = GENERATE(1530, 0, -1, 256);
    CHECK(statfs_reply_of(info).name_max == 255);
  }
  SECTION("a shorter limit is told") {
    info.f_namelen = 143;
    CHECK(statfs_reply_of(info).name_max == 143);
  }
  SECTION("space without end") {
    info.f_blocks = info.f_bfree = info.f_bavail = ~std::uint64_t{0};
    info.f_frsize = GENERATE(1 << 30, 4096, 0);
    info.f_bsize = GENERATE(512, 0, -1);
    info.f_namelen = 255;
    CHECK(statfs_reply_of(info).blocks == (std::uint64_t{1} << 52) - 1);
  }
  CHECK(is_accepted(statfs_reply_of(info)));
}

TEST_CASE("inode numbers of different file systems differ") {
  CHECK(inode_number_of({0, 12}) == 12);
  CHECK(inode_number_of({1, 12}) == (std::uint64_t{1} << 48 | 12));
  CHECK(inode_number_of({32767, (std::uint64_t{1} << 48) - 1}) == ~std::uint64_t{0} >> 1);
  const std::uint64_t large = inode_number_of({0, std::uint64_t{1} << 48});
  CHECK(large >> 63 == 1);
  CHECK(large != inode_number_of({1, std::uint64_t{1} << 48}));
  CHECK(inode_number_of({0, 0}) != 0);
}

TEST_CASE("a file system inside the export gets a number that it keeps") {
  if (::geteuid() != 0 || ::unshare(CLONE_NEWNS) != 0 ||
      ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    return;  // needs privileges
  ExportFixture f;
  const std::string inner = f.root + "/vm/deep";
  const std::string other = f.root + "/vm/other";
  fs::create_directory(other);
  REQUIRE(::mount("tmpfs", inner.c_str(), "tmpfs", 0, nullptr) == 0);
  REQUIRE(::mount("tmpfs", other.c_str(), "tmpfs", 0, nullptr) == 0);
  write_file(inner + "/file", "inner");
  const std::string state = f.dir / "state/filesystems";
  f.store = f.open_store(state);

  const Attributes outside = f.store->getattr({"vm/disk", {}}).value();
  const Attributes first = f.store->getattr({"vm/deep/file", {}}).value();
  const Attributes second = f.store->getattr({"vm/other", {}}).value();
  CHECK(outside.version.id.file_system == 0);
  CHECK(first.version.id.file_system == 1);
  CHECK(second.version.id.file_system == 2);
  CHECK(first.inode_number != first.version.id.inode);
  CHECK(f.list("vm").at("deep").version.id.file_system == 1);
  CHECK(f.store->open({"vm/deep/file", first.version.id}).has_value());

  // Another session that comes across them in the other order agrees.
  f.store = f.open_store(state);
  CHECK(f.store->getattr({"vm/other", {}})->version.id == second.version.id);
  CHECK(f.store->getattr({"vm/deep/file", {}})->version.id == first.version.id);
  // Two sessions that start before anything is known don't give one number twice.
  const auto one = f.open_store(f.dir / "state/two");
  const auto two = f.open_store(f.dir / "state/two");
  CHECK(one->getattr({"vm/other", {}})->version.id.file_system == 1);
  CHECK(two->getattr({"vm/deep", {}})->version.id.file_system == 2);
  CHECK(two->getattr({"vm/other", {}})->version.id.file_system == 1);
  // Without a place to keep them the numbers are those of first sight.
  f.store = f.open_store("");
  CHECK(f.store->getattr({"vm/other", {}})->version.id.file_system == 1);
  // So are they when the place can't be written to.
  f.store = f.open_store(f.dir / "secret/below-a-file");
  CHECK(f.store->getattr({"vm/other", {}})->version.id.file_system == 1);
  CHECK(f.store->getattr({"vm/deep", {}})->version.id.file_system == 2);
  // A damaged file is replaced, not believed.
  write_file(state, "{\"file_systems\": [1, 2");
  f.store = f.open_store(state);
  CHECK(f.store->getattr({"vm/other", {}})->version.id.file_system == 1);
  REQUIRE(::umount2(inner.c_str(), MNT_DETACH) == 0);
  REQUIRE(::umount2(other.c_str(), MNT_DETACH) == 0);
}

}  // namespace slipway
