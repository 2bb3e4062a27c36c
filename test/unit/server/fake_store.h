#pragma once

#include "server/image_store.h"

#include <condition_variable>
#include <cstring>
#include <map>
#include <mutex>

namespace slipway {

/// A file of the fake store: `content` bytes; units listed in `holes` are holes.
struct FakeContent {
  Bytes content;
  std::vector<std::uint64_t> holes;
  VersionRecord version;
};

/// An ImageStore in memory whose reads a test can hold back and count.
class FakeStore final : public ImageStore {
 public:
  /// A file whose unit u is filled with byte fill + u (never zero when fill > 0).
  void add(const std::string& name, std::uint64_t size, unsigned fill) {
    const std::lock_guard lock(mutex_);
    FakeContent& file = files_[name];
    file.content.resize(size);
    for (std::uint64_t i = 0; i < size; ++i)
      file.content[i] = static_cast<std::byte>(fill == 0 ? 0 : 1 + (fill + i / kUnitSize) % 250);
    file.version.id = {0, 100 + files_.size()};
    file.version.size = size;
  }

  void punch(const std::string& name, std::uint64_t unit) {
    files_[name].holes.push_back(unit);
    std::memset(files_[name].content.data() + unit * kUnitSize, 0, kUnitSize);
  }

  void change(const std::string& name) {
    const std::lock_guard lock(mutex_);
    ++files_[name].version.mtime.seconds;
  }

  /// Called before each read of the file, without the lock.
  void on_read(std::function<void(const std::string&)> hook) { hook_ = std::move(hook); }

  /// Reads of `name` wait until release().
  void hold(const std::string& name) {
    const std::lock_guard lock(mutex_);
    held_ = name;
  }

  void release() {
    const std::lock_guard lock(mutex_);
    held_.clear();
    changed_.notify_all();
  }

  /// Blocks until `count` reads are held back.
  void await_held(unsigned count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return held_count_ >= count; });
  }

  std::uint64_t bytes_read() {
    const std::lock_guard lock(mutex_);
    return bytes_read_;
  }

  void await_bytes_read(std::uint64_t bytes) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return bytes_read_ >= bytes; });
  }

  Result<Attributes> getattr(const NodeRef& node) override {
    const std::lock_guard lock(mutex_);
    Attributes attributes;
    attributes.inode_number = 1;
    attributes.version.id = {0, 1};
    attributes.type = FileType::kDirectory;
    if (node.path.empty())
      return attributes;
    const auto found = files_.find(node.path);
    if (found == files_.end())
      return fail(ErrorCode::kNotFound, "no '{}'", node.path);
    attributes.version = found->second.version;
    attributes.type = FileType::kRegular;
    return attributes;
  }

  Result<Attributes> lookup(const NodeRef&, std::string_view name) override {
    return getattr({std::string(name), {}});
  }

  Result<std::string> readlink(const NodeRef&) override {
    return fail(ErrorCode::kInvalid, "not a link");
  }

  Result<StatfsReply> statfs(const NodeRef&) override { return StatfsReply{}; }

  /// Counted; waits while its name is held.
  Status remove(const RemoveRequest& request) override {
    std::unique_lock lock(mutex_);
    ++removals_;
    ++held_count_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return held_ != request.name; });
    --held_count_;
    return {};
  }

  unsigned removals() {
    const std::lock_guard lock(mutex_);
    return removals_;
  }

  Result<std::unique_ptr<ImageDirectory>> open_directory(const NodeRef&,
                                                         std::uint64_t cursor) override;
  Result<std::unique_ptr<ImageFile>> open(const NodeRef& node) override;

 private:
  class File;
  class Directory;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::string, FakeContent> files_;
  std::function<void(const std::string&)> hook_;
  std::string held_;
  unsigned held_count_ = 0;
  unsigned removals_ = 0;
  std::uint64_t bytes_read_ = 0;
};

class FakeStore::File final : public ImageFile {
 public:
  File(FakeStore& store, std::string name) : store_(store), name_(std::move(name)) {}

  Result<Attributes> attributes() override { return store_.getattr({name_, {}}); }

  Result<FileId> shared_id() override {
    SLIPWAY_TRY_ASSIGN(const Attributes found, attributes());
    return found.version.id;
  }

  Result<ImageChunk> read(const ReadWish& wish, Bytes& to) override {
    if (store_.hook_)
      store_.hook_(name_);
    std::unique_lock lock(store_.mutex_);
    if (store_.held_ == name_) {
      ++store_.held_count_;
      store_.changed_.notify_all();
      store_.changed_.wait(lock, [&] { return store_.held_ != name_; });
      --store_.held_count_;
    }
    const FakeContent& file = store_.files_.at(name_);
    ImageChunk chunk;
    chunk.version = file.version;
    const ByteRange wanted = clamp_to_size(wish.range, file.version.size);
    std::uint64_t at = wanted.offset;
    for (std::size_t room = wish.data_max; at < wanted.end();) {
      const std::uint64_t length = std::min<std::uint64_t>(kUnitSize, wanted.end() - at);
      const bool hole = std::count(file.holes.begin(), file.holes.end(), unit_of(at)) != 0;
      if (!hole && room == 0)
        break;
      chunk.runs.push_back({hole ? ImageRunKind::kHole : ImageRunKind::kData, {at, length}});
      if (!hole) {
        append(to, ByteView(file.content).subspan(at, length));
        room -= std::min<std::size_t>(room, length);
        store_.bytes_read_ += length;
      }
      at += length;
    }
    chunk.end = at;
    store_.changed_.notify_all();
    return chunk;
  }

 private:
  FakeStore& store_;
  const std::string name_;
};

class FakeStore::Directory final : public ImageDirectory {
 public:
  Directory(FakeStore& store, std::uint64_t cursor) : store_(store), at_(cursor) {}

  Result<std::optional<DirectoryEntry>> next() override {
    std::string name;
    {
      const std::lock_guard lock(store_.mutex_);
      if (at_ >= store_.files_.size())
        return std::optional<DirectoryEntry>();
      name = std::next(store_.files_.begin(), static_cast<std::ptrdiff_t>(at_))->first;
    }
    SLIPWAY_TRY_ASSIGN(Attributes attributes, store_.getattr({name, {}}));
    return DirectoryEntry{++at_, name, attributes};
  }

 private:
  FakeStore& store_;
  std::uint64_t at_;
};

inline Result<std::unique_ptr<ImageDirectory>> FakeStore::open_directory(const NodeRef&,
                                                                         std::uint64_t cursor) {
  return std::make_unique<Directory>(*this, cursor);
}

inline Result<std::unique_ptr<ImageFile>> FakeStore::open(const NodeRef& node) {
  SLIPWAY_TRY(getattr(node));
  return std::make_unique<File>(*this, node.path);
}

}  // namespace slipway
