#include "mounted.h"
#include "support/catch.h"

#include <sys/mman.h>
#include <sys/wait.h>

using namespace slipway;

namespace {

const std::string kStaleAnswer = "errno " + std::to_string(ESTALE);

/// Every open and path walk asks the server.
FileSystemOptions always_asking() {
  FileSystemOptions options;
  options.attr_timeout = Duration::zero();
  return options;
}

void drop_pages(int fd) {
  ::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
}

}  // namespace

TEST_CASE("a changed image: open handles keep what is cached and get ESTALE for the rest") {
  const bool same_size = GENERATE(true, false);
  const Duration timeout = GENERATE(Duration::zero(), Duration(std::chrono::seconds(100)));
  FileSystemOptions options;
  options.attr_timeout = timeout;
  Mounted mount(options);
  const std::string old_content = pattern(4 * kMiB, 1);
  const std::string new_content = pattern(same_size ? 4 * kMiB : 5 * kMiB, 2);
  mount.tree.add("vm.img", FileType::kRegular, old_content);
  const UniqueFd old_fd = open_file(mount / "vm.img");
  ::posix_fadvise(old_fd.get(), 0, 0, POSIX_FADV_RANDOM);
  const std::uint64_t inode = stat_path(mount / "vm.img").st_ino;
  CHECK(difference(read_at(old_fd.get(), 64 * 1024, 0), old_content.substr(0, 64 * 1024)) == "");

  mount.tree.rewrite("vm.img", new_content);

  // Close-to-open: an open sees the new content at once, whatever the kernel had cached.
  const UniqueFd new_fd = open_file(mount / "vm.img");
  REQUIRE(new_fd);
  CHECK(difference(read_at(new_fd.get(), 64 * 1024, 0), new_content.substr(0, 64 * 1024)) == "");
  CHECK(difference(read_all(mount / "vm.img"), new_content) == "");
  CHECK(stat_path(mount / "vm.img").st_ino == inode);
  CHECK(stat_path(mount / "vm.img").st_size == static_cast<off_t>(new_content.size()));

  // Never a mixture: the old handle gives the old content or fails.
  drop_pages(old_fd.get());
  CHECK(difference(read_at(old_fd.get(), 64 * 1024, 0), old_content.substr(0, 64 * 1024)) == "");
  CHECK(read_at(old_fd.get(), 4096, 2 * kMiB) == kStaleAnswer);
  struct stat st = {};
  CHECK(::fstat(old_fd.get(), &st) == 0);
  CHECK(st.st_size == static_cast<off_t>(old_content.size()));
}

TEST_CASE("a mapping of a changed image keeps its pages and gets SIGBUS for the rest") {
  Mounted mount(always_asking());
  const std::string old_content = pattern(4 * kMiB, 1);
  mount.tree.add("vm.mem", FileType::kRegular, old_content);
  const UniqueFd fd = open_file(mount / "vm.mem");
  const auto unmap = [](void* mapping) { ::munmap(mapping, 4 * kMiB); };
  const std::unique_ptr<void, decltype(unmap)> mapping(
      ::mmap(nullptr, 4 * kMiB, PROT_READ, MAP_SHARED, fd.get(), 0), unmap);
  const auto* const at = static_cast<const volatile char*>(mapping.get());
  CHECK(at[0] == old_content[0]);
  mount.tree.rewrite("vm.mem", pattern(4 * kMiB, 2));
  CHECK(difference(read_all(mount / "vm.mem"), pattern(4 * kMiB, 2)) == "");
  CHECK(at[100] == old_content[100]);
  const pid_t child = ::fork();
  if (child == 0) {
    ::signal(SIGBUS, SIG_DFL);
    ::_exit(at[3 * kMiB]);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGBUS);
}

TEST_CASE("an image whose change is noticed by a read is opened anew") {
  Mounted mount;
  mount.tree.add("vm.img", FileType::kRegular, pattern(4 * kMiB, 1));
  const UniqueFd fd = open_file(mount / "vm.img");
  mount.tree.rewrite("vm.img", pattern(4 * kMiB, 2));
  CHECK(read_at(fd.get(), 4096, 0) == kStaleAnswer);
  CHECK(difference(read_all(mount / "vm.img"), pattern(4 * kMiB, 2)) == "");
}

