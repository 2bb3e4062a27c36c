// What a DirectoryStore changes, and what it refuses to.

#include "store_fixture.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace slipway {
namespace {

struct ChangeFixture : ExportFixture {
  Result<ImageStore::Made> make(MakeKind kind, const std::string& directory,
                                const std::string& name, std::uint32_t mode = 0644,
                                bool exclusive = true) const {
    MakeRequest request;
    request.kind = kind;
    request.directory = {directory, {}};
    request.name = name;
    request.mode = mode;
    request.exclusive = exclusive;
    if (kind == MakeKind::kSymlink)
      request.target = "disk";
    return store->make(request);
  }

  ErrorCode make_error(const std::string& directory, const std::string& name,
                       MakeKind kind = MakeKind::kFile) const {
    const auto made = make(kind, directory, name);
    REQUIRE(!made);
    return made.error().code;
  }

  Status remove(const std::string& directory, const std::string& name, bool is_directory = false) {
    return store->remove({1, {directory, {}}, name, is_directory});
  }

  Result<Attributes> link(const std::string& file, const std::string& directory,
                          const std::string& name) const {
    return store->link({1, {file, {}}, {directory, {}}, name});
  }

  Result<Attributes> rename(const std::string& from, const std::string& to,
                            std::uint32_t flags = 0) const {
    return store->rename({1, {"vm", {}}, from, {"vm", {}}, to, flags});
  }

  std::string content(const std::string& path) const {
    return read_small_file(root + "/" + path, 1 << 20).value();
  }

  FileId id(const std::string& path) const { return store->getattr({path, {}}).value().version.id; }
};

void write_to(ImageFile& file, std::string_view text) {
  REQUIRE(pwrite_full(file.writable_fd().value(), as_bytes(text), 0).has_value());
}

// As QEMU tests for others when it opens an image for writing (block/file-posix.c): whether anybody who does
// not share that permission is there.
bool may_qemu_write(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  REQUIRE(bool{fd});
  for (const off_t at : {201, 203}) {
    struct flock lock {};

    lock.l_type = F_WRLCK;
    lock.l_whence = SEEK_SET;
    lock.l_start = at;
    lock.l_len = 1;
    REQUIRE(::fcntl(fd.get(), F_OFD_GETLK, &lock) == 0);
    if (lock.l_type != F_UNLCK)
      return false;
  }
  return true;
}

}  // namespace

TEST_CASE("a QEMU of the server is kept out of an image as long as a client has it open for writing") {
  const ChangeFixture f;
  REQUIRE(f.make(MakeKind::kFile, "vm", "image").has_value());
  const std::string path = f.root + "/vm/image";
  CHECK(may_qemu_write(path));
  {
    const auto read = f.store->open({"vm/image", {}});
    REQUIRE(read.has_value());
    CHECK(may_qemu_write(path));
    auto one = f.store->open_for_writing({"vm/image", {}}, Published::kStays);
    const auto other = f.store->open_for_writing({"vm/image", {}}, Published::kStays);
    REQUIRE(one.has_value());
    REQUIRE(other.has_value());  // a client's own sessions do not keep each other out
    CHECK_FALSE(may_qemu_write(path));
    one->reset();
    CHECK_FALSE(may_qemu_write(path));
  }
  CHECK(may_qemu_write(path));
}

TEST_CASE("files, directories and links are made with exactly the mode that is asked for") {
  ChangeFixture f;
  const mode_t before = ::umask(0077);
  const auto file = f.make(MakeKind::kFile, "vm", "new", 0666).value();
  const auto directory = f.make(MakeKind::kDirectory, "vm", "dir", 0777).value();
  const auto link = f.make(MakeKind::kSymlink, "vm", "link").value();
  CHECK(::umask(before) == 0077);
  CHECK(file.reply.made);
  CHECK(file.reply.attributes.type == FileType::kRegular);
  CHECK(file.reply.attributes.mode == 0666);
  CHECK(file.reply.attributes == f.store->getattr({"vm/new", {}}).value());
  write_to(*file.file, "written");
  CHECK(f.content("vm/new") == "written");
  CHECK(directory.reply.attributes.mode == 0777);
  CHECK(f.store->getattr({"vm/dir", {}})->type == FileType::kDirectory);
  CHECK(link.reply.attributes.type == FileType::kSymlink);
  CHECK(f.store->readlink({"vm/link", {}}).value() == "disk");
  CHECK(f.make(MakeKind::kFile, "vm", "secret", 0400).value().reply.attributes.mode == 0400);
}

