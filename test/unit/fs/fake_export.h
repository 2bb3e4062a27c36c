#pragma once

#include "base/unique_fd.h"
#include "cache/block_cache.h"
#include "remote/remote_session.h"
#include "source/cached_source.h"

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace slipway {

/// A network that the test steers: answers come on its thread, in order, unless it is cut; then
/// they wait, and cancelled calls fail at once.
class FakeNetwork {
 public:
  FakeNetwork();
  ~FakeNetwork();

  CallId submit(std::function<void()> answer, std::function<void(ErrorCode)> fail);
  void cancel(CallId id);
  void cut();
  void restore();
  /// Everything that waits now fails with this code.
  void fail_with(ErrorCode code);
  std::size_t waiting();
  void wait_until_waiting(std::size_t calls);

 private:
  struct Call {
    CallId id = 0;
    std::function<void()> answer;
    std::function<void(ErrorCode)> fail;
  };

  void run();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Call> calls_;
  CallId next_ = 1;
  bool cut_ = false;
  bool stopping_ = false;
  std::thread thread_;
};

/// A file of the fake export: what an inode is.
struct FakeFile {
  Attributes attributes;
  std::string content;            ///< or a link's target
  std::set<std::uint64_t> holes;  ///< units that were never written
};

/// An export in memory, which the test changes as a foreign writer would. Locks itself.
class FakeTree {
 public:
  FakeTree();

  std::shared_ptr<FakeFile> add(const std::string& path, FileType type,
                                const std::string& content = "");
  void link(const std::string& from, const std::string& to);
  void rename(const std::string& from, const std::string& to);
  void remove(const std::string& path);
  /// New content in place: size, mtime and ctime move on, the inode stays.
  void rewrite(const std::string& path, const std::string& content);
  /// ctime alone.
  void touch_ctime(const std::string& path);
  void set_young(const std::string& path, bool young);
  /// Units [from, end) of bytes become holes.
  void punch(const std::string& path, std::uint64_t from, std::uint64_t end);

  std::shared_ptr<FakeFile> find(const std::string& path);
  std::map<std::string, std::shared_ptr<FakeFile>> children(const std::string& path);
  Attributes attributes(const std::shared_ptr<FakeFile>& file);

  std::mutex& mutex() { return mutex_; }

 private:
  Timestamp tick();

  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<FakeFile>> files_;
  std::uint64_t next_inode_ = (std::uint64_t{1} << 40) + 1;  ///< 64-bit numbers on purpose
  std::int64_t clock_ = 1'600'000'000;
};

class FakeRemote final : public RemoteSession {
 public:
  FakeRemote(FakeTree& tree, FakeNetwork& network);

  const ServerSetup& server() const noexcept override { return setup_; }

  const std::string& anchor() const noexcept override { return anchor_; }

  CallId lookup(const NodeRef& directory, const std::string& name, Done<Attributes> done) override;
  CallId getattr(std::uint64_t handle, const NodeRef& node, Done<Attributes> done) override;
  CallId readdir(const NodeRef& directory, std::uint64_t cursor, Done<ReaddirReply> done) override;
  CallId readlink(const NodeRef& node, Done<ReadlinkReply> done) override;
  CallId statfs(const NodeRef& node, Done<StatfsReply> done) override;
  CallId open(const NodeRef& node, Done<OpenedHandle> done) override;
  void close(std::uint64_t handle) override;
  CallId confirm(ConfirmRequest request, Done<ConfirmReply> done) override;
  CallId read(RemoteReadRequest request, std::shared_ptr<RemoteReadSink> sink) override;

  void cancel(CallId call) override { network_.cancel(call); }

  RemoteStatus status() const override { return {}; }

  void stop() override {}

  std::shared_ptr<FakeFile> handle_file(std::uint64_t handle);
  std::size_t open_handles();

  std::atomic<unsigned> lookups{0}, getattrs{0}, readdirs{0}, readlinks{0}, opens{0};
  std::atomic<std::size_t> entries_per_answer{kReaddirEntriesMax};

  /// What a hostile server makes of its answers.
  void corrupt(std::function<void(Attributes&)> attributes);
  void corrupt_readdir(std::function<void(ReaddirReply&)> reply);

 private:
  Result<std::shared_ptr<FakeFile>> resolve(const NodeRef& node);
  template <class T, class Answer>
  CallId call(Done<T> done, Answer answer);
  Attributes shown(const std::shared_ptr<FakeFile>& file);

  FakeTree& tree_;
  FakeNetwork& network_;
  ServerSetup setup_;
  std::string anchor_ = "fake";
  std::mutex mutex_;
  std::function<void(Attributes&)> corrupt_;
  std::function<void(ReaddirReply&)> corrupt_readdir_;
  std::map<std::uint64_t, std::shared_ptr<FakeFile>> handles_;
  std::uint64_t next_handle_ = 1;
};

/// Remembers what was read of each version in a file, like a cache: a second read is a hit, spliced
/// from it, and needs no network. What arrives is delivered from memory.
class FakeSource final : public CachedSource {
 public:
  FakeSource(FakeTree& tree, FakeRemote& remote, FakeNetwork& network);

  ReadId read(SourceRead request, std::shared_ptr<ReadSink> sink) override;

  void cancel(ReadId id) override { network_.cancel(id); }

  void confirm(std::shared_ptr<const Image> image, std::function<void(Status)> done) override;

  void forget(const CachedFile&) override {}

  CachedSourceStats stats() const override { return {}; }

  std::atomic<unsigned> misses{0}, confirms{0};
  std::atomic<bool> lose_a_piece{false};  ///< a defect: content with a gap

 private:
  struct Stored {
    std::set<std::uint64_t> units;
    UniqueFd file;
  };

  using Key = std::pair<std::uint64_t, Timestamp>;  ///< inode and mtime: one content

  Status fetch(const Image& image, const ByteRange& range);
  std::vector<Piece> pieces(const Image& image, const ByteRange& range, bool arrived);
  bool has(const Image& image, const ByteRange& range);

  FakeTree& tree_;
  FakeRemote& remote_;
  FakeNetwork& network_;
  std::mutex mutex_;
  std::map<Key, Stored> stored_;
  std::map<Key, std::set<std::uint64_t>> holes_;
};

class FakeCache final : public BlockCache {
 public:
  Result<CacheOpen> open_file(const ExportKey&, const VersionRecord&) override {
    CacheOpen open;
    open.must_confirm = must_confirm;
    return open;
  }

  bool store(std::shared_ptr<CachedFile>, const VersionRecord&, std::vector<StoreRun>,
             std::function<void()>) override {
    return false;
  }

  std::array<std::byte, 16> client_id() const noexcept override { return {}; }

  CacheStats stats() const override { return {}; }

  void close() override {}

  std::atomic<bool> must_confirm{false};
};

/// `size` bytes that differ from place to place and from seed to seed.
std::string pattern(std::size_t size, unsigned seed);

}  // namespace slipway
