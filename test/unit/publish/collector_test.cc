#include "publish_fixture.h"

using namespace slipway;

namespace {

Collected unpublish(TestExport& images, const std::string& relative) {
  Collector collector(images.served(), {}, [](const std::string&) {});
  const auto freed = collector.unpublish(relative);
  REQUIRE(freed.has_value());
  return *freed;
}

}  // namespace

TEST_CASE("gc drops what is known of files that changed or are gone, and keeps the rest") {
  TestExport images;
  images.write("kept.vmem", soft_bytes(50000, 1));
  images.write("changed.vmem", soft_bytes(50000, 2));
  images.write("gone.vmem", soft_bytes(50000, 3));
  images.publish({""});
  const ContentHash gone = root_of_file(images, "gone.vmem");
  images.write("changed.vmem", bytes_of("x"));
  std::filesystem::remove(images.path("gone.vmem"));

  const Collected would = images.collect({.dry_run = true});
  CHECK(would.manifests == 2);
  CHECK(images.count("manifests") == 3);
  CHECK(images.count("frames") == 3);
  CHECK(images.count("roots") == 3);

  const Collected freed = images.collect();
  CHECK(freed.manifests == 2);
  CHECK(freed.packs == 2);
  CHECK(freed.roots == 2);
  CHECK(freed.bytes >= 50000);  // the image that had no name left
  CHECK(freed.bytes == would.bytes);
  CHECK(images.manifest("kept.vmem").has_value());
  CHECK(images.has(root_link_path(root_of_file(images, "kept.vmem"))));
  CHECK_FALSE(images.has(root_link_path(gone)));
  CHECK(images.collect().manifests == 0);
}

TEST_CASE("gc keeps replaced images when asked to, with what is known of them") {
  TestExport images;
  images.write("gone.vmem", soft_bytes(50000, 3));
  images.publish({""});
  const ContentHash gone = root_of_file(images, "gone.vmem");
  TestExport::wait_for_next_tick();
  std::filesystem::remove(images.path("gone.vmem"));
  // The removal moved the change time of the file that lives on under its root.
  images.collect({.keep_roots = true});
  CHECK(images.has(root_link_path(gone)));
  CHECK(images.has(frames_path(gone)));
  CHECK(images.count("manifests") == 1);
}

TEST_CASE("gc removes what a killed publish left, and unusable manifests") {
  TestExport images;
  images.write("kept.img", soft_bytes(50000, 1));
  images.publish({""});
  for (const char* const name : {"manifests/.new-1234", "frames/.new-5678", "manifests/0-777"})
    REQUIRE(replace_file(images.state_path(name), "half", 0644).has_value());
  images.collect();
  CHECK_FALSE(images.has("manifests/.new-1234"));
  CHECK_FALSE(images.has("frames/.new-5678"));
  CHECK_FALSE(images.has("manifests/0-777"));
  CHECK(images.manifest("kept.img").has_value());
}

TEST_CASE("a manifest stays valid when gc removes an old link of its file") {
  TestExport images;
  images.write("disk.img", soft_bytes(50000, 1));
  ContentHash old{};
  std::filesystem::create_hard_link(images.path("disk.img"),
                                    images.state_path(root_link_path(old)));
  images.publish({""});
  const VersionRecord before = images.open("disk.img").version;
  TestExport::wait_for_next_tick();
  images.collect();
  CHECK_FALSE(images.has(root_link_path(old)));
  CHECK(images.open("disk.img").version != before);
  CHECK(images.manifest("disk.img").has_value());
}

TEST_CASE("gc keeps what is known of a file whose change time moved, for those who may read it") {
  TestExport images;
  images.write("guest.vmem", soft_bytes(50000, 1));
  images.publish({""});
  const ContentHash root = root_of_file(images, "guest.vmem");
  const std::string manifest = images.manifest_path_of("guest.vmem");
  TestExport::wait_for_next_tick();
  REQUIRE(::chmod(images.path("guest.vmem").c_str(), 0600) == 0);
  CHECK(images.collect().manifests == 0);
  for (const std::string& path : {manifest, images.state_path(frames_path(root))}) {
    struct stat info {};

    REQUIRE(::stat(path.c_str(), &info) == 0);
    CHECK((info.st_mode & 0777) == 0600);
  }
  CHECK(images.has(root_link_path(root)));
}

