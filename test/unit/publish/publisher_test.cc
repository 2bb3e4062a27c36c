#include "publish/manifest_check.h"
#include "publish_fixture.h"
#include "server/frame_pack.h"
#include "server/safe_open.h"

#include <csignal>
#include <sys/time.h>

using namespace slipway;

namespace {

const std::string kBulkName = "guest.vmem";  // whose plan is bulk

bool is_same_file(const std::string& a, const std::string& b) {
  return std::filesystem::equivalent(a, b);
}

}  // namespace

TEST_CASE("publish writes what is found, once, and only changed files again") {
  TestExport images;
  images.write("vm/disk.img", random_bytes(2 * kRegionSize + 17, 1));
  images.write("vm/" + kBulkName, soft_bytes(kRegionSize, 2));
  images.write("vm/deep/er/empty.img", {});
  RecordedReport first;
  CHECK(images.publish({""}, first).published == 3);
  CHECK(first.planned_files == 3);
  CHECK(first.errors.empty());
  for (const char* const name : {"vm/disk.img", "vm/guest.vmem", "vm/deep/er/empty.img"}) {
    CAPTURE(name);
    CHECK(images.manifest(name).has_value());
    CHECK(check_manifest(images.served(), name, 2).has_value());
  }
  const auto memory = images.manifest("vm/" + kBulkName);
  CHECK((*memory)->manifest().image_class == ImageClass::kMemory);
  CHECK((*memory)->manifest().plan == TransferPlan::kBulk);
  CHECK(FramePack::open(images.served().state(), (*memory)->manifest().root, ::geteuid())
            .has_value());
  CHECK(images.count("frames") == 1);

  RecordedReport second;
  CHECK(images.publish({"vm", "vm/disk.img"}, second).published == 0);
  CHECK(second.skipped_paths.size() == 3);

  images.write("vm/disk.img", bytes_of("changed"), 100);
  CHECK_FALSE(images.manifest("vm/disk.img").has_value());
  RecordedReport third;
  CHECK(images.publish({""}, third).published == 1);
  CHECK(third.images.count("vm/disk.img") == 1);
  CHECK(images.publish({"vm"}, PublishOptions{.force = true}).published == 3);
}

TEST_CASE("a published image is kept under its root when its name goes to another file") {
  TestExport images;
  images.write("golden.img", random_bytes(50000, 1));
  images.publish({"golden.img"});
  const ContentHash root = root_of_file(images, "golden.img");
  const std::string link = images.state_path(root_link_path(root));
  CHECK(is_same_file(link, images.path("golden.img")));

  images.write("new.img", random_bytes(50000, 2));
  std::filesystem::rename(images.path("new.img"), images.path("golden.img"));
  images.publish({"golden.img"});
  CHECK(root_of_file(images, "golden.img") != root);
  CHECK(std::filesystem::file_size(link) == 50000);
  CHECK(images.count("roots") == 2);

  // Changed in place, the file is no more what its old root names.
  const ContentHash second = root_of_file(images, "golden.img");
  images.write("golden.img", bytes_of("x"));
  images.publish({"golden.img"});
  CHECK_FALSE(images.has(root_link_path(second)));
  CHECK(images.has(root_link_path(root_of_file(images, "golden.img"))));
}

TEST_CASE("two files of one content share one root link, which stays where it is") {
  TestExport images;
  images.write("a.img", soft_bytes(50000, 1));
  images.write("b.img", soft_bytes(50000, 1));
  images.publish({""});
  const ContentHash root = root_of_file(images, "a.img");
  CHECK(root_of_file(images, "b.img") == root);
  CHECK(is_same_file(images.state_path(root_link_path(root)), images.path("a.img")));
}

TEST_CASE("a change is noticed even when the mtime was put back") {
  TestExport images;
  images.write("disk.img", random_bytes(50000, 1));
  images.publish({""});
  const auto mtime = std::filesystem::last_write_time(images.path("disk.img"));
  images.write("disk.img", bytes_of("changed"), 100);
  std::filesystem::last_write_time(images.path("disk.img"), mtime);
  CHECK(images.manifest("disk.img").error().code == ErrorCode::kStale);
  CHECK(images.publish({""}).published == 1);
}

