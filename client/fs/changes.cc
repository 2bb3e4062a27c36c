#include "fs/changes.h"

#include "base/log.h"
#include "fs/once.h"
#include "writeback/lease_gate.h"
#include "writeback/write_back.h"

#include <utility>

namespace slipway {
namespace {

TimePoint now() noexcept {
  return SteadyClock::instance().now();
}

std::string join(const std::string& directory, const std::string& name) {
  return directory.empty() ? name : directory + '/' + name;
}

Status check_name(const std::string& path, const std::string& name) {
  if (name.size() > kNameMax || path.size() > kPathMax)
    return fail(ErrorCode::kNameTooLong, "'{}' is too long", escape(name));
  if (!is_valid_name(name))
    return fail(ErrorCode::kInvalid, "'{}' is no name", escape(name));
  return {};
}

}  // namespace

Changes::Changes(RemoteSession& remote, InodeTable& table, Names& names, Files& files,
                 WriteBack* writeback, LeaseGate* leases)
    : remote_(remote),
      table_(table),
      names_(names),
      files_(files),
      writeback_(writeback),
      leases_(leases) {}

template <class T>
void Changes::after_writes(const Done<T>& done, const Slot& slot,
                           const std::vector<std::string>& paths,
                           std::function<void(const Done<T>&)> then) {
  if (writeback_ == nullptr)
    return done(fail(ErrorCode::kReadOnly, "the mount is read-only"));
  if (leases_ != nullptr && !paths.empty()) {
    // The lease is held until the change is over.
    const auto question = leases_->enter(
        paths, [this, done, slot, paths, then = std::move(then)](Result<LeaseGate::Hold> lease) {
          if (!lease)
            return done(fail(std::move(lease).error()));
          after_flush<T>([done, lease = std::move(*lease)](Result<T> r) { done(std::move(r)); },
                         slot, paths, then);
        });
    return slot->bind(1, [this, question] { leases_->cancel(question); });
  }
  after_flush<T>(done, slot, paths, std::move(then));
}

template <class T>
void Changes::after_flush(const Done<T>& done, const Slot& slot,
                          const std::vector<std::string>& paths,
                          std::function<void(const Done<T>&)> then) {
  const auto once = std::make_shared<Once>();
  // Taken out by who takes `once`: it owns the slot, which keeps the action below, and would live,
  // with its leases, for ever.
  const auto asker = std::make_shared<Done<T>>(done);
  const auto held = [asker, once, then = std::move(then)](Result<WriteBack::Hold> hold) {
    if (!once->take())
      return;  // whoever waited was killed
    const Done<T> reply = std::exchange(*asker, nullptr);
    if (!hold)
      return reply(fail(std::move(hold).error()));
    // The hold lasts until the change is done and known everywhere.
    then([reply, hold = std::move(*hold)](Result<T> result) { reply(std::move(result)); });
  };
  writeback_->flush_and_hold(paths, held);
  slot->bind(2, [once, asker] {
    if (once->take())
      std::exchange(*asker, nullptr)(fail(ErrorCode::kCancelled, "interrupted"));
  });
}

WriteBack::NamesLeft Changes::names_left(const std::string& removed) const {
  return [this, removed](const FileId& id) {
    const InodeTable::NamesLeft left = table_.names_left(id, removed);
    return WriteBack::NameLeft{left.path, left.is_any};
  };
}

Result<NodeView> Changes::directory(const NameRef& of) const {
  SLIPWAY_TRY_ASSIGN(NodeView node, table_.find(of.parent));
  SLIPWAY_TRY(check_name(join(node.path, of.name), of.name));
  return node;
}

void Changes::make_file(const MakeSpec& spec, bool exclusive, Done<Created> asker,
                        const Slot& slot) {
  const auto parent = directory({spec.parent, spec.name});
  if (!parent)
    return asker(fail(parent.error()));
  MakeRequest request;
  request.directory = parent->ref();
  request.name = spec.name;
  request.mode = spec.mode;
  request.exclusive = exclusive;
  after_writes<Created>(asker, slot, {join(parent->path, spec.name)}, [this, request, parent = spec.parent, slot](const auto& done) {
    const TimePoint asked = now();
    const CallId call = remote_.make_file(
        request, [this, request, parent, done, asked](Result<OpenedHandle> made) {
          if (!made)
            return done(fail(std::move(made).error()));
          table_.expire(parent);
          const std::string path = join(request.directory.path, request.name);
          auto entry = names_.remember_path(path, made->attributes, asked);
          if (!entry) {
            remote_.close(made->handle);
            return done(fail(std::move(entry).error()));
          }
          files_.adopt(entry->nodeid, *made, [done, entry = *entry](Result<Files::Opened> opened) {
            if (!opened)
              return done(fail(std::move(opened).error()));
            done(Created{entry, *opened});
          });
        });
    slot->bind(3, [this, call] { remote_.cancel(call); });
  });
}

void Changes::make_node(MakeRequest request, const std::string& path, std::uint64_t parent,
                        Done<Entry> asker, const Slot& slot) {
  after_writes<Entry>(asker, slot, {path}, [this, request = std::move(request), path, parent,
                                   slot](const auto& done) {
    const TimePoint asked = now();
    const CallId call =
        remote_.make(request, [this, path, parent, done, asked](Result<MakeReply> made) {
          if (!made)
            return done(fail(std::move(made).error()));
          table_.expire(parent);
          done(names_.remember_path(path, made->attributes, asked));
        });
    slot->bind(3, [this, call] { remote_.cancel(call); });
  });
}

void Changes::make_directory(const MakeSpec& spec, Done<Entry> asker, const Slot& slot) {
  const auto parent = directory({spec.parent, spec.name});
  if (!parent)
    return asker(fail(parent.error()));
  MakeRequest request;
  request.kind = MakeKind::kDirectory;
  request.directory = parent->ref();
  request.name = spec.name;
  request.mode = spec.mode;
  make_node(std::move(request), join(parent->path, spec.name), spec.parent, std::move(asker), slot);
}

void Changes::make_symlink(const MakeSpec& spec, Done<Entry> asker, const Slot& slot) {
  const auto parent = directory({spec.parent, spec.name});
  if (!parent)
    return asker(fail(parent.error()));
  if (spec.target.size() > kLinkTargetMax)
    return asker(fail(ErrorCode::kNameTooLong, "a link's target of {} bytes", spec.target.size()));
  MakeRequest request;
  request.kind = MakeKind::kSymlink;
  request.directory = parent->ref();
  request.name = spec.name;
  request.mode = 0777;
  request.target = spec.target;
  make_node(std::move(request), join(parent->path, spec.name), spec.parent, std::move(asker), slot);
}

void Changes::link(std::uint64_t nodeid, const NameRef& to, Done<Entry> asker, const Slot& slot) {
  const auto parent = directory(to);
  const auto node = table_.find(nodeid);
  if (!parent || !node)
    return asker(fail(!parent ? parent.error() : node.error()));
  LinkRequest request;
  request.file = node->ref();
  request.directory = parent->ref();
  request.name = to.name;
  after_writes<Entry>(asker, slot, {node->path, join(parent->path, to.name)},
                      [this, request, nodeid, parent = to.parent, slot](const auto& done) {
    const TimePoint asked = now();
    const CallId call =
        remote_.link(request, [this, request, nodeid, parent, done, asked](Result<Attributes> is) {
          if (!is)
            return done(fail(std::move(is).error()));
          table_.expire(parent);
          table_.own_change(nodeid, *is, now());
          done(names_.remember_path(join(request.directory.path, request.name), *is, asked));
        });
    slot->bind(3, [this, call] { remote_.cancel(call); });
  });
}

void Changes::remove(const NameRef& what, bool is_directory, Done<Nothing> asker,
                     const Slot& slot) {
  const auto parent = directory(what);
  if (!parent)
    return asker(fail(parent.error()));
  RemoveRequest request;
  request.directory = parent->ref();
  request.name = what.name;
  request.is_directory = is_directory;
  after_writes<Nothing>(asker, slot, {join(parent->path, what.name)},
                        [this, request, parent = what.parent, slot](const auto& done) {
    const CallId call =
        remote_.remove(request, [this, request, parent, done](Result<Nothing> removed) {
          if (removed) {
            table_.expire(parent);
            const std::string path = join(request.directory.path, request.name);
            table_.remove(path);
            writeback_->removed(path, names_left(path));
          }
          done(std::move(removed));
        });
    slot->bind(3, [this, call] { remote_.cancel(call); });
  });
}

void Changes::rename(const NameRef& from, const NameRef& to, std::uint32_t flags,
                     Done<Nothing> asker, const Slot& slot) {
  const auto source = directory(from);
  const auto target = directory(to);
  if (!source || !target)
    return asker(fail(!source ? source.error() : target.error()));
  RenameRequest request;
  request.from = source->ref();
  request.from_name = from.name;
  request.to = target->ref();
  request.to_name = to.name;
  request.flags = flags;
  after_writes<Nothing>(asker, slot,
                        {join(source->path, from.name), join(target->path, to.name)},
                        [this, request, from, to, slot](const auto& done) {
    const CallId call = remote_.rename(request, [this, request, from, to,
                                                 done](Result<Attributes> is) {
      if (!is)
        return done(fail(std::move(is).error()));
      const std::string old_path = join(request.from.path, request.from_name);
      const std::string new_path = join(request.to.path, request.to_name);
      table_.expire(from.parent);
      table_.expire(to.parent);
      const bool is_exchange = (request.flags & kRenameExchange) != 0;
      if (is_exchange) {
        table_.exchange(old_path, new_path);
        remote_.moved(old_path, "//");
        remote_.moved(new_path, old_path);
        remote_.moved("//", new_path);
      } else {
        table_.move(old_path, new_path);
        writeback_->removed(new_path, names_left(new_path));
        remote_.moved(old_path, new_path);
      }
      writeback_->moved(old_path, new_path, is_exchange);
      done(Nothing{});
    });
    slot->bind(3, [this, call] { remote_.cancel(call); });
  });
}

void Changes::setattr(std::uint64_t nodeid, const AttributeChange& change,
                      Done<TimedAttributes> asker, const Slot& slot) {
  const auto node = table_.find(nodeid);
  if (!node)
    return asker(fail(node.error()));
  SetattrRequest request;
  request.handle = node->handle;
  request.node = node->ref();
  request.mask = change.mask;
  request.mode = change.mode;
  request.uid = change.uid;
  request.gid = change.gid;
  request.atime = change.atime;
  request.mtime = change.mtime;
  // Without a name nobody else has it.
  std::vector<std::string> paths;
  if (!node->path.empty() || nodeid == kRootNodeId)
    paths.push_back(node->path);
  after_writes<TimedAttributes>(asker, slot, paths, [this, request, nodeid, slot](const auto& done) {
    send_setattr(request, nodeid, done, slot);
  });
}

void Changes::send_setattr(const SetattrRequest& request, std::uint64_t nodeid,
                           const Done<TimedAttributes>& done, const Slot& slot) {
  const CallId call =
      remote_.setattr(request, [this, request, nodeid, done, slot](Result<ChangeReply> changed) {
        // Who had it open has closed it meanwhile.
        if (!changed && changed.error().code == ErrorCode::kBadHandle && request.handle != 0) {
          SetattrRequest by_name = request;
          by_name.handle = 0;
          return send_setattr(by_name, nodeid, done, slot);
        }
        if (!changed)
          return done(fail(std::move(changed).error()));
        files_.own_change(nodeid, *changed, [this, nodeid, done] {
          const auto after = table_.find(nodeid);
          if (!after)
            return done(fail(after.error()));
          done(TimedAttributes{after->attributes, names_.attr_timeout()});
        });
      });
  slot->bind(request.handle != 0 ? 3 : 4, [this, call] { remote_.cancel(call); });
}

void Changes::sync(std::uint64_t nodeid, Done<Nothing> asker, const Slot& slot) {
  const auto node = table_.find(nodeid);
  if (!node)
    return asker(fail(node.error()));
  after_writes<Nothing>(asker, slot, {}, [this, request = SyncRequest{node->ref()},
                                     slot](const auto& done) {
    const CallId call = remote_.sync(request, done);
    slot->bind(3, [this, call] { remote_.cancel(call); });
  });
}

}  // namespace slipway