TEST_CASE("unpublish drops what is known of the paths, and what nothing else names") {
  TestExport images;
  images.write("vm/a.vmem", soft_bytes(50000, 1));
  images.write("vm/b.vmem", soft_bytes(50000, 2));
  images.write("same-as-a.vmem", soft_bytes(50000, 1));
  images.publish({""});
  const ContentHash a = root_of_file(images, "vm/a.vmem");
  const ContentHash b = root_of_file(images, "vm/b.vmem");
  const Collected freed = unpublish(images, "vm");
  CHECK(freed.manifests == 2);
  CHECK(freed.packs == 1);
  CHECK(freed.roots == 1);
  CHECK(images.has(frames_path(a)));
  CHECK_FALSE(images.has(frames_path(b)));
  CHECK_FALSE(images.has(root_link_path(b)));
  CHECK(images.manifest("same-as-a.vmem").has_value());
  CHECK(images.manifest("vm/a.vmem").error().code == ErrorCode::kNotFound);
  CHECK(std::filesystem::file_size(images.path("vm/b.vmem")) == 50000);
  CHECK(unpublish(images, "vm").manifests == 0);
}

TEST_CASE("gc and publish keep apart") {
  TestExport images;
  TestExport other;
  auto second = PublishedExport::open(images.served().path());
  REQUIRE(second.has_value());
  CHECK(images.served().try_lock(false).has_value());
  CHECK((*second)->try_lock(false).has_value());
  CHECK((*second)->try_lock(true).error().code == ErrorCode::kBusy);
}

TEST_CASE("after a copy of the tree rebind takes over what is known, once the hashes say so") {
  TestExport original;
  original.write("guest.vmem", soft_bytes(50000, 1));
  original.write("lie.vmem", soft_bytes(50000, 2));
  original.publish({""});
  const ContentHash root = root_of_file(original, "guest.vmem");
  // What a copy keeps: content, size and mtime; not the inode numbers.
  TestExport copy;
  for (const char* const name : {"guest.vmem", "lie.vmem"}) {
    const auto mtime = std::filesystem::last_write_time(original.path(name));
    // Under a name that says nothing of what it is.
    const std::string to = copy.path(std::string(name) + ".bak");
    std::filesystem::copy_file(original.path(name), to);
    if (std::string(name) == "lie.vmem")
      copy.write("lie.vmem.bak", bytes_of("other"), 100);
    std::filesystem::last_write_time(to, mtime);
  }
  for (const char* const directory : {"manifests", "frames", "roots"})
    std::filesystem::copy(original.state_path(directory), copy.state_path(directory),
                          std::filesystem::copy_options::overwrite_existing |
                              std::filesystem::copy_options::recursive);

  struct stat pack {};

  struct stat kept {};

  REQUIRE(::stat(copy.state_path(frames_path(root)).c_str(), &pack) == 0);

  RecordedReport report;
  CHECK(copy.publish({""}, report, PublishOptions{.rebind = true}).published == 2);
  CHECK(report.images["guest.vmem.bak"].is_rebound);
  CHECK_FALSE(report.images["lie.vmem.bak"].is_rebound);
  CHECK(report.images["guest.vmem.bak"].root == root);
  CHECK(report.images["guest.vmem.bak"].plan == TransferPlan::kBulk);
  CHECK(report.images["guest.vmem.bak"].has_frames);
  REQUIRE(::stat(copy.state_path(frames_path(root)).c_str(), &kept) == 0);
  CHECK(kept.st_ino == pack.st_ino);
  // The copied link is a file of its own; now it is the image again.
  CHECK(std::filesystem::equivalent(copy.state_path(root_link_path(root)),
                                    copy.path("guest.vmem.bak")));
  copy.collect();
  CHECK(copy.count("manifests") == 2);
  CHECK(copy.has(frames_path(root)));
}