TEST_CASE("what is there already is opened, or refused when that was asked for") {
  ChangeFixture f;
  CHECK(f.make_error("vm", "disk") == ErrorCode::kExists);
  CHECK(f.make_error("vm", "deep", MakeKind::kDirectory) == ErrorCode::kExists);
  CHECK(f.make_error("vm", "disk", MakeKind::kSymlink) == ErrorCode::kExists);
  const auto there = f.make(MakeKind::kFile, "vm", "disk", 0600, false).value();
  CHECK(!there.reply.made);
  CHECK(there.reply.attributes.mode == 0644);
  CHECK(f.content("vm/disk") == "disk");
  write_to(*there.file, "DISK");
  CHECK(f.content("vm/disk") == "DISK");
  CHECK(f.make(MakeKind::kFile, "vm", "deep", 0600, false).error().code == ErrorCode::kIsDirectory);
  fs::create_symlink("../../secret", f.root + "/vm/out");
  CHECK(f.make(MakeKind::kFile, "vm", "out", 0600, false).error().code == ErrorCode::kLoop);
  CHECK(f.make_error("vm", "out") == ErrorCode::kExists);
  CHECK(read_small_file(f.dir / "secret", 100).value() == "secret");
}

TEST_CASE("a file is opened for writing without following anything") {
  ChangeFixture f;
  const auto file = f.store->open_for_writing({"vm/disk", f.id("vm/disk")}, Published::kStays).value();
  write_to(*file, "D");
  CHECK(f.content("vm/disk") == "Disk");
  Bytes data;
  read(*file, {0, kUnitSize}, data);
  CHECK(as_text(data) == "Disk");
  CHECK(f.store->open({"vm/disk", {}}).value()->writable_fd().error().code == ErrorCode::kReadOnly);
  fs::create_symlink("disk", f.root + "/vm/link");
  CHECK(f.store->open_for_writing({"vm/link", {}}, Published::kStays).error().code == ErrorCode::kLoop);
  CHECK(f.store->open_for_writing({"vm", {}}, Published::kStays).error().code == ErrorCode::kIsDirectory);
  CHECK(f.store->open_for_writing({"vm/none", {}}, Published::kStays).error().code == ErrorCode::kNotFound);
  CHECK(f.store->open_for_writing({".slipway/id", {}}, Published::kStays).error().code == ErrorCode::kNotFound);
  CHECK(f.store->open_for_writing({"vm/disk", {0, 1}}, Published::kStays).error().code == ErrorCode::kStale);
}

TEST_CASE("changes below a symbolic link are refused and reach nothing") {
  ChangeFixture f;
  fs::create_directory(f.dir / "outside");
  write_file(f.dir / "outside/victim", "v");
  fs::create_directory_symlink("../outside", f.root + "/out");
  fs::create_directory_symlink("vm", f.root + "/in");
  for (const std::string directory : {"out", "in"}) {
    CHECK(f.make_error(directory, "x") == ErrorCode::kNotDirectory);
    CHECK(f.make_error(directory + "/y", "x") == ErrorCode::kStale);
    CHECK(f.remove(directory, "victim").error().code == ErrorCode::kNotDirectory);
    CHECK(f.link("vm/disk", directory, "x").error().code == ErrorCode::kNotDirectory);
    CHECK(f.store->rename({1, {"vm", {}}, "disk", {directory, {}}, "x", 0}).error().code ==
          ErrorCode::kNotDirectory);
    CHECK(f.store->rename({1, {directory, {}}, "victim", {"vm", {}}, "x", 0}).error().code ==
          ErrorCode::kNotDirectory);
  }
  CHECK(f.store->open_for_writing({"out/victim", {}}, Published::kStays).error().code == ErrorCode::kStale);
  CHECK(fs::exists(f.dir / "outside/victim"));
  CHECK(!fs::exists(f.dir / "outside/x"));
  CHECK(!fs::exists(f.root + "/vm/x"));
  for (const std::string directory : {"..", "../outside", "/etc", "vm/.."})
    CHECK(f.make_error(directory, "x") == ErrorCode::kInvalid);
  for (const std::string name : {"", ".", "..", "a/b", "../x"})
    CHECK(f.make_error("vm", name) == ErrorCode::kInvalid);
}

