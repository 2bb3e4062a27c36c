#include "fake_export.h"

#include "base/units.h"

#include <algorithm>
#include <utility>

namespace slipway {

// FakeNetwork

FakeNetwork::FakeNetwork() : thread_([this] { run(); }) {}

FakeNetwork::~FakeNetwork() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    changed_.notify_all();
  }
  thread_.join();
}

CallId FakeNetwork::submit(std::function<void()> answer, std::function<void(ErrorCode)> fail) {
  const std::lock_guard lock(mutex_);
  calls_.push_back({next_, std::move(answer), std::move(fail)});
  changed_.notify_all();
  return next_++;
}

void FakeNetwork::cancel(CallId id) {
  Call cancelled;
  {
    const std::lock_guard lock(mutex_);
    const auto found =
        std::find_if(calls_.begin(), calls_.end(), [&](const Call& call) { return call.id == id; });
    if (found == calls_.end())
      return;
    cancelled = std::move(*found);
    calls_.erase(found);
    changed_.notify_all();
  }
  cancelled.fail(ErrorCode::kCancelled);
}

void FakeNetwork::cut() {
  const std::lock_guard lock(mutex_);
  cut_ = true;
}

void FakeNetwork::restore() {
  const std::lock_guard lock(mutex_);
  cut_ = false;
  changed_.notify_all();
}

void FakeNetwork::fail_with(ErrorCode code) {
  std::deque<Call> failing;
  {
    const std::lock_guard lock(mutex_);
    failing.swap(calls_);
    changed_.notify_all();
  }
  for (const Call& call : failing)
    call.fail(code);
}

std::size_t FakeNetwork::waiting() {
  const std::lock_guard lock(mutex_);
  return calls_.size();
}

void FakeNetwork::wait_until_waiting(std::size_t calls) {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return calls_.size() >= calls; });
}

void FakeNetwork::run() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [&] { return stopping_ || (!cut_ && !calls_.empty()); });
    if (stopping_)
      return;
    Call call = std::move(calls_.front());
    calls_.pop_front();
    lock.unlock();
    call.answer();
    call = {};
    lock.lock();
  }
}

// FakeTree

FakeTree::FakeTree() {
  add("", FileType::kDirectory);
}

Timestamp FakeTree::tick() {
  return {++clock_, 123'456'789};
}

std::shared_ptr<FakeFile> FakeTree::add(const std::string& path, FileType type,
                                        const std::string& content) {
  const std::lock_guard lock(mutex_);
  auto file = std::make_shared<FakeFile>();
  file->content = content;
  Attributes& a = file->attributes;
  a.version.id = {1, next_inode_};
  a.inode_number = next_inode_++;
  a.version.birth = a.version.mtime = a.version.ctime = a.atime = tick();
  a.type = type;
  a.mode = type == FileType::kDirectory ? 0755 : type == FileType::kSymlink ? 0777 : 0644;
  a.nlink = type == FileType::kDirectory ? 2 : 1;
  a.uid = a.gid = 4242;
  a.version.size = content.size();
  a.allocated = (content.size() + 4095) / 4096 * 4096;
  files_[path] = file;
  return file;
}

void FakeTree::link(const std::string& from, const std::string& to) {
  const std::lock_guard lock(mutex_);
  const auto file = files_.at(from);
  ++file->attributes.nlink;
  file->attributes.version.ctime = tick();
  files_[to] = file;
}

void FakeTree::rename(const std::string& from, const std::string& to) {
  const std::lock_guard lock(mutex_);
  std::map<std::string, std::shared_ptr<FakeFile>> moved;
  for (auto at = files_.lower_bound(from); at != files_.end();) {
    const bool below = at->first == from || at->first.rfind(from + "/", 0) == 0;
    if (below) {
      moved[to + at->first.substr(from.size())] = at->second;
      at = files_.erase(at);
    } else {
      ++at;
    }
  }
  for (auto& [path, file] : moved)
    files_[path] = file;
}

void FakeTree::remove(const std::string& path) {
  const std::lock_guard lock(mutex_);
  --files_.at(path)->attributes.nlink;
  files_.erase(path);
}

void FakeTree::rewrite(const std::string& path, const std::string& content) {
  const std::lock_guard lock(mutex_);
  FakeFile& file = *files_.at(path);
  file.content = content;
  file.attributes.version.size = content.size();
  file.attributes.version.mtime = file.attributes.version.ctime = tick();
}

void FakeTree::touch_ctime(const std::string& path) {
  const std::lock_guard lock(mutex_);
  files_.at(path)->attributes.version.ctime = tick();
}

void FakeTree::set_young(const std::string& path, bool young) {
  const std::lock_guard lock(mutex_);
  files_.at(path)->attributes.young = young;
}

void FakeTree::punch(const std::string& path, std::uint64_t from, std::uint64_t end) {
  const std::lock_guard lock(mutex_);
  for (std::uint64_t at = from; at < end; at += kUnitSize)
    files_.at(path)->holes.insert(unit_of(at));
}

std::shared_ptr<FakeFile> FakeTree::find(const std::string& path) {
  const std::lock_guard lock(mutex_);
  const auto found = files_.find(path);
  return found == files_.end() ? nullptr : found->second;
}

std::map<std::string, std::shared_ptr<FakeFile>> FakeTree::children(const std::string& path) {
  const std::lock_guard lock(mutex_);
  const std::string prefix = path.empty() ? "" : path + "/";
  std::map<std::string, std::shared_ptr<FakeFile>> found;
  for (const auto& [at, file] : files_) {
    if (at.size() > prefix.size() && at.rfind(prefix, 0) == 0 &&
        at.find('/', prefix.size()) == std::string::npos)
      found[at.substr(prefix.size())] = file;
  }
  return found;
}

