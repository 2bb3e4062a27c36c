#include "cache_child.h"
#include "cache_fixture.h"
#include "support/catch.h"

#include <filesystem>
#include <fstream>
#include <sys/stat.h>
#include <unistd.h>

namespace slipway {
namespace {

void write_file(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << content;
}

Error refusal(const CacheOptions& options) {
  auto cache = BlockCache::open(options);
  REQUIRE_FALSE(cache.has_value());
  return cache.error();
}

TEST_CASE("the directory is made, with its parents, and readable for its owner only") {
  const TempDir dir;
  const auto cache = open_cache(options_for(dir / "a/b/cache"));

  struct stat st {};

  REQUIRE(::stat((dir / "a/b/cache").c_str(), &st) == 0);
  CHECK((st.st_mode & 0777) == 0700);
}

TEST_CASE("a second process on the directory is refused with the pid of the first") {
  const TempDir dir;
  {
    CacheChild holder({"hold", dir.path()});
    REQUIRE(holder.read_line() == "held");
    const Error error = refusal(options_for(dir.path()));
    CHECK(error.code == ErrorCode::kBusy);
    CHECK(error.message.find(std::to_string(holder.pid())) != std::string::npos);
  }
  open_cache(options_for(dir.path()));  // the killed one's lock is gone with it
}

TEST_CASE("a cache of another format version is refused and left alone") {
  const TempDir dir;
  open_cache(options_for(dir.path()))->close();
  write_file(dir / "FORMAT", "slipway-cache 2\n");
  const Error error = refusal(options_for(dir.path()));
  CHECK(error.code == ErrorCode::kInvalid);
  CHECK(error.message.find("version 2") != std::string::npos);
  write_file(dir / "FORMAT", "slipway-cache 1\n");
  open_cache(options_for(dir.path()));
}

TEST_CASE("a directory with other files in it is not taken over") {
  const TempDir dir;
  write_file(dir / "thesis.tex", "x");
  CHECK(refusal(options_for(dir.path())).code == ErrorCode::kInvalid);
  CHECK(files_below(dir.path()).size() == 1);
}

TEST_CASE("a path that is a file is refused, and so is a relative one") {
  const TempDir dir;
  write_file(dir / "file", "x");
  CHECK(refusal(options_for(dir / "file")).code == ErrorCode::kInvalid);
  CHECK(refusal(options_for("cache")).code == ErrorCode::kInvalid);
}

TEST_CASE("a directory of another user is refused") {
  const TempDir dir;
  if (::geteuid() != 0)
    return;  // only root can make one
  REQUIRE(::chown(dir.path().c_str(), 12345, 12345) == 0);
  CHECK(refusal(options_for(dir.path())).code == ErrorCode::kNotPermitted);
}

TEST_CASE("tmpfs is refused unless it is allowed") {
  if (::access("/dev/shm", W_OK) != 0)
    return;
  CacheOptions options = options_for("/dev/shm/slipway-test-" + std::to_string(::getpid()));
  const Error error = refusal(options);
  CHECK(error.code == ErrorCode::kInvalid);
  CHECK(error.message.find("tmpfs") != std::string::npos);
  options.allow_unsafe_file_system = true;
  open_cache(options);
  std::filesystem::remove_all(options.directory);
}

TEST_CASE("a read-only file system is refused as such") {
  const TempDir dir;
  CacheChild child({"read-only", dir.path()});  // in a mount namespace of its own
  const std::string line = child.read_line();
  if (line != "no-namespace")
    CHECK(line == "refused read-only");
}

TEST_CASE("on a full file system the cache serves what it has, keeps no more, and recovers") {
  const TempDir dir;
  CacheChild child({"full", dir.path()});  // a small tmpfs in a mount namespace of its own
  const std::string line = child.read_line();
  if (line != "no-namespace")
    CHECK(line == "full: kept nothing wrong, refused when empty, recovered");
}

TEST_CASE("a new cache takes the identity that the mount already has, an old one keeps its own") {
  const TempDir dir;
  CacheOptions options = options_for(dir.path() + "/cache");
  options.new_client_id.emplace().fill(std::byte{7});
  CHECK(open_cache(options)->client_id() == *options.new_client_id);
  const auto first = *options.new_client_id;
  options.new_client_id->fill(std::byte{8});
  CHECK(open_cache(options)->client_id() == first);
}

TEST_CASE("the client's identity survives the loss of its file") {
  const TempDir dir;
  const auto id = open_cache(options_for(dir.path()))->client_id();
  write_file(dir / "client-id", "rubbish");
  CHECK(open_cache(options_for(dir.path()))->client_id() == id);
  std::filesystem::remove_all(dir / "index");
  CHECK(open_cache(options_for(dir.path()))->client_id() == id);
}

}  // namespace
}  // namespace slipway
