#include "fs/directory.h"

#include "base/log.h"

#include <algorithm>
#include <utility>

namespace slipway {

Directory::Directory(RemoteSession& remote, NodeRef node, std::uint64_t inode_number)
    : remote_(remote), node_(std::move(node)), inode_number_(inode_number) {}

void Directory::rewind() {
  const std::lock_guard lock(mutex_);
  starts_.assign(1, Start{});
  current_.reset();
}

void Directory::load(std::uint64_t index, Done<Loaded> done,
                     const std::shared_ptr<CancelSlot>& slot) {
  Loaded there;
  Start start;
  {
    const std::lock_guard lock(mutex_);
    if (current_ && current_->covers(index)) {
      there = current_;
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
        const Start next{(*chunk)->first + (*chunk)->entries.size(), (*chunk)->entries.back().next};
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
  chunk->entries = std::move(reply.entries);
  chunk->end = reply.end;
  chunk->asked = asked;
  const std::lock_guard lock(mutex_);
  if (!chunk->end && starts_.back().index == start.index)
    starts_.push_back({start.index + chunk->entries.size(), chunk->entries.back().next});
  current_ = chunk;
  return Loaded(std::move(chunk));
}

}  // namespace slipway