TEST_CASE("a file that changes while it is read is not published, the others are") {
  TestExport images;
  images.write("a.img", random_bytes(6 * kRegionSize, 1));
  images.write("b.img", random_bytes(1000, 2));
  images.write("c.img", random_bytes(6 * kRegionSize, 3));
  RecordedReport report;
  bool changed = false;
  report.on_progress = [&](const std::string& path) {
    if (path == "a.img" && !changed)
      images.write("a.img", bytes_of("now"), 5 * kRegionSize);
    if (path == "c.img" && !changed)
      std::filesystem::resize_file(images.path("c.img"), 5 * kRegionSize);
    changed = changed || path != "b.img";
  };
  SECTION("written to") {}
  SECTION("cut off") {
    std::filesystem::remove(images.path("a.img"));
  }
  const std::string hit = std::filesystem::exists(images.path("a.img")) ? "a.img" : "c.img";
  const PublishSummary summary = images.publish({""}, report);
  CHECK(summary.failed == 1);
  REQUIRE(report.errors.count(hit) == 1);
  CHECK(report.errors[hit].code == ErrorCode::kChanging);
  CHECK_FALSE(images.manifest(hit).has_value());
  CHECK(images.manifest("b.img").has_value());
  CHECK(images.count("manifests") == summary.published);
}

TEST_CASE("a file that was replaced while it was read is not published") {
  TestExport images;
  images.write("a.img", random_bytes(1000, 1));
  RecordedReport report;
  report.on_progress = [&](const std::string&) { std::filesystem::remove(images.path("a.img")); };
  CHECK(images.publish({"a.img"}, report).failed == 1);
  CHECK(images.count("manifests") == 0);
}

TEST_CASE("a file that somebody has open for writing is not published") {
  TestExport images;
  images.write("disk.img", random_bytes(1000, 1));
  RecordedReport report;
  {
    const UniqueFd writer(::open(images.path("disk.img").c_str(), O_RDWR | O_CLOEXEC));
    CHECK(images.publish({""}, report).failed == 1);
    CHECK(report.errors["disk.img"].code == ErrorCode::kBusy);
  }
  CHECK(images.publish({""}).published == 1);
}

TEST_CASE("a file younger than 2 s is waited for") {
  TestExport images;
  images.write("disk.img", random_bytes(1000, 1));
  RecordedReport report;
  PublishOptions options;
  // A clock that is late by nothing at first: the file gets old enough while publish waits.
  const TimePoint start = SteadyClock::instance().now();
  Interrupt interrupt;
  Publisher publisher(images.served(), options, report, interrupt);
  publisher.add("disk.img");
  REQUIRE(publisher.run().has_value());
  CHECK(SteadyClock::instance().now() - start >= std::chrono::milliseconds(1500));
  CHECK(report.images.size() == 1);
  CHECK(report.notes["disk.img"].find("waiting") != std::string::npos);
}

TEST_CASE("an interrupt leaves nothing half done, and the next run goes on") {
  TestExport images;
  images.write("a.img", random_bytes(1000, 1));
  images.write("b.vmem", soft_bytes(6 * kRegionSize, 2));
  RecordedReport report;
  report.on_progress = [&](const std::string& path) {
    if (path == "b.vmem")
      ::raise(SIGINT);
  };
  const PublishSummary summary = images.publish({""}, report);
  CHECK(summary.interrupted);
  CHECK(summary.failed == 0);
  CHECK(images.manifest("a.img").has_value());
  CHECK_FALSE(images.manifest("b.vmem").has_value());
  CHECK(std::filesystem::is_empty(images.state_path("frames")));
  CHECK(images.publish({""}).published == 1);
}

