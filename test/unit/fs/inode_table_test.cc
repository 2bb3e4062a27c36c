#include "fs/inode_table.h"

#include "support/catch.h"

using namespace slipway;

namespace {

constexpr std::uint64_t kMiB = 1 << 20;

TimePoint at(int second) {
  return TimePoint(std::chrono::seconds(second));
}

Attributes attributes(std::uint64_t inode, FileType type, std::uint64_t size, int mtime = 1) {
  Attributes a;
  a.version.id = {1, inode};
  a.version.birth = {1, 0};
  a.version.size = size;
  a.version.mtime = a.version.ctime = {mtime, 0};
  a.inode_number = inode;
  a.type = type;
  a.nlink = 1;
  return a;
}

struct Table : InodeTable {
  Table() : InodeTable(attributes(1, FileType::kDirectory, 0)) {}

  Remembered see(const std::string& path, const Attributes& a, int second) {
    return remember(path, a, at(second), at(second)).value();
  }
};

}  // namespace

TEST_CASE("a node lives from its first lookup to its last forget") {
  Table table;
  const auto file = attributes(10, FileType::kRegular, 5);
  const auto node = table.see("f", file, 1).nodeid;
  CHECK(table.see("f", file, 2).nodeid == node);
  CHECK(table.size() == 1);
  table.forget(node, 1);
  CHECK(table.find(node));
  table.forget(node, 1);
  CHECK_FALSE(table.find(node));
  CHECK(table.size() == 0);
  CHECK(table.see("f", file, 3).nodeid != node);  // numbers are never used again
}

TEST_CASE("a node with an open handle stays known after its last forget") {
  Table table;
  const auto node = table.see("f", attributes(10, FileType::kRegular, 5), 1).nodeid;
  table.add_handle(node, 77);
  table.forget(node, 1);
  CHECK(table.find(node).value().handle == 77);
  table.remove_handle(node, 77);
  CHECK(table.size() == 0);
}

TEST_CASE("the root is never forgotten") {
  Table table;
  table.forget(kRootNodeId, 1000);
  CHECK(table.find(kRootNodeId));
}

TEST_CASE("regular files are one node by file id, directories and links one per path") {
  Table table;
  const auto file = attributes(10, FileType::kRegular, 5);
  CHECK(table.see("a", file, 1).nodeid == table.see("b", file, 1).nodeid);
  CHECK(table.find(table.see("a", file, 1).nodeid).value().path == "a");
  for (const FileType type : {FileType::kDirectory, FileType::kSymlink}) {
    const auto a = attributes(20 + static_cast<unsigned>(type), type, 0);
    const auto first = table.see("x", a, 1).nodeid;
    const auto second = table.see("d/x", a, 1).nodeid;
    CHECK(first != second);
    CHECK(table.find(first).value().path == "x");
    CHECK(table.see("x", a, 2).nodeid == first);
    table.forget(first, 2);
    table.forget(second, 1);
  }
}

TEST_CASE("what a change of a regular file means depends on its size") {
  const auto change = [](std::uint64_t before, std::uint64_t after) {
    Table table;
    const auto old_node = table.see("f", attributes(10, FileType::kRegular, before, 1), 1).nodeid;
    const auto seen = table.see("f", attributes(10, FileType::kRegular, after, 2), 2);
    CHECK((seen.nodeid == old_node) == (seen.change == Change::kInPlace));
    CHECK(table.find(old_node).value().superseded == (seen.change == Change::kSuperseded));
    return seen.change;
  };
  CHECK(change(1, 2) == Change::kInPlace);
  CHECK(change(kMiB, kMiB) == Change::kInPlace);
  CHECK(change(kMiB + 1, kMiB + 1) == Change::kSuperseded);
  CHECK(change(kMiB, kMiB + 1) == Change::kSuperseded);
  CHECK(change(kMiB + 1, 1) == Change::kSuperseded);
}

TEST_CASE("a superseded node keeps the attributes of its content") {
  Table table;
  const auto node = table.see("f", attributes(10, FileType::kRegular, 4 * kMiB, 1), 1).nodeid;
  CHECK(table.observe(node, attributes(10, FileType::kRegular, 5 * kMiB, 2), at(2), at(2)) ==
        Change::kSuperseded);
  CHECK(table.find(node).value().attributes.version.size == 4 * kMiB);
  const auto fresh = table.see("f", attributes(10, FileType::kRegular, 5 * kMiB, 2), 3);
  CHECK(fresh.nodeid != node);
  CHECK(fresh.generation != table.find(node).value().generation);
  // Forgetting the old one leaves the new one findable.
  table.forget(node, 1);
  CHECK(table.see("f", attributes(10, FileType::kRegular, 5 * kMiB, 2), 4).nodeid == fresh.nodeid);
}

