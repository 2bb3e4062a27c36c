// What clients must not reach.

#include "server/safe_open.h"
#include "store_fixture.h"

#include <atomic>
#include <cstdio>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>

namespace slipway {

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
    REQUIRE((*file)->read({{0, kUnitSize}, kUnitSize}, data).has_value());
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

}  // namespace slipway
