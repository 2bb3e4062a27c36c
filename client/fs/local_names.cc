#include "fs/local_names.h"

#include "base/log.h"
#include "fs/asking.h"
#include "fs/path_names.h"

#include <algorithm>
#include <utility>

namespace slipway {
namespace {

/// Whatever went wrong, the server's own way of making a name tells better, or waits longer.
Error as_the_servers_to_do(const Error& error) {
  if (error.code == ErrorCode::kCancelled)
    return error;
  return {ErrorCode::kNotSupported, error.message};
}

FileType type_of(MakeKind kind) {
  return kind == MakeKind::kDirectory ? FileType::kDirectory : FileType::kRegular;
}

Error refusal(const std::string& name) {
  return {ErrorCode::kNotSupported, fmt::format("'{}' is the server's to make", escape(name))};
}

}  // namespace

bool LocalNames::is_pending_directory(const std::string& path) const {
  const auto known = writeback_.pending().find(path);
  return known && known->attributes.type == FileType::kDirectory;
}

void LocalNames::prepare(const NodeView& directory, const std::string& name, MakeKind kind,
                         Done<Attributes> done, const Slot& slot) {
  const bool is_ours = is_pending_directory(directory.path);
  if (writeback_.pending().find(path_of(directory.path, name)))
    return done(fail(ErrorCode::kExists, "'{}' is there already", escape(name)));
  if (is_ours) {
    if (Result<Attributes> inode = take(kind)) {
      refill();
      return done(std::move(inode));
    }
  }
  PrepareRequest question;
  question.directory = is_ours ? NodeRef{"", remote_.server().root.version.id} : directory.ref();
  question.name = is_ours ? "" : name;
  const bool is_stocked = has(kind);
  if (!is_stocked && !order(question))
    return done(fail(refusal(name)));
  // Who is killed is let go; what the server prepares comes all the same, and a tidying that ran late would
  // take away what was prepared after it.
  const auto asking = std::make_shared<Asking<Attributes>>(std::move(done));
  slot->bind(slot->begin(), [asking] { asking->give_up(); });
  remote_.prepare(question, [this, kind, is_ours, name, is_tidy = question.tidy,
                             asking](const Result<PrepareReply>& reply) {
    add(is_tidy, reply);
    if (!asking->start())
      return;  // who asked has gone
    if (!reply)
      asking->answer(fail(as_the_servers_to_do(reply.error())));
    else if (!is_ours && (!reply->may_make || reply->exists))
      asking->answer(fail(refusal(name)));
    else
      asking->answer(take(kind));
  });
  if (is_stocked)
    refill();
}

bool LocalNames::has(MakeKind kind) {
  const std::lock_guard lock(mutex_);
  return !stock_of(kind).inodes.empty();
}

void LocalNames::check_free(const NodeView& directory, const std::string& name, Done<Nothing> done,
                            const Slot& slot) {
  if (is_pending_directory(directory.path))
    return done(Nothing{});
  PrepareRequest question;
  question.directory = directory.ref();
  question.name = name;
  const unsigned step = slot->begin();
  const CallId call = remote_.prepare(
      question, [name, done = std::move(done)](const Result<PrepareReply>& reply) {
        if (!reply)
          return done(fail(as_the_servers_to_do(reply.error())));
        if (!reply->may_make || reply->exists)
          return done(fail(refusal(name)));
        done(Nothing{});
      });
  slot->bind(step, [this, call] { remote_.cancel(call); });
}

Result<Attributes> LocalNames::take(MakeKind kind) {
  const std::lock_guard lock(mutex_);
  Stock& stock = stock_of(kind);
  if (auto unused = writeback_.take_unused(type_of(kind)))
    return std::move(*unused);
  if (stock.inodes.empty()) {
    stock.wanted = std::min<std::uint32_t>(2 * stock.wanted, kPrepareMax);
    return fail(ErrorCode::kNotSupported, "the server has no inodes prepared");
  }
  Attributes inode = std::move(stock.inodes.front());
  stock.inodes.pop_front();
  return inode;
}

/// As many inodes as are missing, which costs the server a few syncs. The first order also says which of
/// an earlier mount's are needed. False: not now.
bool LocalNames::order(PrepareRequest& request) {
  const auto missing = [](const Stock& stock) {
    return stock.wanted - std::min(stock.wanted, static_cast<std::uint32_t>(stock.inodes.size()));
  };
  const std::lock_guard lock(mutex_);
  if (tidying_ == Tidying::kAsked)
    return false;
  request.files = missing(files_);
  request.directories = missing(directories_);
  if (tidying_ == Tidying::kDone)
    return true;
  request.kept = writeback_.prepared_ids();
  request.tidy = request.kept.size() <= kPrepareKeptMax;
  if (!request.tidy)
    request.kept.clear();
  tidying_ = request.tidy ? Tidying::kAsked : Tidying::kDone;
  return true;
}

void LocalNames::add(bool was_tidy, const Result<PrepareReply>& reply) {
  const std::lock_guard lock(mutex_);
  if (was_tidy)
    tidying_ = reply ? Tidying::kDone : Tidying::kDue;
  if (!reply)
    return;
  files_.inodes.insert(files_.inodes.end(), reply->files.begin(), reply->files.end());
  directories_.inodes.insert(directories_.inodes.end(), reply->directories.begin(),
                             reply->directories.end());
}

/// In the background, before the last one is taken.
void LocalNames::refill() {
  {
    const std::lock_guard lock(mutex_);
    const auto is_low = [](const Stock& stock) { return stock.inodes.size() < stock.wanted / 2; };
    if (is_refilling_ || (!is_low(files_) && !is_low(directories_)))
      return;
    is_refilling_ = true;
  }
  PrepareRequest request;
  request.directory = {"", remote_.server().root.version.id};
  if (!order(request)) {
    const std::lock_guard lock(mutex_);
    is_refilling_ = false;
    return;
  }
  remote_.prepare(request, [this, is_tidy = request.tidy](const Result<PrepareReply>& reply) {
    add(is_tidy, reply);
    const std::lock_guard lock(mutex_);
    is_refilling_ = false;
  });
}

}  // namespace slipway
