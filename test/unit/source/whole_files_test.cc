#include "source/whole_files.h"

#include "hand_clock.h"
#include "remote/remote_session.h"
#include "support/catch.h"
#include "support/fake_block_cache.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

namespace slipway {
namespace {

VersionRecord version_of(std::uint64_t inode, std::uint64_t size) {
  VersionRecord version;
  version.id = {1, inode};
  version.size = size;
  version.mtime = {1'700'000'000, 5};
  version.ctime = {1'700'000'000, 6};
  return version;
}

/// A server with one directory; it answers inside the call. Any thread.
class DirectorySession final : public RemoteSession {
 public:
  void add(const std::string& name, std::uint64_t size, bool young = false) {
    DirectoryEntry entry;
    entry.name = name;
    entry.next = entries_.size() + 1;
    entry.attributes.version = version_of(100 + entries_.size(), size);
    entry.attributes.inode_number = entry.attributes.version.id.inode;
    entry.attributes.nlink = 1;
    entry.attributes.young = young;
    entries_.push_back(entry);
  }

  /// What an open finds there, which the listing did not tell.
  void change_behind_listing(const std::string& path, const VersionRecord& now) {
    changed_[path] = now;
  }

  CallId readdir(const NodeRef& directory, std::uint64_t, Done<ReaddirReply> done) override {
    {
      const std::lock_guard lock(mutex_);
      listed_.push_back(directory.path);
    }
    done(ReaddirReply{entries_, true});
    return 1;
  }

  CallId open(const NodeRef& node, Done<OpenedHandle> done) override {
    OpenedHandle opened;
    {
      const std::lock_guard lock(mutex_);
      opened.handle = ++last_handle_;
      opened_.push_back(node.path);
      open_.insert(opened.handle);
    }
    const std::string name = node.path.substr(node.path.rfind('/') + 1);
    const auto entry = std::find_if(entries_.begin(), entries_.end(),
                                    [&](const DirectoryEntry& e) { return e.name == name; });
    REQUIRE(entry != entries_.end());
    opened.attributes = entry->attributes;
    if (const auto now = changed_.find(node.path); now != changed_.end())
      opened.attributes.version = now->second;
    done(opened);
    return 1;
  }

  void close(std::uint64_t handle) override {
    const std::lock_guard lock(mutex_);
    open_.erase(handle);
    closed_.notify_all();
  }

  std::vector<std::string> listed() const {
    const std::lock_guard lock(mutex_);
    return listed_;
  }

  /// Sorted, once so many were opened and all handles are closed again. Of one listing all files are
  /// opened before the first one is brought and closed.
  std::vector<std::string> opened(std::size_t count) {
    std::unique_lock lock(mutex_);
    const bool good = closed_.wait_for(lock, std::chrono::seconds(20), [&] {
      return opened_.size() >= count && open_.empty();
    });
    CHECK(good);
    std::vector<std::string> all = opened_;
    std::sort(all.begin(), all.end());
    return all;
  }

  const ServerSetup& server() const noexcept override { return server_; }

  const std::string& anchor() const noexcept override { return anchor_; }

  CallId lookup(const NodeRef&, const std::string&, Done<Attributes>) override { return 1; }

  CallId getattr(std::uint64_t, const NodeRef&, Done<Attributes>) override { return 1; }

  CallId readlink(const NodeRef&, Done<ReadlinkReply>) override { return 1; }

  CallId statfs(const NodeRef&, Done<StatfsReply>) override { return 1; }

  CallId confirm(ConfirmRequest, Done<ConfirmReply>) override { return 1; }

  CallId read(RemoteReadRequest, std::shared_ptr<RemoteReadSink>) override { return 1; }

  void cancel(CallId) override {}

  RemoteStatus status() const override { return {}; }

  void stop() override {}

 private:
  std::vector<DirectoryEntry> entries_;
  std::map<std::string, VersionRecord> changed_;
  mutable std::mutex mutex_;
  std::condition_variable closed_;
  std::vector<std::string> listed_;
  std::vector<std::string> opened_;
  std::set<std::uint64_t> open_;
  std::uint64_t last_handle_ = 0;
  ServerSetup server_;
  std::string anchor_;
};

/// Stores what is asked for, as a CachedSource over a network does.
class StoringSource final : public BlockSource {
 public:
  explicit StoringSource(FakeBlockCache& cache) : cache_(cache) {}

  ReadId read(SourceRead request, std::shared_ptr<ReadSink> sink) override {
    CHECK(request.priority == Priority::kPrefetch);
    const auto bytes = std::make_shared<const Bytes>(request.image->version.size, std::byte{7});
    StoreRun run;
    run.range = {0, bytes->size()};
    run.bytes = *bytes;
    run.owner = bytes;
    cache_.store(request.image->cached, request.image->version, {run}, [] {});
    sink->on_done({});
    return 1;
  }

  void cancel(ReadId) override {}

 private:
  FakeBlockCache& cache_;
};

struct Rig {
  DirectorySession session;
  FakeBlockCache cache;
  StoringSource source{cache};
  HandClock clock;
  std::set<std::string> left_out;
  WholeFiles::Parts parts{session, cache, source, ExportKey{},
                          [this](const std::string& path) { return left_out.contains(path); },
                          clock};
  std::unique_ptr<WholeFiles> whole = std::make_unique<WholeFiles>(parts);

  void add_machine() {
    session.add("vm.vmx", 3000);
    session.add("vm.vmsd", 200);
    session.add("vm.nvram", 270'000);
    session.add("disk.vmdk", 700);
    session.add("disk-flat.vmdk", 1 << 30);
    session.add("vmware.log", 300'000);
  }
};

const std::vector<std::string> kBrought = {"m/disk.vmdk", "m/vm.nvram", "m/vm.vmsd", "m/vm.vmx"};

}  // namespace

TEST_CASE("opening one small file of a machine brings the others into the cache") {
  Rig rig;
  rig.add_machine();
  rig.whole->opening({"m/vm.vmx", {}}, 3000);
  CHECK(rig.session.opened(4) == kBrought);
  CHECK(rig.session.listed() == std::vector<std::string>{"m"});
  rig.whole.reset();  // every read has been taken note of
  CHECK(rig.cache.open(version_of(102, 270'000))->complete());
  CHECK(rig.cache.open(version_of(103, 700))->complete());
  CHECK_FALSE(rig.cache.open(version_of(105, 300'000))->complete());
}

TEST_CASE("a directory is listed again only after a while, and what is here is not brought twice") {
  Rig rig;
  rig.add_machine();
  rig.whole->opening({"m/vm.vmx", {}}, 3000);
  rig.session.opened(4);
  rig.whole->opening({"m/vm.vmsd", {}}, 200);
  CHECK(rig.session.listed().size() == 1);
  rig.whole->opening({"other/vm.vmsd", {}}, 200);
  CHECK(rig.session.listed().size() == 2);
  rig.clock.advance(WholeFiles::kAgain);
  rig.session.add("new.vmxf", 100);
  rig.whole->opening({"m/vm.vmx", {}}, 3000);
  CHECK(rig.session.listed().size() == 3);
  // The second directory names the same files, so that it has them already, too.
  CHECK(rig.session.opened(5).size() == 5);
}

TEST_CASE("directories without a machine, large files and young ones are left to demand") {
  Rig rig;
  SECTION("no machine") {
    rig.session.add("README.txt", 3000);
    rig.session.add("settings.json", 200);
    rig.whole->opening({"m/README.txt", {}}, 3000);
    rig.whole.reset();
    CHECK(rig.session.listed().size() == 1);
  }
  SECTION("large") {
    rig.add_machine();
    rig.whole->opening({"m/disk-flat.vmdk", {}}, 1 << 30);
    rig.whole.reset();
    CHECK(rig.session.listed().empty());
  }
  SECTION("young") {
    rig.session.add("disk.qcow2", 1 << 30);
    rig.session.add("vm.vmx", 3000, /*young=*/true);
    rig.whole->opening({"m/vm.vmx", {}}, 3000);
    rig.whole.reset();
  }
  SECTION("left out") {
    rig.session.add("disk.qcow2", 1 << 30);
    rig.session.add("vm.vmx", 3000);
    rig.session.add("vm.vmsd", 200);
    rig.left_out.insert("m/vm.vmx");
    rig.whole->opening({"m/other.vmx", {}}, 3000);
    CHECK(rig.session.opened(1) == std::vector<std::string>{"m/vm.vmsd"});
    return;
  }
  CHECK(rig.session.opened(0).empty());
}

TEST_CASE("what a directory may bring is bounded in files and bytes, small files first") {
  Rig rig;
  rig.session.add("disk.raw", 1 << 30);
  SECTION("files") {
    for (int i = 0; i < 200; i++)
      rig.session.add("note" + std::to_string(i), 100);
    rig.whole->opening({"m/note1", {}}, 100);
    CHECK(rig.session.opened(WholeFiles::kFilesMax).size() == WholeFiles::kFilesMax);
  }
  SECTION("bytes") {
    for (int i = 0; i < 5; i++)
      rig.session.add("a" + std::to_string(i) + ".xml", 900'000);
    rig.session.add("z.vmx", 1000);
    rig.whole->opening({"m/z.vmx", {}}, 1000);
    CHECK(rig.session.opened(3) == std::vector<std::string>{"m/a0.xml", "m/a1.xml", "m/z.vmx"});
  }
}

TEST_CASE("what comes is kept as the version that the open names, not the listing") {
  Rig rig;
  rig.add_machine();
  const VersionRecord now = version_of(101, 250);
  rig.session.change_behind_listing("m/vm.vmsd", now);
  rig.whole->opening({"m/vm.vmx", {}}, 3000);
  rig.session.opened(4);
  rig.whole.reset();
  CHECK_FALSE(rig.cache.open(version_of(101, 200))->complete());
  CHECK(rig.cache.open(now)->complete());
}

}  // namespace slipway