TEST_CASE(".slipway is never made, moved, replaced, linked or removed, at any level") {
  ChangeFixture f;
  CHECK(f.make_error("vm/deep", ".slipway") == ErrorCode::kAccessDenied);
  CHECK(f.make_error("vm/deep", ".slipway", MakeKind::kDirectory) == ErrorCode::kAccessDenied);
  CHECK(f.make_error("vm/deep", ".slipway", MakeKind::kSymlink) == ErrorCode::kAccessDenied);
  CHECK(f.make_error(".slipway", "x") == ErrorCode::kNotFound);
  CHECK(f.make_error("vm/.slipway", "x") == ErrorCode::kNotFound);
  CHECK(f.remove("", ".slipway", true).error().code == ErrorCode::kNotFound);
  CHECK(f.remove(".slipway", "id").error().code == ErrorCode::kNotFound);
  CHECK(f.link("vm/disk", "vm/deep", ".slipway").error().code == ErrorCode::kAccessDenied);
  CHECK(f.link(".slipway/id", "vm", "id").error().code == ErrorCode::kNotFound);
  CHECK(f.rename(".slipway", "seen").error().code == ErrorCode::kNotFound);
  CHECK(f.rename("disk", ".slipway").error().code == ErrorCode::kAccessDenied);
  CHECK(f.rename("disk", ".slipway", kRenameExchange).error().code == ErrorCode::kAccessDenied);
  SetattrRequest setattr;
  setattr.node = {".slipway", {}};
  setattr.mask = kSetMode;
  CHECK(f.store->setattr(setattr, nullptr).error().code == ErrorCode::kNotFound);
  CHECK(f.store->sync({{".slipway", {}}}).error().code == ErrorCode::kNotFound);
  CHECK(f.content(".slipway/id") == "x");
  CHECK(fs::is_directory(f.root + "/vm/.slipway"));
  CHECK(!fs::exists(f.root + "/vm/deep/.slipway"));
}

TEST_CASE(
    "a directory that is another one than the client believes is stale, and nothing happens") {
  ChangeFixture f;
  const FileId other = f.id("vm/disk");
  MakeRequest make;
  make.directory = {"vm", other};
  make.name = "x";
  CHECK(f.store->make(make).error().code == ErrorCode::kStale);
  CHECK(f.store->remove({1, {"vm", other}, "disk", false}).error().code == ErrorCode::kStale);
  CHECK(f.store->link({1, {"vm/disk", f.id("vm")}, {"vm", {}}, "x"}).error().code ==
        ErrorCode::kStale);
  CHECK(f.store->link({1, {"vm/disk", {}}, {"vm", other}, "x"}).error().code == ErrorCode::kStale);
  CHECK(f.store->rename({1, {"vm", other}, "disk", {"vm", {}}, "x", 0}).error().code ==
        ErrorCode::kStale);
  CHECK(f.store->rename({1, {"vm", {}}, "disk", {"vm", other}, "x", 0}).error().code ==
        ErrorCode::kStale);
  CHECK(f.store->sync({{"vm", other}}).error().code == ErrorCode::kStale);
  CHECK(f.list("vm").size() == 2);
}

