// Files named by the root of their content: "NAME@ROOT".

#include "manifest_export.h"

namespace slipway {
namespace {

std::string at_root(const std::string& name, const Manifest& manifest) {
  return name + "@" + to_text(manifest.root);
}

ErrorCode open_error(const ManifestExport& f, const std::string& path,
                     const FileId& expected = {}) {
  const auto opened = f.store->open({path, expected});
  REQUIRE(!opened);
  const auto found = f.store->getattr({path, expected});
  REQUIRE(!found);
  CHECK(found.error().code == opened.error().code);
  return opened.error().code;
}

Bytes content_of_file(ImageFile& file, std::size_t size) {
  Bytes data;
  const ImageChunk chunk =
      file.read({{0, round_up(size + 1, kUnitSize)}, 64 * kUnitSize, true}, data).value();
  return content_of(chunk, data);
}

}  // namespace

TEST_CASE("a root's name is a name, an @ and 64 digits") {
  const std::string digits(64, 'a');
  CHECK(split_root_name("disk@" + digits)->name == "disk");
  CHECK(split_root_name("vm/disk@x@" + digits)->name == "vm/disk@x");
  for (const std::string bad : {"disk", "@", "disk@", "", "disk@abc"})
    CHECK(!split_root_name(bad));
  CHECK(!split_root_name("@" + digits));
  CHECK(!split_root_name("vm/@" + digits));
  CHECK(!split_root_name("disk@a" + digits));
  CHECK(!split_root_name("disk" + digits));
  CHECK(!split_root_name("disk@" + std::string(64, 'A')));
  CHECK(!split_root_name("disk@" + digits + "/x"));
}

TEST_CASE("content is found by its root when its name means another file, or nothing") {
  const ManifestExport f;
  const Bytes content = make_content("zcrz", 1, 9);
  const Manifest manifest = f.publish("disk", content);
  const FileId id = f.version("disk").id;
  const std::string name = at_root("disk", manifest);
  SECTION("it is still there") {}
  SECTION("it was replaced") {
    f.write("new", make_content("rrrr"));
    fs::rename(f.path("new"), f.path("disk"));
  }
  SECTION("it was replaced by a directory") {
    fs::remove(f.path("disk"));
    fs::create_directory(f.path("disk"));
  }
  SECTION("it was removed") {
    fs::remove(f.path("disk"));
  }
  SECTION("it was moved") {
    fs::rename(f.path("disk"), f.path("old"));
  }
  const Attributes found = f.store->lookup({"vm", {}}, name).value();
  CHECK(found.version.id == id);
  CHECK(found.inode_number == id.inode);
  CHECK(found.version.size == content.size());
  CHECK(f.store->getattr({"vm/" + name, id})->version == found.version);
  const auto file = f.store->open({"vm/" + name, id}).value();
  REQUIRE(file->manifest() != nullptr);
  CHECK(file->attributes()->version == found.version);
  CHECK((content_of_file(*file, content.size()) == content));
  CHECK(f.store->statfs({"vm/" + name, {}}).has_value());
  CHECK(f.store->readlink({"vm/" + name, {}}).error().code == ErrorCode::kInvalid);
  CHECK(f.store->open_directory({"vm/" + name, {}}, 0).error().code == ErrorCode::kNotFound);
}

TEST_CASE("a root's name never means another content") {
  const ManifestExport f;
  const Bytes content = make_content("zcr");
  const Manifest manifest = f.publish("disk", content);
  const std::string name = "vm/" + at_root("disk", manifest);
  REQUIRE(f.store->getattr({name, {}}).has_value());
  SECTION("the content changed in place") {
    f.patch("disk", 0, make_content("r"));
  }
  SECTION("it became shorter") {
    fs::resize_file(f.path("disk"), 10);
  }
  SECTION("the link is of another file") {
    const std::string link = f.state + "/" + root_link_path(manifest.root);
    f.publish("other", make_content("rrr"));
    fs::remove(link);
    fs::create_hard_link(f.path("other"), link);
  }
  SECTION("the link is a symbolic one") {
    const std::string link = f.state + "/" + root_link_path(manifest.root);
    fs::remove(link);
    fs::create_symlink(f.path("disk"), link);
  }
  SECTION("there is no link") {
    fs::remove(f.state + "/" + root_link_path(manifest.root));
  }
  SECTION("there is no manifest") {
    fs::remove(f.state + "/" + manifest_path(manifest.version.id));
  }
  SECTION("the manifest is not believed") {
    const std::string path = f.state + "/" + manifest_path(manifest.version.id);
    REQUIRE(::chmod(path.c_str(), 0666) == 0);
  }
  CHECK(open_error(f, name) == ErrorCode::kNotFound);
}

TEST_CASE("a root's name is subject to the rules of all names") {
  const ManifestExport f;
  const Manifest manifest = f.publish("disk", make_content("zcr"));
  CHECK(open_error(f, "vm/" + at_root("disk", manifest), {0, 12345}) == ErrorCode::kStale);
  CHECK(open_error(f, at_root("gone/disk", manifest)) == ErrorCode::kNotFound);
  CHECK(open_error(f, at_root("vm/disk/x", manifest)) == ErrorCode::kNotDirectory);
  CHECK(open_error(f, at_root(".slipway", manifest)) == ErrorCode::kNotFound);
  CHECK(open_error(f, at_root("vm/.slipway", manifest)) == ErrorCode::kNotFound);
  CHECK(open_error(f, at_root(".slipway/id", manifest)) == ErrorCode::kNotFound);
  CHECK(open_error(f, at_root("vm/..", manifest)) == ErrorCode::kNotFound);
  CHECK(f.store->lookup({"vm", {}}, at_root("..", manifest)).error().code == ErrorCode::kNotFound);
  CHECK(f.store->lookup({"vm", {}}, "disk@" + std::string(64, '0')).error().code ==
        ErrorCode::kNotFound);
  const auto walk = f.store->open_directory({"vm", {}}, 0).value();
  int entries = 0;
  while (walk->next().value())
    ++entries;
  CHECK(entries == 1);
}

TEST_CASE("a file whose own name looks like a root's is that file") {
  const ManifestExport f;
  const Manifest manifest = f.publish("disk", make_content("zcr"));
  const std::string name = at_root("disk", manifest);
  f.write(name, as_bytes("mine"));
  CHECK(f.store->lookup({"vm", {}}, name)->version.size == 4);
  CHECK(f.store->getattr({"vm/" + name, {}})->version.size == 4);
  CHECK((content_of_file(*f.open(name), 4).size() == 4));
}

TEST_CASE("an export without published files knows no roots") {
  const ManifestExport f;
  const Manifest manifest = f.publish("disk", make_content("zcr"));
  const auto plain =
      DirectoryStore::open(UniqueFd(::open(f.root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC)), "")
          .value();
  CHECK(plain->getattr({"vm/" + at_root("disk", manifest), {}}).error().code ==
        ErrorCode::kNotFound);
  CHECK(plain->open({"vm/disk", {}}).value()->manifest() == nullptr);
}

TEST_CASE("a file that was opened by its root is that content or nothing") {
  const ManifestExport f;
  const Bytes content = make_content("zcrc");
  const Manifest manifest = f.publish("disk", content);
  const auto file = f.store->open({"vm/" + at_root("disk", manifest), {}}).value();
  // A new link or another mode changes nothing of the content.
  fs::remove(f.path("disk"));
  CHECK((content_of_file(*file, content.size()) == content));
  CHECK(file->manifest() != nullptr);
  CHECK(file->attributes().has_value());
  // A write does, for good.
  const std::string link = f.state + "/" + root_link_path(manifest.root);
  const UniqueFd fd(::open(link.c_str(), O_WRONLY | O_CLOEXEC));
  REQUIRE(pwrite_full(fd.get(), make_content("r"), 0).has_value());
  Bytes data;
  CHECK(file->read({{0, kUnitSize}, kUnitSize, true}, data).error().code == ErrorCode::kStale);
  CHECK(data.empty());
  CHECK(file->attributes().error().code == ErrorCode::kStale);
  CHECK(file->manifest() == nullptr);
  REQUIRE(pwrite_full(fd.get(), content, 0).has_value());
  CHECK(file->read({{0, kUnitSize}, kUnitSize, true}, data).error().code == ErrorCode::kStale);
}

TEST_CASE("who may not read the file does not get it by its root") {
  if (::geteuid() != 0)
    return;  // needs another user
  const ManifestExport f;
  const Manifest manifest = f.publish("disk", make_content("zcr"));
  const std::string name = "vm/" + at_root("disk", manifest);
  SECTION("the file") {
    REQUIRE(::chmod(f.path("disk").c_str(), 0600) == 0);
    f.write_manifest(make_manifest(f.version("disk"), make_content("zcr")));
    REQUIRE(::seteuid(65534) == 0);
    const auto opened = f.store->open({name, {}});
    REQUIRE(::seteuid(0) == 0);
    CHECK(opened.error().code == ErrorCode::kAccessDenied);
  }
  SECTION("the directory that its name is in") {
    REQUIRE(::chmod((f.root + "/vm").c_str(), 0700) == 0);
    REQUIRE(::seteuid(65534) == 0);
    const auto opened = f.store->open({name, {}});
    REQUIRE(::seteuid(0) == 0);
    CHECK(opened.error().code == ErrorCode::kAccessDenied);
  }
}

}  // namespace slipway
