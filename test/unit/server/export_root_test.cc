#include "server/export_root.h"

#include "base/log.h"
#include "secure/secret.h"
#include "server/init_export.h"
#include "support/catch.h"
#include "support/temp_dir.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sys/stat.h>
#include <unistd.h>

namespace slipway {
namespace {

namespace fs = std::filesystem;

struct RootFixture {
  RootFixture() {
    log_to(LogSink::kNone, "");
    init_secure_process();
    fs::create_directories(dir / "images/vm");
    std::ofstream(dir / "images/file") << "x";
    path = fs::canonical(dir / "images");
    ::setenv("HOME", dir.path().c_str(), 1);
    ::setenv("XDG_STATE_HOME", (dir / "state").c_str(), 1);
  }

  TempDir dir;
  std::string path;
};

void check_refused(const std::string& typed, const std::string& restrict_to, ErrorCode code,
                   const std::string& message) {
  const Result<ExportRoot> root = open_export(typed, restrict_to);
  REQUIRE(!root);
  CHECK(root.error().code == code);
  CHECK(root.error().message == message);
}

}  // namespace

TEST_CASE("an export is found by an absolute path or from the user's home") {
  const RootFixture f;
  for (const std::string& typed :
       {f.path, f.path + "/", f.path + "/vm/..", std::string("images"), std::string("~/images")}) {
    const Result<ExportRoot> root = open_export(typed, "");
    REQUIRE(root.has_value());
    CHECK(root->path == f.path);
    CHECK(!root->initialised);
  }
  CHECK(open_export("", "")->path == fs::canonical(f.dir.path()));
  CHECK(open_export("~", "")->path == fs::canonical(f.dir.path()));
  CHECK(open_export("/", "")->path == "/");
}

TEST_CASE("an export that can't be served is refused with one clear line") {
  const RootFixture f;
  fs::create_directories(f.path + "/.slipway/inner");
  fs::create_directory_symlink(f.path + "/.slipway", f.path + "/link");
  fs::create_symlink("loop", f.path + "/loop");
  check_refused(f.path + "/none", "", ErrorCode::kNotFound,
                "export '" + f.path + "/none' does not exist");
  check_refused("none", "", ErrorCode::kNotFound, "export 'none' does not exist");
  check_refused(f.path + "/file", "", ErrorCode::kNotDirectory,
                "export '" + f.path + "/file' is not a directory");
  check_refused(f.path + "/file/x", "", ErrorCode::kNotDirectory,
                "export '" + f.path + "/file/x' is not a directory");
  for (const std::string name : {"/.slipway", "/.slipway/inner", "/link"})
    check_refused(
        f.path + name, "", ErrorCode::kNotPermitted,
        "export '" + f.path + name + "' is inside a .slipway directory, which is never served");
  check_refused("two\nlines", "", ErrorCode::kNotFound, "export 'two\\x0alines' does not exist");
  check_refused(std::string("a\0b", 3), "", ErrorCode::kInvalid, "export 'a\\x00b' is not a path");
  check_refused(f.path + "/loop", "", ErrorCode::kLoop,
                "export '" + f.path + "/loop': Too many levels of symbolic links");
  check_refused(std::string(5000, 'a'), "", ErrorCode::kInvalid,
                "export '" + std::string(256, 'a') + "...' is not a path");
}

TEST_CASE("an export that the user may not enter is refused") {
  const RootFixture f;
  if (::geteuid() != 0)
    return;  // needs a second user
  REQUIRE(::chmod(f.dir.path().c_str(), 0755) == 0);
  REQUIRE(::chmod((f.path + "/vm").c_str(), 0700) == 0);
  fs::create_directory(f.path + "/vm/below");
  REQUIRE(::seteuid(65534) == 0);
  const Result<ExportRoot> closed = open_export(f.path + "/vm", "");
  const Result<ExportRoot> below = open_export(f.path + "/vm/below", "");
  const Result<ExportRoot> open = open_export(f.path, "");
  REQUIRE(::seteuid(0) == 0);
  REQUIRE(!closed);
  CHECK(closed.error().code == ErrorCode::kAccessDenied);
  CHECK(closed.error().message == "export '" + f.path + "/vm': permission denied");
  REQUIRE(!below);
  CHECK(below.error().code == ErrorCode::kAccessDenied);
  CHECK(open.has_value());
}

TEST_CASE("a restricted key reaches its directory and what is below, and learns of nothing else") {
  const RootFixture f;
  fs::create_directories(f.dir / "images2");
  std::ofstream(f.dir / "images2/file") << "x";
  fs::create_directory_symlink(f.dir / "images2", f.path + "/out");
  fs::create_directory_symlink(f.path + "/vm", f.dir / "in");
  CHECK(open_export(f.path, f.path).has_value());
  CHECK(open_export(f.path + "/vm", f.path + "/").has_value());
  CHECK(open_export(f.dir / "in", f.path)->path == f.path + "/vm");
  for (const std::string& typed :
       {f.dir.path(), f.dir / "images2", f.dir / "none", f.path + "/../images2", f.path + "/out",
        // Files that exist and such that don't, reached through the permitted directory.
        f.path + "/../none", f.path + "/../images2/file", f.path + "/../images2/file/x",
        f.path + "/out/none", f.path + "/out/file", f.path + "/out/file/", std::string("none"),
        std::string("/etc/passwd"), std::string("/")})
    check_refused(typed, f.path, ErrorCode::kNotPermitted,
                  "export '" + typed + "' is outside of what this key may mount");
  check_refused(f.path + "/none", f.path, ErrorCode::kNotFound,
                "export '" + f.path + "/none' does not exist");
  check_refused(f.path, f.dir / "gone", ErrorCode::kNotPermitted,
                "the server's --restrict-to directory does not exist");
}

TEST_CASE("journals lie in the export when it is initialised and the place is this user's") {
  const RootFixture f;
  const std::string own = f.dir / "state/slipwayd/journal-";
  const ExportRoot plain = open_export(f.path, "").value();
  CHECK(plain.journal_directory == own + to_hex(plain.id));
  REQUIRE(init_export(f.path).has_value());
  const std::string box = f.path + "/.slipway/journal";

  struct stat info {};

  REQUIRE(::stat(box.c_str(), &info) == 0);
  CHECK((info.st_mode & 07777) == 01777);
  const ExportRoot root = open_export(f.path, "").value();
  const std::string place = box + "/" + std::to_string(::geteuid());
  CHECK(root.journal_directory == place);
  CHECK(!fs::exists(place));  // made by the first who writes
  const ExportRoot below = open_export(f.path + "/vm", "").value();
  CHECK(below.journal_directory == place + "-" + to_hex(below.id));
  SECTION("a link of that name") {
    fs::create_directory(f.dir / "elsewhere");
    fs::create_directory_symlink(f.dir / "elsewhere", place);
    CHECK(open_export(f.path, "")->journal_directory == own + to_hex(root.id));
  }
  SECTION("a directory that others may write to") {
    fs::create_directory(place);
    REQUIRE(::chmod(place.c_str(), 0770) == 0);
    CHECK(open_export(f.path, "")->journal_directory == own + to_hex(root.id));
  }
  SECTION("another user's directory") {
    if (::geteuid() != 0)
      return;  // needs privileges
    fs::create_directory(place);
    REQUIRE(::chmod(place.c_str(), 0700) == 0);
    CHECK(open_export(f.path, "")->journal_directory == place);
    REQUIRE(::chown(place.c_str(), 65534, 65534) == 0);
    CHECK(open_export(f.path, "")->journal_directory == own + to_hex(root.id));
  }
  SECTION("an export that an older version initialised") {
    fs::remove(box);
    CHECK(open_export(f.path, "")->journal_directory == own + to_hex(root.id));
    REQUIRE(init_export(f.path).has_value());
    CHECK(open_export(f.path, "")->journal_directory == place);
  }
}

TEST_CASE("init gives an export an identity once and for all") {
  const RootFixture f;
  const InitialisedExport made = init_export(f.path).value();
  CHECK(made.is_new);
  const InitialisedExport again = init_export(f.path + "/").value();
  CHECK(!again.is_new);
  CHECK(again.id == made.id);

  struct stat info {};

  REQUIRE(::stat((f.path + "/.slipway").c_str(), &info) == 0);
  CHECK((info.st_mode & 07777) == 0755);

  const ExportRoot root = open_export(f.path, "").value();
  CHECK(root.initialised);
  CHECK(root.id == made.id);
  CHECK(root.state_file == f.path + "/.slipway/filesystems");
  const ExportRoot below = open_export(f.path + "/vm", "").value();
  CHECK(below.initialised);
  CHECK(below.id == hash16({made.id, as_bytes("vm")}));
  CHECK(below.state_file == f.path + "/.slipway/filesystems-" + to_hex(below.id));
  // Above what a restricted key reaches, the id does not count.
  CHECK(!open_export(f.path + "/vm", f.path + "/vm")->initialised);
}

TEST_CASE("init refuses what can't be an export of its own") {
  const RootFixture f;
  CHECK(init_export(f.dir / "none").error().code == ErrorCode::kNotFound);
  CHECK(init_export(f.path + "/file").error().code == ErrorCode::kNotDirectory);
  REQUIRE(init_export(f.path).has_value());
  const auto nested = init_export(f.path + "/vm");
  REQUIRE(!nested);
  CHECK(nested.error().code == ErrorCode::kExists);
  CHECK(nested.error().message == "'" + f.path + "/vm' lies inside the export '" + f.path +
                                      "', and exports do not nest; clients may mount it as it is");
  CHECK(init_export(f.path + "/.slipway").error().code == ErrorCode::kInvalid);
  fs::create_directories(f.dir / "other");
  std::ofstream(f.dir / "other/.slipway") << "x";
  CHECK(init_export(f.dir / "other").error().code == ErrorCode::kNotDirectory);
}

TEST_CASE("an identity that others could have written is not believed") {
  const RootFixture f;
  const InitialisedExport made = init_export(f.path).value();
  SECTION("writable by others") {
    REQUIRE(::chmod((f.path + "/.slipway/id").c_str(), 0666) == 0);
  }
  SECTION("a link") {
    fs::rename(f.path + "/.slipway", f.dir / "moved");
    fs::create_directory_symlink(f.dir / "moved", f.path + "/.slipway");
  }
  SECTION("damaged") {
    std::ofstream(f.path + "/.slipway/id") << "nothing";
  }
  SECTION("of another user") {
    if (::geteuid() != 0)
      return;
    REQUIRE(::chown((f.path + "/.slipway/id").c_str(), 65534, 65534) == 0);
  }
  const ExportRoot root = open_export(f.path, "").value();
  CHECK(!root.initialised);
  CHECK(root.id != made.id);
  CHECK(root.id == hash16({as_bytes("slipway-derived"), machine_id(), as_bytes(f.path)}));
  CHECK(root.state_file == f.dir / "state/slipwayd/filesystems-" + to_hex(root.id));
}

}  // namespace slipway
