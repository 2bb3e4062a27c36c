#include "fs/names.h"

#include "base/log.h"
#include "fs/contained_link.h"
#include "fs/path_names.h"

#include <algorithm>
#include <utility>

namespace slipway {
namespace {

TimePoint steady_now() noexcept {
  return SteadyClock::instance().now();
}

/// A node's own name is gone: the kernel is to look the path up again (it does so on ESTALE).
Error as_stale_when_gone(Error error) {
  if (error.code == ErrorCode::kNotFound || error.code == ErrorCode::kNotDirectory)
    error.code = ErrorCode::kStale;
  return error;
}

bool is_link_trouble(ErrorCode code) noexcept {
  return code == ErrorCode::kTimedOut || code == ErrorCode::kDisconnected;
}

Status check_plausible(const Attributes& attributes) {
  if (!is_plausible(attributes))
    return fail(ErrorCode::kProtocol, "impossible attributes");
  return {};
}

}  // namespace

Names::Names(RemoteSession& remote, InodeTable& table, KernelCaches& caches, Duration attr_timeout,
             LocalContentOf local, const PendingNames* pending)
    : remote_(remote),
      table_(table),
      caches_(caches),
      attr_timeout_(attr_timeout),
      local_(std::move(local)),
      pending_(pending) {}

/// What stands at a path that the server does not know yet, with what is written to it. A file that has
/// nothing unsent any more got to the server a moment ago: that tells then.
std::optional<Attributes> Names::pending(const std::string& path) const {
  const auto known = pending_ == nullptr ? std::nullopt : pending_->find(path);
  if (!known)
    return std::nullopt;
  Attributes shown = known->attributes;
  if (shown.type != FileType::kRegular)
    return shown;
  const auto local = local_ ? local_(shown.version.id) : std::nullopt;
  if (!local)
    return std::nullopt;
  shown.version.size = local->size;
  shown.version.mtime = local->mtime;
  return shown;
}

TimedAttributes Names::timed(const Attributes& attributes, TimePoint fetched) const {
  const Duration left = fetched + attr_timeout_ - steady_now();
  return {attributes, std::clamp(left, Duration::zero(), attr_timeout_)};
}

void Names::lookup(std::uint64_t parent, const std::string& name, Done<Entry> done,
                   const Slot& slot) {
  const auto directory = table_.find(parent);
  if (!directory)
    return done(fail(directory.error()));
  std::string path = path_of(directory->path, name);
  if (name.size() > kNameMax || path.size() > kPathMax)
    return done(fail(ErrorCode::kNameTooLong, "'{}' is too long", escape(name)));
  if (!is_valid_name(name))
    return done(fail(ErrorCode::kInvalid, "'{}' is no name", escape(name)));

  const TimePoint asked = steady_now();
  if (const auto made = pending(path))
    return done(remember_path(path, *made, asked));
  // Nobody else can have made it there. Of what the server has got this moment, that tells.
  if (pending_ != nullptr && !pending_->find(path) && pending(directory->path))
    return done(Entry{});
  const unsigned step = slot->begin();
  const CallId call = remote_.lookup(
      directory->ref(), name,
      [this, path = std::move(path), done = std::move(done), asked](Result<Attributes> answer) {
        if (!answer && answer.error().code == ErrorCode::kNotFound) {
          const auto made = pending(path);
          return done(made ? remember_path(path, *made, asked) : Entry{});
        }
        if (!answer)
          return done(fail(std::move(answer).error()));
        done(remember_path(path, *answer, asked));
      });
  slot->bind(step, [this, call] { remote_.cancel(call); });
}

Result<Entry> Names::remember_path(const std::string& path, const Attributes& attributes,
                                   TimePoint asked) {
  SLIPWAY_TRY(check_plausible(attributes));
  const auto local = local_ && attributes.type == FileType::kRegular
                         ? local_(attributes.version.id)
                         : std::nullopt;
  Attributes shown = attributes;
  if (local) {
    shown.version.size = local->size;
    shown.version.mtime = local->mtime;
  }
  SLIPWAY_TRY_ASSIGN(auto node, table_.remember(path, shown, asked, steady_now()));
  if (local) {
    table_.set_ours(attributes.version.id, *local);
    if (!local_(attributes.version.id))  // a commit was faster, and may not have found the node
      table_.drop_ours(attributes.version.id, local->number);
    SLIPWAY_TRY_ASSIGN(const NodeView ours, table_.find(node.nodeid));
    node.attributes = ours.attributes;
  }
  if (node.change == Change::kInPlace)
    caches_.forget_content(node.nodeid);
  return Entry{node.nodeid, node.generation, timed(node.attributes, asked)};
}

Result<Entry> Names::remember(const std::string& directory, const DirectoryEntry& entry,
                              TimePoint asked) {
  const std::string path = path_of(directory, entry.name);
  if (entry.next != 0)
    return remember_path(path, entry.attributes, asked);
  // The server may have got it since the listing began: what that says is not known here.
  const auto made = pending(path);
  if (!made)
    return fail(ErrorCode::kStale, "'{}' is not pending any more", escape(path));
  return remember_path(path, *made, asked);
}

void Names::getattr(std::uint64_t nodeid, Done<TimedAttributes> done, const Slot& slot) {
  auto known = table_.find(nodeid);
  if (!known)
    return done(fail(known.error()));
  if (known->ours)
    return done(TimedAttributes{known->attributes, attr_timeout_});
  if (const auto made = pending(known->path);
      made && made->version.id == known->attributes.version.id)
    return done(TimedAttributes{*made, attr_timeout_});
  const bool is_image = known->attributes.type == FileType::kRegular &&
                        known->attributes.version.size > kSmallFileMax;
  // An open image's size and times are those of its content for as long as the node lives, so a
  // guest's disk needs no network for fstat, lseek or a read at the end.
  if (known->handle != 0 && (is_image || known->superseded))
    return done(timed(known->attributes, steady_now()));
  if (known->superseded)
    return done(fail(ErrorCode::kStale, "'{}' has changed", escape(known->path)));
  if (const auto fresh = timed(known->attributes, known->fetched); fresh.valid > Duration::zero())
    return done(fresh);

  const TimePoint asked = steady_now();
  const NodeRef ref = known->ref();
  const std::uint64_t handle = known->handle;
  const unsigned step = slot->begin();
  const CallId call = remote_.getattr(
      handle, ref,
      [this, before = std::move(*known), done = std::move(done), asked,
       slot](Result<Attributes> answer) mutable {
        // Who had it open has closed it meanwhile.
        if (!answer && answer.error().code == ErrorCode::kBadHandle && before.handle != 0)
          return getattr_by_name(std::move(before), std::move(done), slot);
        done(observed(before, std::move(answer), asked));
      });
  slot->bind(step, [this, call] { remote_.cancel(call); });
}

void Names::getattr_by_name(NodeView known, Done<TimedAttributes> done, const Slot& slot) {
  known.handle = 0;
  const TimePoint asked = steady_now();
  const NodeRef ref = known.ref();
  const unsigned step = slot->begin();
  const CallId call = remote_.getattr(
      0, ref,
      [this, before = std::move(known), done = std::move(done), asked](Result<Attributes> answer) {
        done(observed(before, std::move(answer), asked));
      });
  slot->bind(step, [this, call] { remote_.cancel(call); });
}

Result<TimedAttributes> Names::observed(const NodeView& before, Result<Attributes> answer,
                                        TimePoint asked) {
  if (!answer) {
    // An open file's descriptor keeps answering while the server can't be asked.
    if (before.handle != 0 && is_link_trouble(answer.error().code))
      return TimedAttributes{before.attributes, Duration::zero()};
    return fail(as_stale_when_gone(std::move(answer).error()));
  }
  SLIPWAY_TRY(check_plausible(*answer));
  switch (table_.observe(before.nodeid, *answer, asked, steady_now())) {
    case Change::kNone:
      return timed(*answer, asked);
    case Change::kInPlace:
      caches_.forget_content(before.nodeid);
      return timed(*answer, asked);
    case Change::kSuperseded:
      if (before.handle != 0)
        return timed(before.attributes, steady_now());
      break;
    case Change::kOther:
      break;
  }
  return fail(ErrorCode::kStale, "'{}' has changed", escape(before.path));
}

void Names::readlink(std::uint64_t nodeid, Done<std::string> done, const Slot& slot) {
  auto known = table_.find(nodeid);
  if (!known)
    return done(fail(known.error()));
  // A link never changes: another target is another link. So one answer is enough.
  if (auto target = table_.link_target(nodeid); !target.empty())
    return done(contained_link(known->path, target, remote_.server().export_root));

  const NodeRef ref = known->ref();
  const unsigned step = slot->begin();
  const CallId call = remote_.readlink(ref, [this, nodeid, path = known->path,
                                             done = std::move(done)](Result<ReadlinkReply> answer) {
    if (!answer)
      return done(fail(as_stale_when_gone(std::move(answer).error())));
    auto shown = contained_link(path, answer->target, remote_.server().export_root);
    if (!shown)
      log_warning("{}", shown.error().message);
    table_.set_link_target(nodeid, std::move(answer->target));
    done(std::move(shown));
  });
  slot->bind(step, [this, call] { remote_.cancel(call); });
}

void Names::statfs(std::uint64_t nodeid, Done<StatfsReply> done, const Slot& slot) {
  const auto known = table_.find(nodeid);
  if (!known)
    return done(fail(known.error()));
  const unsigned step = slot->begin();
  const CallId call =
      remote_.statfs(known->ref(), [this, done = std::move(done)](Result<StatfsReply> answer) {
        {
          const std::lock_guard lock(statfs_mutex_);
          if (answer)
            last_statfs_ = *answer;
          else if (last_statfs_ && is_link_trouble(answer.error().code))
            answer = *last_statfs_;
        }
        done(std::move(answer));
      });
  slot->bind(step, [this, call] { remote_.cancel(call); });
}

Result<std::shared_ptr<Directory>> Names::open_directory(std::uint64_t nodeid) {
  SLIPWAY_TRY_ASSIGN(const auto known, table_.find(nodeid));
  return std::make_shared<Directory>(remote_, known.ref(), known.attributes.inode_number, pending_);
}

}  // namespace slipway
