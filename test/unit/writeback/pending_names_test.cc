#include "support/catch.h"
#include "writeback/pending_names.h"
#include "writeback/written_file.h"

#include <memory>

using namespace slipway;

namespace {

PendingName made(std::uint64_t inode, FileType type = FileType::kRegular) {
  PendingName name;
  name.attributes.type = type;
  name.attributes.version.id.inode = inode;
  name.attributes.version.mtime = {static_cast<std::int64_t>(inode), 0};
  name.file = std::make_shared<WrittenFile>(
      inode, WrittenFile::Named{name.attributes.version.id, "", name.attributes.version});
  return name;
}

std::vector<std::string> names_in(const PendingNames& names, const std::string& directory) {
  std::vector<std::string> found;
  for (const PendingNames::Child& child : names.children(directory))
    found.push_back(child.name);
  return found;
}

using Strings = std::vector<std::string>;

}  // namespace

TEST_CASE("a directory's children are those directly below it, and no neighbour's") {
  PendingNames names;
  names.add("vm", made(1, FileType::kDirectory));
  names.add("vm/b", made(2));
  names.add("vm/a", made(3, FileType::kDirectory));
  names.add("vm/a/deep", made(4));
  names.add("vm-2", made(5));
  names.add("vm.lck", made(6));
  CHECK(names_in(names, "") == Strings{"vm", "vm-2", "vm.lck"});
  CHECK(names_in(names, "vm") == Strings{"a", "b"});
  CHECK(names_in(names, "vm/a") == Strings{"deep"});
  CHECK(names_in(names, "v").empty());
  CHECK(names.has_children("vm/a"));
  CHECK_FALSE(names.has_children("vm-2"));
  CHECK_FALSE(names.has_children("vm/b"));
}

TEST_CASE("a name that moves replaces what is there, and both directories have a new time") {
  PendingNames names;
  names.add("from", made(1, FileType::kDirectory));
  names.add("to", made(2, FileType::kDirectory));
  names.add("from/file", made(3));
  names.add("to/file", made(4));
  names.move("from/file", "to/file", {99, 0});
  CHECK_FALSE(names.find("from/file").has_value());
  REQUIRE(names.find("to/file").has_value());
  CHECK(names.find("to/file")->attributes.version.id.inode == 3);
  CHECK(names.find("from")->attributes.version.mtime == Timestamp{99, 0});
  CHECK(names.find("to")->attributes.version.mtime == Timestamp{99, 0});
  CHECK(names.ids().size() == 3);
}

TEST_CASE("a directory has a link for each directory in it") {
  PendingNames names;
  names.add("a", made(1, FileType::kDirectory));
  names.add("b", made(2, FileType::kDirectory));
  const auto links = [&](const std::string& path) { return names.find(path)->attributes.nlink; };
  names.add("a/dir", made(3, FileType::kDirectory));
  names.add("a/file", made(4));
  CHECK(links("a") == 1);  // this fixture's directories begin with none
  names.move("a/dir", "b/dir", {});
  CHECK(links("a") == 0);
  CHECK(links("b") == 1);
  names.add("b/other", made(5, FileType::kDirectory));
  names.move("b/other", "b/dir", {});
  CHECK(links("b") == 1);
  names.remove("b/dir", names.find("b/dir")->file.get(), {});
  CHECK(links("b") == 0);
}

TEST_CASE("a name is removed only for the file that has it") {
  PendingNames names;
  CHECK(names.empty());
  const PendingName old = made(1);
  const PendingName now = made(2);
  names.add("file", now);
  names.remove("file", old.file.get(), {});
  CHECK(names.find("file").has_value());
  names.remove("other", now.file.get(), {});
  names.remove("file", now.file.get(), {});
  CHECK(names.empty());
  CHECK(names.ids().empty());
}
