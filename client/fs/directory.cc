#include "fs/directory.h"

#include "base/log.h"

#include <algorithm>
#include <utility>

namespace slipway {
namespace {

/// Orders a child and a name, either way round.
constexpr auto by_name = [](const auto& a, const auto& b) {
  const auto name_of = [](const auto& item) -> const std::string& {
    if constexpr (requires { item.name; })
      return item.name;
    else
      return item;
  };
  return name_of(a) < name_of(b);
};

}  // namespace

Directory::Directory(RemoteSession& remote, NodeRef node, std::uint64_t inode_number,
                     const PendingNames* pending)
    : remote_(remote), node_(std::move(node)), inode_number_(inode_number), pending_(pending) {
  look_at_made();
}

/// Once for a whole listing: so a name that the server gets meanwhile is neither left out nor listed
/// twice.
void Directory::look_at_made() {
  if (pending_ == nullptr)
    return;
  made_ = pending_->children(node_.path);
  const auto known = pending_->find(node_.path);
  is_made_ = known && known->attributes.version.id == node_.expected;
}

void Directory::rewind() {
  const std::lock_guard lock(mutex_);
  starts_.assign(1, Start{});
  current_.reset();
  look_at_made();
}

Directory::Loaded Directory::list_made() {
  auto chunk = std::make_shared<DirectoryChunk>();
  for (const PendingNames::Child& child : made_)
    chunk->entries.push_back({0, child.name, child.attributes});
  chunk->end = true;
  chunk->asked = SteadyClock::instance().now();
  current_ = chunk;
  return chunk;
}

void Directory::load(std::uint64_t index, Done<Loaded> done,
                     const std::shared_ptr<CancelSlot>& slot) {
  Loaded there;
  Start start;
  {
    const std::lock_guard lock(mutex_);
    if (current_ && current_->covers(index)) {
      there = current_;
    } else if (is_made_) {
      there = list_made();
    } else {
      const auto after = std::find_if(starts_.begin(), starts_.end(),
                                      [&](const Start& s) { return s.index > index; });
      start = *std::prev(after);
    }
  }
  if (there)
    done(std::move(there));
  else
    fetch(start, index, std::move(done), slot);
}

void Directory::fetch(Start start, std::uint64_t index, Done<Loaded> done,
                      const std::shared_ptr<CancelSlot>& slot) {
  const TimePoint asked = SteadyClock::instance().now();
  const unsigned step = slot->begin();
  const CallId call = remote_.readdir(
      node_, start.cursor,
      [self = shared_from_this(), start, index, done = std::move(done), slot,
       asked](Result<ReaddirReply> reply) mutable {
        if (!reply)
          return done(fail(std::move(reply).error()));
        auto chunk = self->take(start, std::move(*reply), asked);
        if (!chunk || (*chunk)->covers(index))
          return done(std::move(chunk));
        const Start next{(*chunk)->first + (*chunk)->entries.size(), (*chunk)->next};
        self->fetch(next, index, std::move(done), slot);
      });
  slot->bind(step, [&remote = remote_, call] { remote.cancel(call); });
}

Result<Directory::Loaded> Directory::take(const Start& start, ReaddirReply reply, TimePoint asked) {
  for (const DirectoryEntry& entry : reply.entries) {
    if (!is_valid_name(entry.name) || !is_plausible(entry.attributes))
      return fail(ErrorCode::kProtocol, "impossible directory entry '{}'", escape(entry.name));
  }
  if (reply.entries.empty() && !reply.end)
    return fail(ErrorCode::kProtocol, "a directory without entries and without end");
  if (!reply.end && reply.entries.back().next == start.cursor)
    return fail(ErrorCode::kProtocol, "a directory that goes round in a circle");

  auto chunk = std::make_shared<DirectoryChunk>();
  chunk->first = start.index;
  chunk->next = reply.end ? 0 : reply.entries.back().next;
  chunk->entries = std::move(reply.entries);
  chunk->end = reply.end;
  chunk->asked = asked;
  const std::lock_guard lock(mutex_);
  const auto is_made = [this](const DirectoryEntry& entry) {
    return std::binary_search(made_.begin(), made_.end(), entry.name, by_name);
  };
  std::erase_if(chunk->entries, is_made);
  if (chunk->end) {
    for (const PendingNames::Child& child : made_)
      chunk->entries.push_back({0, child.name, child.attributes});
  }
  if (!chunk->end && starts_.back().cursor == start.cursor)
    starts_.push_back({start.index + chunk->entries.size(), chunk->next});
  current_ = chunk;
  return Loaded(std::move(chunk));
}

}  // namespace slipway