TEST_CASE("special files, links and the state directory are passed over") {
  TestExport images;
  images.write("disk.img", random_bytes(1000, 1));
  images.write("vm/.slipway/planted.img", random_bytes(1000, 1));
  std::filesystem::create_symlink("disk.img", images.path("link.img"));
  std::filesystem::create_directory_symlink("..", images.path("vm/loop"));
  REQUIRE(::mkfifo(images.path("fifo").c_str(), 0644) == 0);
  RecordedReport report;
  CHECK(images.publish({""}, report).published == 1);
  CHECK(report.planned_files == 1);
  CHECK(report.errors.empty());
  CHECK_FALSE(locate_in_export(images.path("vm/.slipway/planted.img")).has_value());
}

TEST_CASE("hostile names are published like any other") {
  TestExport images;
  const std::vector<std::string> names = {
      "-rf", "new\nline", "\xff\xfe", "a b'\"$(x)", "\x1b[31m", std::string(255, 'n'), "..."};
  for (const std::string& name : names)
    images.write(name, random_bytes(100, 1));
  CHECK(images.publish({""}).published == names.size());
  for (const std::string& name : names)
    CHECK(images.manifest(name).has_value());
}

TEST_CASE("what a configuration names beneath the export is published with it") {
  TestExport images;
  images.write("vm/a.vmx", bytes_of("config.version = \"8\"\nscsi0:0.fileName = \"disk.vmdk\"\n"
                                    "scsi0:1.fileName = \"../base/base.vmdk\"\n"
                                    "scsi0:2.fileName = \"../../outside.vmdk\"\n"
                                    "scsi0:3.fileName = \"/etc/passwd\"\n"
                                    "scsi0:4.fileName = \"missing.vmdk\"\n"
                                    "scsi0:5.fileName = \"link.vmdk\"\n"
                                    "scsi0:6.fileName = \"../.slipway/id\"\n"));
  images.write("vm/disk.vmdk", random_bytes(5000, 1));
  images.write("base/base.vmdk", random_bytes(5000, 2));
  images.write("base/other.img", random_bytes(5000, 3));
  std::filesystem::create_symlink("/etc/passwd", images.path("vm/link.vmdk"));
  RecordedReport report;
  images.publish({"vm/a.vmx"}, report);
  CHECK(images.manifest("vm/a.vmx").has_value());
  CHECK(images.manifest("vm/disk.vmdk").has_value());
  CHECK(images.manifest("base/base.vmdk").has_value());
  CHECK_FALSE(images.manifest("base/other.img").has_value());
  CHECK(report.images.size() == 3);
  CHECK(report.errors.empty());
  for (const char* const name : {"outside.vmdk", "/etc/passwd", "missing.vmdk", "link.vmdk", "id"})
    CHECK(report.notes["vm/a.vmx"].find(name) != std::string::npos);

  // The set is looked at again, though its configuration is published already.
  images.write("base/base.vmdk", bytes_of("x"));
  CHECK(images.publish({"vm/a.vmx"}).published == 1);
}

TEST_CASE("frames are made for the plans asked for, within the store's bound, and used again") {
  TestExport images;
  images.write("disk.img", soft_bytes(kRegionSize, 1));
  images.write(kBulkName, soft_bytes(kRegionSize, 2));
  SECTION("none") {
    images.publish({""}, PublishOptions{.frames = FramesPolicy::kNone});
    CHECK(images.count("frames") == 0);
  }
  SECTION("all") {
    images.publish({""}, PublishOptions{.frames = FramesPolicy::kAll});
    CHECK(images.count("frames") == 2);
  }
  SECTION("a full store leaves them out") {
    RecordedReport report;
    CHECK(images.publish({""}, report, PublishOptions{.frames_max = 1000}).published == 2);
    CHECK(images.count("frames") == 0);
    CHECK(report.notes[kBulkName].find("store is full") != std::string::npos);
    CHECK(images.manifest(kBulkName).has_value());
  }
  SECTION("a pack of the same content is used again") {
    images.publish({""});
    const std::string pack = images.state_path(frames_path(root_of_file(images, kBulkName)));

    struct stat before {};

    struct stat after {};

    REQUIRE(::stat(pack.c_str(), &before) == 0);
    REQUIRE(::chmod(images.path(kBulkName).c_str(), 0600) == 0);
    CHECK(images.publish({""}).published == 1);
    REQUIRE(::stat(pack.c_str(), &after) == 0);
    CHECK(before.st_ino == after.st_ino);
    CHECK((after.st_mode & 0777) == 0600);
    // With other content the old pack is no use, and the file is read once more.
    images.write(kBulkName, soft_bytes(1000, 5));
    CHECK(images.publish({""}).published == 1);
    CHECK(images.count("frames") == 2);
    CHECK(check_manifest(images.served(), kBulkName, 1).has_value());
  }
}