TEST_CASE("a small file that changes in place is the same file with the new content") {
  Mounted mount(always_asking());
  mount.tree.add("vm.vmx", FileType::kRegular, "old content, longer");
  const UniqueFd fd = open_file(mount / "vm.vmx");
  CHECK(read_at(fd.get(), 100, 0) == "old content, longer");

  mount.tree.rewrite("vm.vmx", "new");
  CHECK(read_all(mount / "vm.vmx") == "new");
  mount.tree.rewrite("vm.vmx", "newest and a good deal longer");
  CHECK(read_all(mount / "vm.vmx") == "newest and a good deal longer");
  // The open handle goes on with it, once the kernel has been told.
  std::string seen;
  for (int i = 0; i < 100 && seen != "newest and a good deal longer"; ++i) {
    seen = read_at(fd.get(), 100, 0);
    ::usleep(10'000);
  }
  CHECK(seen == "newest and a good deal longer");
  CHECK(mount.fs().stats().nodes == 1);
}

TEST_CASE("an open sees a small file's new size and content, although the kernel knows the old") {
  FileSystemOptions options;
  options.attr_timeout = std::chrono::seconds(100);
  Mounted mount(options);
  mount.tree.add("log", FileType::kRegular, "1");
  for (int i = 0; i < 50; ++i) {
    const std::string content(static_cast<std::size_t>(1 + (i * 37) % 100),
                              static_cast<char>('a' + i % 26));
    mount.tree.rewrite("log", content);
    CHECK(read_all(mount / "log") == content);
  }
}

TEST_CASE("a small file's reader moves on to the new content when a read finds it changed") {
  FileSystemOptions options;
  options.attr_timeout = std::chrono::seconds(100);
  Mounted mount(options);
  mount.tree.add("file", FileType::kRegular, std::string(200'000, 'a'));
  const UniqueFd fd = open_file(mount / "file", O_RDONLY | O_DIRECT);
  REQUIRE(fd);
  mount.tree.rewrite("file", std::string(200'000, 'b'));
  void* memory = nullptr;
  REQUIRE(::posix_memalign(&memory, 4096, 131072) == 0);
  CHECK(::pread(fd.get(), memory, 131072, 0) == 131072);
  CHECK(static_cast<char*>(memory)[0] == 'b');
  CHECK(static_cast<char*>(memory)[131071] == 'b');
  std::free(memory);
}

TEST_CASE("a replaced file is another file; the old one is read to its last close") {
  Mounted mount(always_asking());
  mount.tree.add("disk", FileType::kRegular, pattern(2 * kMiB, 1));
  const UniqueFd old_fd = open_file(mount / "disk");
  const auto old_inode = stat_path(mount / "disk").st_ino;
  mount.tree.add("disk.new", FileType::kRegular, pattern(2 * kMiB, 2));
  mount.tree.rename("disk.new", "disk");
  CHECK(stat_path(mount / "disk").st_ino != old_inode);
  CHECK(difference(read_all(mount / "disk"), pattern(2 * kMiB, 2)) == "");
  CHECK(difference(read_at(old_fd.get(), kMiB, kMiB), pattern(2 * kMiB, 1).substr(kMiB)) == "");
}

TEST_CASE("a change of ctime alone makes nothing stale and drops no data") {
  Mounted mount(always_asking());
  const std::string content = pattern(2 * kMiB, 1);
  mount.tree.add("disk", FileType::kRegular, content);
  const UniqueFd fd = open_file(mount / "disk");
  CHECK(difference(read_all(mount / "disk"), content) == "");
  const unsigned misses = mount.source.misses;
  mount.tree.touch_ctime("disk");
  mount.tree.link("disk", "linked");
  CHECK(difference(read_at(fd.get(), 2 * kMiB, 0), content) == "");
  CHECK(difference(read_all(mount / "linked"), content) == "");
  CHECK(mount.source.misses == misses);
  CHECK(mount.fs().stats().nodes == 1);
}

TEST_CASE("cached data that is in doubt is confirmed before an open ends") {
  Mounted mount(always_asking());
  mount.tree.add("disk", FileType::kRegular, pattern(2 * kMiB, 1));
  read_all(mount / "disk");
  CHECK(mount.source.confirms == 0);
  mount.cache.must_confirm = true;
  const auto reads = mount.fs().stats().reads;
  CHECK(difference(read_all(mount / "disk"), pattern(2 * kMiB, 1)) == "");
  CHECK(mount.source.confirms == 1);
  CHECK(mount.fs().stats().reads > reads);  // the kernel's pages were in doubt, too
}

TEST_CASE("pages read while a file was young are read again at the next open") {
  Mounted mount(always_asking());
  mount.tree.add("disk", FileType::kRegular, pattern(2 * kMiB, 1));
  mount.tree.set_young("disk", true);
  read_all(mount / "disk");
  mount.tree.set_young("disk", false);
  auto reads = mount.fs().stats().reads;
  read_all(mount / "disk");
  CHECK(mount.fs().stats().reads > reads);
  reads = mount.fs().stats().reads;
  read_all(mount / "disk");
  CHECK(mount.fs().stats().reads == reads);
}