TEST_CASE("a name has 255 bytes at most") {
  ChangeFixture f;
  const std::string longest(255, 'n');
  CHECK(f.make(MakeKind::kFile, "vm", longest).has_value());
  CHECK(f.list("vm").contains(longest));
  CHECK(f.rename(longest, std::string(254, 'm') + "x").has_value());
  CHECK(f.make_error("vm", longest + "n") == ErrorCode::kNameTooLong);
  CHECK(f.rename("disk", longest + "n").error().code == ErrorCode::kNameTooLong);
}

TEST_CASE("names are removed as unlink and rmdir do") {
  ChangeFixture f;
  write_file(f.root + "/vm/deep/file", "x");
  CHECK(f.remove("vm", "none").error().code == ErrorCode::kNotFound);
  CHECK(f.remove("vm", "deep").error().code == ErrorCode::kIsDirectory);
  CHECK(f.remove("vm", "disk", true).error().code == ErrorCode::kNotDirectory);
  CHECK(f.remove("vm", "deep", true).error().code == ErrorCode::kNotEmpty);
  const auto open = f.store->open({"vm/deep/file", {}}).value();
  CHECK(f.remove("vm/deep", "file").has_value());
  CHECK(f.remove("vm", "deep", true).has_value());
  CHECK(!fs::exists(f.root + "/vm/deep"));
  Bytes data;
  read(*open, {0, kUnitSize}, data);
  CHECK(as_text(data) == "x");
}

TEST_CASE("a link is another name of the same file, or of the same symbolic link") {
  ChangeFixture f;
  const Attributes linked = f.link("vm/disk", "vm/deep", "disk2").value();
  CHECK(linked.nlink == 2);
  CHECK(linked.version.id == f.id("vm/disk"));
  CHECK(f.id("vm/deep/disk2") == f.id("vm/disk"));
  CHECK(f.link("vm/disk", "vm/deep", "disk2").error().code == ErrorCode::kExists);
  CHECK(f.link("vm/deep", "vm", "deep2").error().code == ErrorCode::kNotPermitted);
  CHECK(f.link("vm/none", "vm", "x").error().code == ErrorCode::kNotFound);
  fs::create_symlink("../../secret", f.root + "/vm/out");
  CHECK(f.link("vm/out", "vm", "out2").value().type == FileType::kSymlink);
  CHECK(f.store->readlink({"vm/out2", {}}).value() == "../../secret");
}

TEST_CASE("a rename replaces, refuses to replace, or exchanges") {
  ChangeFixture f;
  write_file(f.root + "/vm/new", "new");
  const FileId disk = f.id("vm/disk");
  const FileId fresh = f.id("vm/new");
  SECTION("replaces") {
    CHECK(f.rename("new", "disk").value().version.id == fresh);
    CHECK(f.content("vm/disk") == "new");
    CHECK(!fs::exists(f.root + "/vm/new"));
  }
  SECTION("not what is there") {
    CHECK(f.rename("new", "disk", kRenameNoReplace).error().code == ErrorCode::kExists);
    CHECK(f.rename("new", "newer", kRenameNoReplace).has_value());
  }
  SECTION("exchanges") {
    CHECK(f.rename("new", "disk", kRenameExchange).value().version.id == fresh);
    CHECK(f.id("vm/new") == disk);
    CHECK(f.rename("new", "none", kRenameExchange).error().code == ErrorCode::kNotFound);
  }
  SECTION("fails as the system says") {
    write_file(f.root + "/vm/deep/file", "x");
    fs::create_directory(f.root + "/vm/empty");
    CHECK(f.rename("none", "x").error().code == ErrorCode::kNotFound);
    CHECK(f.rename("disk", "deep").error().code == ErrorCode::kIsDirectory);
    CHECK(f.rename("deep", "disk").error().code == ErrorCode::kNotDirectory);
    CHECK(f.rename("empty", "deep").error().code == ErrorCode::kNotEmpty);
    CHECK(f.store->rename({1, {"vm", {}}, "deep", {"vm/deep", {}}, "x", 0}).error().code ==
          ErrorCode::kInvalid);
  }
}

