#include "samples.h"
#include "support/catch.h"
#include "wire/messages.h"

using namespace slipway;

TEST_CASE("a name is one component that means no other place") {
  for (const char* good : {"a", "...", ".a", "..a", "a.", " ", "\n", "\xff\xfe", "a\\b", "*"}) {
    CAPTURE(good);
    CHECK(is_valid_name(good));
    CHECK(is_valid_path(good));
  }
  CHECK(is_valid_name(std::string(255, 'n')));
  for (const std::string& bad :
       {std::string(), std::string("."), std::string(".."), std::string("a/b"), std::string("/"),
        std::string("a/"), std::string("/a"), std::string("a\0b", 3), std::string(1, '\0'),
        std::string(256, 'n'), std::string(65535, 'n')}) {
    CAPTURE(bad.substr(0, 20), bad.size());
    CHECK_FALSE(is_valid_name(bad));
  }
}

TEST_CASE("a path is empty or valid names joined by single slashes") {
  std::string longest;
  while (longest.size() + 256 <= kPathMax)
    longest += std::string(255, 'n') + "/";
  longest += std::string(kPathMax - longest.size(), 'n');
  CHECK(longest.size() == kPathMax);
  CHECK(is_valid_path(longest));
  std::string deepest = "a";
  while (deepest.size() < kPathMax)
    deepest += "/a";
  CHECK(deepest.size() == kPathMax);
  CHECK(is_valid_path(deepest));
  CHECK_FALSE(is_valid_path(deepest + "a"));
  CHECK(is_valid_path(""));
  CHECK(is_valid_path("a/b/c"));
  for (const std::string& bad :
       {std::string("/"), std::string("/a"), std::string("a/"), std::string("a//b"),
        std::string("."), std::string(".."), std::string("a/.."), std::string("../a"),
        std::string("a/../b"), std::string("a/./b"), std::string("a/b\0/c", 6),
        std::string(256, 'n'), "a/" + std::string(256, 'n') + "/b", longest + "n",
        std::string(65535, '/')}) {
    CAPTURE(bad.substr(0, 20), bad.size());
    CHECK_FALSE(is_valid_path(bad));
  }
}

TEST_CASE("versions are the same file by identity and birth, the same content by size and mtime") {
  const VersionRecord a = sample_attributes().version;
  CHECK(same_file(a, a));
  CHECK(same_content(a, a));
  VersionRecord b = a;
  b.ctime.nanoseconds += 1;  // chmod, link
  CHECK(same_file(a, b));
  CHECK(same_content(a, b));
  CHECK_FALSE(a == b);
  b = a;
  b.mtime.nanoseconds -= 1;
  CHECK(same_file(a, b));
  CHECK_FALSE(same_content(a, b));
  b = a;
  b.size += 1;
  CHECK(same_file(a, b));
  CHECK_FALSE(same_content(a, b));
  b = a;
  b.birth.seconds += 1;  // the inode number was given to another file
  CHECK_FALSE(same_file(a, b));
  CHECK_FALSE(same_content(a, b));
  b = a;
  b.id.file_system += 1;
  CHECK_FALSE(same_file(a, b));
  b = a;
  b.id.inode += 1;
  CHECK_FALSE(same_file(a, b));
}
