#include "fs/changes.h"

#include "base/log.h"
#include "fs/asking.h"
#include "fs/path_names.h"
#include "writeback/lease_gate.h"
#include "writeback/write_back.h"

#include <utility>

namespace slipway {
namespace {

TimePoint now() noexcept {
  return SteadyClock::instance().now();
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
                 WriteBack* writeback, LeaseGate* leases, bool made_here)
    : remote_(remote),
      table_(table),
      names_(names),
      files_(files),
      writeback_(writeback),
      leases_(leases),
      local_(made_here ? std::make_unique<LocalNames>(remote, *writeback) : nullptr) {}

template <class T>
void Changes::after_writes(const Done<T>& done, const Slot& slot,
                           const std::vector<std::string>& paths, Then<T> then) {
  if (writeback_ == nullptr)
    return done(fail(ErrorCode::kReadOnly, "the mount is read-only"));
  if (leases_ != nullptr && !paths.empty()) {
    const unsigned step = slot->begin();
    const auto question = leases_->enter(
        paths, [this, done, slot, paths, then = std::move(then)](Result<LeaseGate::Hold> lease) {
          if (!lease)
            return done(fail(std::move(lease).error()));
          after_flush<T>(std::make_shared<Asking<T>>(done, std::move(*lease)), slot, paths, then);
        });
    return slot->bind(step, [this, question] { leases_->cancel(question); });
  }
  after_flush<T>(std::make_shared<Asking<T>>(done), slot, paths, std::move(then));
}

template <class T>
void Changes::after_flush(const std::shared_ptr<Asking<T>>& asking, const Slot& slot,
                          const std::vector<std::string>& paths, Then<T> then) {
  const auto held = [asking, then = std::move(then)](Result<WriteBack::Hold> hold) {
    if (!hold) {
      asking->answer(fail(std::move(hold).error()));
      return;
    }
    auto lease = asking->start();
    if (!lease)
      return;  // nothing was sent
    // Both last until the change is done and known everywhere, whoever is killed meanwhile.
    then([asking, lease = std::move(*lease), hold = std::move(*hold)](Result<T> result) {
      return asking->answer(std::move(result));
    });
  };
  const unsigned step = slot->begin();
  const auto stop_waiting = writeback_->flush_and_hold(paths, held);
  slot->bind(step, [asking, stop_waiting] {
    asking->give_up();
    stop_waiting();
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
  SLIPWAY_TRY(check_name(path_of(node.path, of.name), of.name));
  return node;
}

void Changes::make_file(const MakeSpec& spec, bool exclusive, Done<Created> asker,
                        const Slot& slot) {
  const auto parent = directory({spec.parent, spec.name});
  if (!parent)
    return asker(fail(parent.error()));
  const There there = [this, spec, exclusive, asker, slot] {
    make_file_there(spec, exclusive, asker, slot);
  };
  if (!is_made_here(spec, MakeKind::kFile))
    return there();
  const std::string path = path_of(parent->path, spec.name);
  prepare(*parent, spec, MakeKind::kFile, there,
          [this, spec, path, there, asker](const Result<Prepared>& prepared) {
            if (!prepared)
              return asker(fail(prepared.error()));
            make_file_here(spec, path, *prepared, there, asker);
          },
          slot);
}

void Changes::make_file_there(const MakeSpec& spec, bool exclusive, Done<Created> asker,
                              const Slot& slot) {
  const auto parent = directory({spec.parent, spec.name});
  if (!parent)
    return asker(fail(parent.error()));
  MakeRequest request;
  request.directory = parent->ref();
  request.name = spec.name;
  request.mode = spec.mode;
  request.exclusive = exclusive;
  const auto make = [this, request, parent = spec.parent](const Answer<Created>& answer) {
    remote_.make_file(request, [this, request, parent, answer,
                                asked = now()](Result<OpenedHandle> made) {
      if (!made)
        return void(answer(fail(std::move(made).error())));
      table_.expire(parent);
      const std::string path = path_of(request.directory.path, request.name);
      const auto entry = names_.remember_path(path, made->attributes, asked);
      if (!entry) {
        remote_.close(made->handle);
        return void(answer(fail(entry.error())));
      }
      files_.adopt(entry->nodeid, *made, [&files = files_, &table = table_, answer,
                                          entry = *entry](const Result<Files::Opened>& file) {
        if (file && answer(Created{entry, *file}))
          return;
        if (file)
          files.release(file->id);
        else
          answer(fail(file.error()));
        table.forget(entry.nodeid, 1);
      });
    });
  };
  after_writes<Created>(asker, slot, {path_of(parent->path, spec.name)}, make);
}

/// The kernel counts a lookup for what it is told of.
void Changes::hand_out(const Answer<Entry>& answer, const Result<Entry>& entry) {
  if (!answer(entry) && entry)
    table_.forget(entry->nodeid, 1);
}

void Changes::make_node(MakeRequest request, const std::string& path, std::uint64_t parent,
                        Done<Entry> asker, const Slot& slot) {
  const auto make = [this, request = std::move(request), path,
                     parent](const Answer<Entry>& answer) {
    remote_.make(request, [this, path, parent, answer, asked = now()](Result<MakeReply> made) {
      if (!made)
        return void(answer(fail(std::move(made).error())));
      table_.expire(parent);
      hand_out(answer, names_.remember_path(path, made->attributes, asked));
    });
  };
  after_writes<Entry>(asker, slot, {path}, make);
}

void Changes::make_directory(const MakeSpec& spec, Done<Entry> asker, const Slot& slot) {
  const auto parent = directory({spec.parent, spec.name});
  if (!parent)
    return asker(fail(parent.error()));
  const There there = [this, spec, asker, slot] { make_directory_there(spec, asker, slot); };
  if (!is_made_here(spec, MakeKind::kDirectory))
    return there();
  const std::string path = path_of(parent->path, spec.name);
  prepare(*parent, spec, MakeKind::kDirectory, there,
          [this, spec, path, there, asker](const Result<Prepared>& prepared) {
            if (!prepared)
              return asker(fail(prepared.error()));
            make_directory_here(spec, path, *prepared, there, asker);
          },
          slot);
}

void Changes::make_directory_there(const MakeSpec& spec, Done<Entry> asker, const Slot& slot) {
  const auto parent = directory({spec.parent, spec.name});
  if (!parent)
    return asker(fail(parent.error()));
  MakeRequest request;
  request.kind = MakeKind::kDirectory;
  request.directory = parent->ref();
  request.name = spec.name;
  request.mode = spec.mode;
  make_node(std::move(request), path_of(parent->path, spec.name), spec.parent, std::move(asker),
            slot);
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
  make_node(std::move(request), path_of(parent->path, spec.name), spec.parent, std::move(asker),
            slot);
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
  const auto make = [this, request, nodeid, parent = to.parent](const Answer<Entry>& answer) {
    remote_.link(request, [this, request, nodeid, parent, answer,
                           asked = now()](Result<Attributes> is) {
      if (!is)
        return void(answer(fail(std::move(is).error())));
      table_.expire(parent);
      table_.own_change(nodeid, *is, now());
      const std::string path = path_of(request.directory.path, request.name);
      hand_out(answer, names_.remember_path(path, *is, asked));
    });
  };
  after_writes<Entry>(asker, slot, {node->path, path_of(parent->path, to.name)}, make);
}

void Changes::remove(const NameRef& what, bool is_directory, Done<Nothing> asker,
                     const Slot& slot) {
  const auto parent = directory(what);
  if (!parent)
    return asker(fail(parent.error()));
  if (local_ != nullptr) {
    const Status removed = remove_here(path_of(parent->path, what.name), is_directory);
    if (removed)
      return asker(Nothing{});
    if (removed.error().code != ErrorCode::kNotSupported)
      return asker(fail(removed.error()));
  }
  RemoveRequest request;
  request.directory = parent->ref();
  request.name = what.name;
  request.is_directory = is_directory;
  const auto remove = [this, request, parent = what.parent](const Answer<Nothing>& answer) {
    remote_.remove(request, [this, request, parent, answer](Result<Nothing> removed) {
      if (removed) {
        table_.expire(parent);
        const std::string path = path_of(request.directory.path, request.name);
        table_.remove(path);
        writeback_->removed(path, names_left(path));
      }
      answer(std::move(removed));
    });
  };
  after_writes<Nothing>(asker, slot, {path_of(parent->path, what.name)}, remove);
}

void Changes::rename(const NameRef& from, const NameRef& to, std::uint32_t flags,
                     Done<Nothing> asker, const Slot& slot) {
  const auto source = directory(from);
  const auto target = directory(to);
  if (!source || !target)
    return asker(fail(!source ? source.error() : target.error()));
  const There there = [this, from, to, flags, asker, slot] {
    rename_there(from, to, flags, asker, slot);
  };
  const std::string old_path = path_of(source->path, from.name);
  const std::string new_path = path_of(target->path, to.name);
  if (local_ == nullptr || (flags & kRenameExchange) != 0 || !writeback_->pending().find(old_path))
    return there();
  if ((flags & kRenameNoReplace) != 0 && writeback_->pending().find(new_path))
    return asker(fail(ErrorCode::kExists, "'{}' is there already", escape(new_path)));
  rename_here(from, old_path, *target, to.name, there, asker, slot);
}

void Changes::rename_there(const NameRef& from, const NameRef& to, std::uint32_t flags,
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
  const auto rename = [this, request, from, to](const Answer<Nothing>& answer) {
    remote_.rename(request, [this, request, from, to, answer](const Result<Attributes>& is) {
      if (!is)
        return void(answer(fail(is.error())));
      table_.expire(from.parent);
      table_.expire(to.parent);
      renamed(request);
      answer(Nothing{});
    });
  };
  after_writes<Nothing>(asker, slot,
                        {path_of(source->path, from.name), path_of(target->path, to.name)},
                        rename);
}

void Changes::renamed(const RenameRequest& request) {
  const std::string old_path = path_of(request.from.path, request.from_name);
  const std::string new_path = path_of(request.to.path, request.to_name);
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
  // Its writes may have another of its names.
  const auto written =
      writeback_ == nullptr ? nullptr : writeback_->find(node->attributes.version.id);
  if (written != nullptr && written->is_orphan())
    return set_here(*node, change, asker);
  if (written != nullptr && !paths.empty()) {
    std::string path = written->named().path;
    if (!path.empty() && path != paths.front())
      paths.push_back(std::move(path));
  }
  after_writes<TimedAttributes>(asker, slot, paths,
                                [this, request, nodeid](const Answer<TimedAttributes>& answer) {
                                  send_setattr(request, nodeid, answer);
                                });
}

void Changes::send_setattr(const SetattrRequest& request, std::uint64_t nodeid,
                           const Answer<TimedAttributes>& answer) {
  remote_.setattr(request, [this, request, nodeid, answer](Result<ChangeReply> changed) {
    // Who had it open has closed it meanwhile.
    if (!changed && changed.error().code == ErrorCode::kBadHandle && request.handle != 0) {
      SetattrRequest by_name = request;
      by_name.handle = 0;
      return send_setattr(by_name, nodeid, answer);
    }
    if (!changed)
      return void(answer(fail(std::move(changed).error())));
    files_.own_change(nodeid, *changed, [&table = table_, &names = names_, nodeid, answer] {
      const auto after = table.find(nodeid);
      if (!after)
        return void(answer(fail(after.error())));
      answer(TimedAttributes{after->attributes, names.attr_timeout()});
    });
  });
}

void Changes::sync(std::uint64_t nodeid, Done<Nothing> asker, const Slot& slot) {
  const auto node = table_.find(nodeid);
  if (!node)
    return asker(fail(node.error()));
  after_writes<Nothing>(
      asker, slot, {}, [this, request = SyncRequest{node->ref()}](const Answer<Nothing>& answer) {
        remote_.sync(request, [answer](Result<Nothing> synced) { answer(std::move(synced)); });
      });
}

}  // namespace slipway