TEST_CASE("attributes are set by name, by handle, and of nothing that a link leads to") {
  ChangeFixture f;
  SetattrRequest request;
  request.node = {"vm/disk", {}};
  request.mask = kSetMode | kSetMtime;
  request.mode = 0600;
  request.mtime = {-5, 999'999'999};
  const Attributes before = f.store->getattr({"vm/disk", {}}).value();
  const ChangeReply by_name = f.store->setattr(request, nullptr).value();
  CHECK(by_name.before == before.version);
  CHECK(by_name.after.mode == 0600);
  CHECK(by_name.after.version.mtime == Timestamp{-5, 999'999'999});
  CHECK(by_name.after.atime == before.atime);

  const auto file = f.store->open({"vm/disk", {}}).value();
  REQUIRE(f.remove("vm", "disk").has_value());
  request.mask = kSetMode | kSetAtime;
  request.mode = 0640;
  request.atime = {7, 8};
  const ChangeReply by_handle = f.store->setattr(request, file.get()).value();
  CHECK(by_handle.before.mtime == request.mtime);
  CHECK(by_handle.after.mode == 0640);
  CHECK(by_handle.after.atime == Timestamp{7, 8});
  CHECK(by_handle.after.nlink == 0);
  CHECK(f.store->setattr(request, nullptr).error().code == ErrorCode::kNotFound);

  fs::create_symlink("../../secret", f.root + "/vm/out");
  const auto secret = fs::status(f.dir / "secret").permissions();
  request.node = {"vm/out", {}};
  request.mask = kSetMode;
  CHECK(!f.store->setattr(request, nullptr));
  CHECK(fs::status(f.dir / "secret").permissions() == secret);
  request.mask = kSetMtime;
  request.mtime = {1000, 0};
  CHECK(f.store->setattr(request, nullptr).value().after.version.mtime == request.mtime);
  CHECK(f.store->getattr({"vm/out", {}}).value().version.mtime == request.mtime);
  request.mask = kSetUid;
  request.uid = ~std::uint32_t{0};
  CHECK(f.store->setattr(request, nullptr).error().code == ErrorCode::kInvalid);
}

TEST_CASE("a copy stays on the server and says how far it came") {
  ChangeFixture f;
  write_file(f.root + "/vm/from", std::string(100'000, 'f'));
  const auto from = f.store->open({"vm/from", {}}).value();
  const auto to = f.store->open_for_writing({"vm/disk", {}}, Published::kStays).value();
  const Attributes before = to->attributes().value();
  const ChangeReply copied = f.store->copy({1, 1, 10, 2, 4, 50'000}, *from, *to).value();
  CHECK(copied.bytes == 50'000);
  CHECK(copied.before == before.version);
  CHECK(copied.after.version.size == 50'004);
  CHECK(f.content("vm/disk") == "disk" + std::string(50'000, 'f'));
  CHECK(f.store->copy({1, 1, 99'990, 2, 0, 50'000}, *from, *to).value().bytes == 10);
  CHECK(f.store->copy({1, 1, 200'000, 2, 0, 50'000}, *from, *to).value().bytes == 0);
  CHECK(f.store->copy({1, 2, 0, 1, 0, 5}, *to, *from).error().code == ErrorCode::kReadOnly);
  CHECK(f.store->copy({1, 2, 0, 2, 10, 100}, *to, *to).error().code == ErrorCode::kInvalid);
  CHECK(f.store->copy({1, 2, 0, 2, 60'000, 4}, *to, *to).value().bytes == 4);
}

TEST_CASE("files and directories are synced, others are not") {
  ChangeFixture f;
  CHECK(f.store->sync({{"vm/disk", {}}}).has_value());
  CHECK(f.store->sync({{"vm", {}}}).has_value());
  CHECK(f.store->sync({{"", {}}}).has_value());
  CHECK(f.store->sync({{"vm/none", {}}}).error().code == ErrorCode::kNotFound);
  fs::create_symlink("disk", f.root + "/vm/link");
  CHECK(f.store->sync({{"vm/link", {}}}).error().code == ErrorCode::kNotSupported);
}

}  // namespace slipway