TEST_CASE("what is told of an image is readable for those who may read the image") {
  TestExport images;
  images.write("open.vmem", soft_bytes(50000, 1));
  images.write("closed.vmem", soft_bytes(50000, 2));
  images.write("private/hidden.vmem", soft_bytes(50000, 3));
  REQUIRE(::chmod(images.path("closed.vmem").c_str(), 0640) == 0);
  REQUIRE(::chmod(images.path("private").c_str(), 0700) == 0);
  RecordedReport report;
  images.publish({""}, report);
  const auto modes = [&](const std::string& name) {
    struct stat manifest {};
    struct stat pack {};
    REQUIRE(::stat(images.manifest_path_of(name).c_str(), &manifest) == 0);
    const std::string frames = images.state_path(frames_path(root_of_file(images, name)));
    REQUIRE(::stat(frames.c_str(), &pack) == 0);
    CHECK(manifest.st_mode == pack.st_mode);
    return manifest.st_mode & 0777;
  };
  CHECK(modes("open.vmem") == 0644);
  CHECK(modes("closed.vmem") == 0640);
  CHECK(modes("private/hidden.vmem") == 0600);
  // A link elsewhere would let in whom the directory keeps out.
  CHECK_FALSE(images.has(root_link_path(root_of_file(images, "private/hidden.vmem"))));
  CHECK(report.notes["private/hidden.vmem"].find("hides") != std::string::npos);
}

TEST_CASE("root publishes for another user: the image's owner owns what is told of it") {
  if (::geteuid() != 0)
    return;
  TestExport images;
  images.write("theirs.vmx", bytes_of("config.version = \"8\"\nscsi0:0.fileName = \"no.vmdk\"\n"));
  REQUIRE(::chown(images.path("theirs.vmx").c_str(), 12345, 12346) == 0);
  REQUIRE(::chmod(images.path("theirs.vmx").c_str(), 0600) == 0);
  RecordedReport report;
  images.publish({""}, report);

  struct stat info {};

  REQUIRE(::stat(images.manifest_path_of("theirs.vmx").c_str(), &info) == 0);
  CHECK(info.st_uid == 12345);
  CHECK(info.st_gid == 12346);
  CHECK((info.st_mode & 0777) == 0600);
  // The confined reader understood it.
  CHECK((*images.manifest("theirs.vmx"))->manifest().image_class == ImageClass::kConfig);
  CHECK(report.notes["theirs.vmx"].find("no.vmdk") != std::string::npos);
}

TEST_CASE("where nothing was initialised, publish says what to run") {
  const TempDir directory;
  const auto place = locate_in_export(directory.path());
  REQUIRE_FALSE(place.has_value());
  CHECK(place.error().message.find("slipwayd init") != std::string::npos);

  TestExport images;
  images.write("disk.img", random_bytes(100, 1));
  std::filesystem::remove(images.state_path("frames"));
  RecordedReport report;
  Interrupt interrupt;
  Publisher publisher(images.served(), {}, report, interrupt);
  publisher.add("");
  const auto done = publisher.run();
  REQUIRE_FALSE(done.has_value());
  CHECK(done.error().message.find("slipwayd init") != std::string::npos);
  images.reopen();  // init again makes what is missing
  CHECK(images.publish({""}).published == 1);
}