Attributes FakeTree::attributes(const std::shared_ptr<FakeFile>& file) {
  const std::lock_guard lock(mutex_);
  return file->attributes;
}

// FakeRemote

FakeRemote::FakeRemote(FakeTree& tree, FakeNetwork& network) : tree_(tree), network_(network) {
  setup_.export_root = "/srv/images";
  setup_.root = tree.attributes(tree.find(""));
}

Attributes FakeRemote::shown(const std::shared_ptr<FakeFile>& file) {
  Attributes attributes = tree_.attributes(file);
  const std::lock_guard lock(mutex_);
  if (corrupt_)
    corrupt_(attributes);
  return attributes;
}

Result<std::shared_ptr<FakeFile>> FakeRemote::resolve(const NodeRef& node) {
  auto file = tree_.find(node.path);
  if (!file)
    return fail(ErrorCode::kNotFound, "'{}'", node.path);
  if (!node.expected.any() && tree_.attributes(file).version.id != node.expected)
    return fail(ErrorCode::kStale, "'{}'", node.path);
  return file;
}

template <class T, class Answer>
CallId FakeRemote::call(Done<T> done, Answer answer) {
  return network_.submit([done, answer]() mutable { done(answer()); },
                         [done](ErrorCode code) { done(fail(code, "as the test wants")); });
}

CallId FakeRemote::lookup(const NodeRef& directory, const std::string& name,
                          Done<Attributes> done) {
  ++lookups;
  return call<Attributes>(std::move(done), [this, directory, name]() -> Result<Attributes> {
    SLIPWAY_TRY(resolve(directory));
    const auto path = directory.path.empty() ? name : directory.path + "/" + name;
    SLIPWAY_TRY_ASSIGN(const auto file, resolve({path, {}}));
    return shown(file);
  });
}

CallId FakeRemote::getattr(std::uint64_t handle, const NodeRef& node, Done<Attributes> done) {
  ++getattrs;
  return call<Attributes>(std::move(done), [this, handle, node]() -> Result<Attributes> {
    if (const auto open = handle_file(handle))
      return shown(open);
    SLIPWAY_TRY_ASSIGN(const auto file, resolve(node));
    return shown(file);
  });
}

CallId FakeRemote::readdir(const NodeRef& directory, std::uint64_t cursor,
                           Done<ReaddirReply> done) {
  ++readdirs;
  return call<ReaddirReply>(std::move(done), [this, directory, cursor]() -> Result<ReaddirReply> {
    SLIPWAY_TRY(resolve(directory));
    ReaddirReply reply;
    std::uint64_t at = 0;
    reply.end = true;
    for (const auto& [name, file] : tree_.children(directory.path)) {
      if (++at <= cursor)
        continue;
      if (reply.entries.size() == entries_per_answer) {
        reply.end = false;
        break;
      }
      reply.entries.push_back({at, name, shown(file)});
    }
    const std::lock_guard lock(mutex_);
    if (corrupt_readdir_)
      corrupt_readdir_(reply);
    return reply;
  });
}

CallId FakeRemote::readlink(const NodeRef& node, Done<ReadlinkReply> done) {
  ++readlinks;
  return call<ReadlinkReply>(std::move(done), [this, node]() -> Result<ReadlinkReply> {
    SLIPWAY_TRY_ASSIGN(const auto file, resolve(node));
    return ReadlinkReply{file->content};
  });
}

CallId FakeRemote::statfs(const NodeRef&, Done<StatfsReply> done) {
  return call<StatfsReply>(std::move(done), []() -> Result<StatfsReply> {
    return StatfsReply{1000, 500, 400, 100, 50, 255};
  });
}

CallId FakeRemote::open(const NodeRef& node, Done<OpenedHandle> done) {
  ++opens;
  return call<OpenedHandle>(std::move(done), [this, node]() -> Result<OpenedHandle> {
    SLIPWAY_TRY_ASSIGN(const auto file, resolve(node));
    const Attributes attributes = shown(file);
    const std::lock_guard lock(mutex_);
    handles_[next_handle_] = file;
    return OpenedHandle{next_handle_++, attributes};
  });
}

void FakeRemote::close(std::uint64_t handle) {
  const std::lock_guard lock(mutex_);
  handles_.erase(handle);
}

CallId FakeRemote::confirm(ConfirmRequest, Done<ConfirmReply> done) {
  done(fail(ErrorCode::kNotSupported, "the source confirms"));
  return 1;
}

CallId FakeRemote::read(RemoteReadRequest, std::shared_ptr<RemoteReadSink> sink) {
  sink->on_done(fail(ErrorCode::kNotSupported, "the source reads"));
  return 1;
}

void FakeRemote::corrupt(std::function<void(Attributes&)> attributes) {
  const std::lock_guard lock(mutex_);
  corrupt_ = std::move(attributes);
}

void FakeRemote::corrupt_readdir(std::function<void(ReaddirReply&)> reply) {
  const std::lock_guard lock(mutex_);
  corrupt_readdir_ = std::move(reply);
}

std::shared_ptr<FakeFile> FakeRemote::handle_file(std::uint64_t handle) {
  const std::lock_guard lock(mutex_);
  const auto found = handles_.find(handle);
  return found == handles_.end() ? nullptr : found->second;
}

std::size_t FakeRemote::open_handles() {
  const std::lock_guard lock(mutex_);
  return handles_.size();
}

}  // namespace slipway