TEST_CASE("another file under an old inode number or of another type is another node") {
  Table table;
  auto file = attributes(10, FileType::kRegular, 5);
  const auto first = table.see("f", file, 1).nodeid;
  file.version.birth = {2, 0};
  const auto second = table.see("f", file, 2).nodeid;
  CHECK(first != second);
  const auto third = table.see("f", attributes(10, FileType::kFifo, 0), 3).nodeid;
  CHECK(third != second);
  CHECK(table.observe(third, attributes(11, FileType::kFifo, 0), at(4), at(4)) == Change::kOther);
}

TEST_CASE("an older answer that comes late changes nothing") {
  Table table;
  const auto old_answer = attributes(10, FileType::kRegular, 4 * kMiB, 1);
  const auto new_answer = attributes(10, FileType::kRegular, 4 * kMiB, 5);
  const auto node = table.see("f", new_answer, 10).nodeid;
  CHECK(table.observe(node, old_answer, at(9), at(11)) == Change::kNone);
  CHECK(table.find(node).value().attributes.version.mtime.seconds == 5);
  // The same answer to a later question is the truth: a file restored from a backup.
  CHECK(table.observe(node, old_answer, at(12), at(13)) == Change::kSuperseded);
}

TEST_CASE("pages are kept over an open unless the content was or is in doubt") {
  Table table;
  const auto node = table.see("f", attributes(10, FileType::kRegular, 5, 1), 1).nodeid;
  CHECK(table.keep_pages_over_open(node, false, false));
  CHECK_FALSE(table.keep_pages_over_open(node, false, true));
  CHECK(table.keep_pages_over_open(node, true, false));
  CHECK_FALSE(table.keep_pages_over_open(node, false, false));
  table.observe(node, attributes(10, FileType::kRegular, 6, 2), at(2), at(2));
  CHECK_FALSE(table.keep_pages_over_open(node, false, false));
  CHECK(table.keep_pages_over_open(node, false, false));
}

TEST_CASE("a server can't put the root below itself") {
  Table table;
  const auto again = table.remember("d", attributes(1, FileType::kDirectory, 0), at(1), at(1));
  REQUIRE_FALSE(again);
  CHECK(again.error().code == ErrorCode::kProtocol);
}

TEST_CASE("a file that loses any of its names has one less, and goes by one that is left") {
  Table table;
  auto file = attributes(10, FileType::kRegular, 5);
  file.nlink = 3;
  const auto node = table.see("first", file, 1).nodeid;
  table.see("d/second", file, 1);
  table.see("third", file, 1);
  table.remove("first");
  CHECK(table.find(node).value().attributes.nlink == 2);
  CHECK(table.find(node).value().path == "third");
  table.move("d", "e");
  table.remove("third");
  CHECK(table.find(node).value().attributes.nlink == 1);
  CHECK(table.find(node).value().path == "e/second");
  table.remove("first");  // another file's by now
  CHECK(table.find(node).value().attributes.nlink == 1);
  table.remove("e/second");
  CHECK(table.find(node).value().attributes.nlink == 0);
}

TEST_CASE("a file with unsent data shows blocks for it, at most as many as its size takes") {
  Table table;
  auto file = attributes(10, FileType::kRegular, 0);
  const auto node = table.see("f", file, 1).nodeid;
  const auto allocated = [&] { return table.find(node).value().attributes.allocated; };
  table.set_ours(file.version.id, {1, 100, {2, 0}, 100});
  CHECK(allocated() == 4096);
  table.set_ours(file.version.id, {2, kMiB, {3, 0}, 5000});
  CHECK(allocated() == 8192);
  table.set_ours(file.version.id, {3, 100, {4, 0}, 5000});
  CHECK(allocated() == 4096);
  table.set_ours(file.version.id, {4, 0, {5, 0}, 0});
  CHECK(allocated() == 0);
  file.allocated = 65536;
  table.end_ours(file.version.id, file, 4, at(6));
  CHECK(allocated() == 65536);
}

TEST_CASE("who tells late of a write or a commit does not undo what a later one told") {
  Table table;
  auto file = attributes(10, FileType::kRegular, 0);
  const auto node = table.see("f", file, 1).nodeid;
  const auto size = [&] { return table.find(node).value().attributes.version.size; };
  const auto write = [&](std::uint64_t number, std::uint64_t to) {
    table.set_ours(file.version.id, {number, to, {2, 0}, 100});
  };
  const auto commit = [&](std::uint64_t number, std::uint64_t at_size) {
    Attributes applied = file;
    applied.version.size = at_size;
    table.end_ours(file.version.id, applied, number, at(6));
  };
  write(2, 200);
  write(1, 100);
  CHECK(size() == 200);
  commit(1, 100);  // of the first alone
  CHECK(size() == 200);
  CHECK(table.is_ours(node));
  commit(2, 200);
  CHECK_FALSE(table.is_ours(node));
  write(2, 200);  // the writer comes last
  CHECK_FALSE(table.is_ours(node));
  write(3, 300);
  CHECK(table.is_ours(node));
  table.drop_ours(file.version.id, 2);
  CHECK(table.is_ours(node));
  table.drop_ours(file.version.id, 3);
  CHECK_FALSE(table.is_ours(node));
}
