#include "server/profile_box.h"

#include "base/log.h"
#include "manifest/profile.h"
#include "support/catch.h"
#include "support/temp_dir.h"
#include "wire/manifest_messages.h"

#include <fcntl.h>
#include <filesystem>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

namespace slipway {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kSize = 1000 * kUnitSize;

VersionRecord image_of(std::uint64_t inode) {
  VersionRecord image;
  image.id = {0, inode};
  image.birth = {1'700'000'000, 5};
  image.size = kSize;
  return image;
}

ProfileBox::MountId mount_of(unsigned number) {
  return {static_cast<std::byte>(number), static_cast<std::byte>(number >> 8)};
}

Bytes profile_of(std::vector<UnitRun> runs) {
  return encode_profile({kSize, 1, std::move(runs)});
}

struct BoxFixture {
  BoxFixture() { log_to(LogSink::kNone, ""); }

  Status put(unsigned mount, std::vector<UnitRun> runs, std::uint64_t inode = 9,
             const std::string& role = "boot") {
    return box.put(image_of(inode), role, mount_of(mount), profile_of(std::move(runs)));
  }

  Profile get(std::uint64_t inode = 9, const std::string& role = "boot") const {
    const Bytes profile = box.get(image_of(inode), role).value();
    return profile.empty() ? Profile{} : decode_profile(profile).value();
  }

  std::size_t count(const std::string& infix = "") const {
    std::size_t files = 0;
    for (const auto& entry : fs::directory_iterator(path))
      files += entry.path().filename().string().find(infix) == std::string::npos ? 0U : 1U;
    return files;
  }

  std::string name_of(unsigned uid, const std::string& rest = "-0-9-boot-") const {
    return path + "/" + std::to_string(uid) + rest + std::string(32, 'a');
  }

  /// A file of the box with this profile, under a name of the test's choice.
  void plant(const std::string& to, std::vector<UnitRun> runs) {
    REQUIRE(put(999, std::move(runs)).has_value());
    const std::string made =
        path + "/" + std::to_string(::geteuid()) + "-0-9-boot-e703" + std::string(28, '0');
    fs::rename(made, to);
  }

  TempDir dir;
  std::string path = dir / "state/profiles";
  ProfileBox box{path};
};

}  // namespace

TEST_CASE("a profile is kept for its image and role") {
  BoxFixture f;
  CHECK(f.get() == Profile{});
  REQUIRE(f.put(1, {{5, 3}, {1, 1}}).has_value());
  CHECK(f.get() == Profile{kSize, 1, {{5, 3}, {1, 1}}});
  CHECK(f.get(10) == Profile{});
  CHECK(f.get(9, "resume") == Profile{});
  CHECK(f.get(9, "boo") == Profile{});
  CHECK(f.count() == 1);

  struct stat info {};

  REQUIRE(::stat(f.path.c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0700);
}

TEST_CASE("a mount's second profile replaces its first, several mounts are merged") {
  BoxFixture f;
  REQUIRE(f.put(1, {{5, 3}}).has_value());
  REQUIRE(f.put(1, {{7, 3}}).has_value());
  CHECK(f.count() == 1);
  CHECK(f.get() == Profile{kSize, 1, {{7, 3}}});
  REQUIRE(f.put(2, {{7, 1}, {20, 1}}).has_value());
  REQUIRE(f.put(3, {{20, 1}, {7, 1}}).has_value());
  const Profile merged = f.get();
  CHECK(merged.starts == 3);
  std::uint64_t units = 0;
  for (const UnitRun& run : merged.runs)
    units += run.count;
  CHECK(units == 2);  // 7 and 20: what most starts touched
}

TEST_CASE("roles that begin alike are told apart") {
  BoxFixture f;
  REQUIRE(f.put(1, {{1, 1}}, 9, "boot").has_value());
  REQUIRE(f.put(1, {{2, 1}}, 9, "boot-2").has_value());
  REQUIRE(f.put(1, {{3, 1}}, 90, "boot").has_value());
  CHECK(f.get(9, "boot").runs == std::vector<UnitRun>{{1, 1}});
  CHECK(f.get(9, "boot-2").runs == std::vector<UnitRun>{{2, 1}});
  CHECK(f.get(90, "boot").runs == std::vector<UnitRun>{{3, 1}});
  for (const std::string& role : std::vector<std::string>{"", "../x", "a/b", "A", "a b", ".",
                                                          std::string(kRoleMax + 1, 'a')}) {
    CHECK(f.put(1, {{1, 1}}, 9, role).error().code == ErrorCode::kInvalid);
    CHECK(f.get(9, role) == Profile{});
  }
  CHECK(f.put(1, {{1, 1}}, 9, std::string(kRoleMax, 'a')).has_value());
}

TEST_CASE("a profile is of one state of the image, and a profile") {
  BoxFixture f;
  REQUIRE(f.put(1, {{1, 1}}).has_value());
  VersionRecord other = image_of(9);
  other.birth.nanoseconds ^= 1;
  CHECK(f.box.get(other, "boot").value().empty());
  other = image_of(9);
  other.size += kUnitSize;
  CHECK(f.box.get(other, "boot").value().empty());
  CHECK(f.box.put(other, "boot", mount_of(2), profile_of({{1, 1}})).error().code ==
        ErrorCode::kStale);
  other = image_of(9);
  other.mtime = {99, 0};  // written to since: still the same image
  CHECK(!f.box.get(other, "boot").value().empty());
  CHECK(f.box.put(image_of(9), "boot", mount_of(2), Bytes(18)).error().code == ErrorCode::kInvalid);
  CHECK(f.box.put(image_of(9), "boot", mount_of(2), {}).error().code == ErrorCode::kInvalid);
  CHECK(f.count() == 1);
}

TEST_CASE("the newest profiles of an image count, and older ones go") {
  BoxFixture f;
  for (unsigned mount = 1; mount <= ProfileBox::kPerImageMax + 4; ++mount)
    REQUIRE(f.put(mount, {{mount, 1}, {500, 1}}).has_value());
  CHECK(f.count() == ProfileBox::kPerImageMax);
  CHECK(f.get().starts == ProfileBox::kStartsMax);
  CHECK(f.get().runs == std::vector<UnitRun>{{500, 1}});
}

TEST_CASE("a user keeps so many profiles in all") {
  BoxFixture f;
  for (unsigned i = 0; i < ProfileBox::kPerUserMax + 3; ++i)
    REQUIRE(f.put(1, {{1, 1}}, 100 + i).has_value());
  CHECK(f.count() == ProfileBox::kPerUserMax);
  CHECK(f.get(100 + ProfileBox::kPerUserMax + 2) != Profile{});
}

TEST_CASE("what is no profile of the user in its name is ignored") {
  BoxFixture f;
  const unsigned self = ::geteuid();
  REQUIRE(f.put(1, {{1, 1}}).has_value());
  const std::vector<UnitRun> expected = f.get().runs;
  SECTION("another's uid in the name") {
    f.plant(f.name_of(self + 1), {{2, 1}});
  }
  SECTION("the uid written otherwise") {
    f.plant(f.path + "/0" + std::to_string(self) + "-0-9-boot-" + std::string(32, 'a'), {{2, 1}});
  }
  SECTION("no uid") {
    f.plant(f.path + "/-0-9-boot-" + std::string(32, 'a'), {{2, 1}});
  }
  SECTION("a uid that is none") {
    f.plant(f.path + "/99999999999-0-9-boot-" + std::string(32, 'a'), {{2, 1}});
  }
  SECTION("a mount id of another length") {
    f.plant(f.name_of(self) + "a", {{2, 1}});
  }
  SECTION("a hidden name") {
    f.plant(f.path + "/." + std::to_string(self) + "-0-9-boot-" + std::string(32, 'a'), {{2, 1}});
  }
  SECTION("a symbolic link") {
    f.plant(f.dir / "elsewhere", {{2, 1}});
    fs::create_symlink(f.dir / "elsewhere", f.name_of(self));
  }
  SECTION("a fifo") {
    REQUIRE(::mkfifo(f.name_of(self).c_str(), 0644) == 0);
  }
  SECTION("a directory") {
    fs::create_directory(f.name_of(self));
  }
  SECTION("cut off") {
    f.plant(f.name_of(self), {{2, 1}});
    fs::resize_file(f.name_of(self), fs::file_size(f.name_of(self)) - 1);
  }
  SECTION("empty") {
    f.plant(f.name_of(self), {{2, 1}});
    fs::resize_file(f.name_of(self), 0);
  }
  SECTION("too long") {
    f.plant(f.name_of(self), {{2, 1}});
    fs::resize_file(f.name_of(self), 20 + kProfileMax + 1);
  }
  SECTION("huge") {
    f.plant(f.name_of(self), {{2, 1}});
    fs::resize_file(f.name_of(self), std::uint64_t{1} << 40);
  }
  CHECK(f.get().runs == expected);
}

TEST_CASE("others' profiles help who has none, and count less than one's own") {
  if (::geteuid() != 0)
    return;  // needs another user
  BoxFixture f;
  const auto plant_as = [&](uid_t uid, unsigned number, std::vector<UnitRun> runs) {
    const std::string name = f.path + "/" + std::to_string(uid) + "-0-9-boot-" +
                             std::to_string(10 + number) + std::string(30, 'b');
    f.plant(name, std::move(runs));
    REQUIRE(::chown(name.c_str(), uid, uid) == 0);
  };
  plant_as(65534, 0, {{3, 1}});
  CHECK(f.get().runs == std::vector<UnitRun>{{3, 1}});
  for (unsigned mount = 1; mount <= ProfileBox::kStartsMax; ++mount)
    REQUIRE(f.put(mount, {{1, 1}}).has_value());
  for (unsigned number = 1; number <= 20; ++number)
    plant_as(65534, number, {{2, 1}});
  CHECK(f.get().runs == std::vector<UnitRun>{{1, 1}});
  // And nobody's quota is spent on them.
  CHECK(f.count("65534-") == 21);
}

TEST_CASE("what goes wrong is said") {
  BoxFixture f;
  ProfileBox nowhere("");
  CHECK(nowhere.get(image_of(9), "boot").value().empty());
  CHECK(nowhere.put(image_of(9), "boot", mount_of(1), profile_of({{1, 1}})).error().code ==
        ErrorCode::kNotSupported);
  const std::string file = f.dir / "file";
  REQUIRE(replace_file(file, "x", 0644).has_value());
  ProfileBox below(file + "/box");
  CHECK(below.put(image_of(9), "boot", mount_of(1), profile_of({{1, 1}})).error().code ==
        ErrorCode::kNotDirectory);
  fs::create_directories(f.dir / "real");
  fs::create_directory_symlink(f.dir / "real", f.dir / "link");
  ProfileBox link(f.dir / "link");
  CHECK(!link.put(image_of(9), "boot", mount_of(1), profile_of({{1, 1}})).has_value());
  CHECK(fs::is_empty(f.dir / "real"));
}

TEST_CASE("a full disk is answered as such and leaves nothing behind") {
  if (::geteuid() != 0 || ::unshare(CLONE_NEWNS) != 0 ||
      ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0)
    return;  // needs privileges
  BoxFixture f;
  fs::create_directories(f.path);
  REQUIRE(::mount("tmpfs", f.path.c_str(), "tmpfs", 0, "size=16k") == 0);
  std::vector<UnitRun> runs;
  for (unsigned i = 0; i < 400; ++i)
    runs.push_back({2 * i, 1});
  unsigned mount = 0;
  Status last;
  while (last && mount < 20)
    last = f.put(++mount, runs);
  REQUIRE(!last);
  CHECK(last.error().code == ErrorCode::kNoSpace);
  CHECK(f.count() == mount - 1);
  REQUIRE(::umount2(f.path.c_str(), MNT_DETACH) == 0);
}

TEST_CASE("files that were never finished go after an hour") {
  BoxFixture f;
  REQUIRE(f.put(1, {{1, 1}}).has_value());
  const std::string fresh = f.path + "/." + std::to_string(::geteuid()) + "-0123456789abcdef";
  REQUIRE(replace_file(fresh, "x", 0644).has_value());
  REQUIRE(f.put(2, {{1, 1}}).has_value());
  CHECK(fs::exists(fresh));  // its writer may still be at it
}

}  // namespace slipway
