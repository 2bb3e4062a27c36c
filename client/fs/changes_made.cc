// Names that are made in the write log: the server gets to know them with the next checkpoint. Until then it
// says nothing new of the directories that they are in.
#include "base/log.h"
#include "fs/changes.h"
#include "fs/path_names.h"

#include <string_view>
#include <utility>

namespace slipway {
namespace {

/// What the server needs to open the file, or to put names into the directory, later.
constexpr std::uint32_t kFileBits = 0600;
constexpr std::uint32_t kDirectoryBits = 0700;

/// Nobody makes it but the server's administrator.
constexpr std::string_view kStateName = ".slipway";

}  // namespace

/// Not with a mode that would keep ourselves out, or that a prepared inode can't have.
bool Changes::is_made_here(const MakeSpec& spec, MakeKind kind) const {
  const std::uint32_t needed = kind == MakeKind::kDirectory ? kDirectoryBits : kFileBits;
  return local_ != nullptr && (spec.mode & needed) == needed && (spec.mode & ~0777U) == 0 &&
         spec.name != kStateName;
}

void Changes::prepare(const NodeView& parent, const MakeSpec& spec, MakeKind kind,
                      const There& there, Done<Prepared> done, const Slot& slot) {
  const std::string path = path_of(parent.path, spec.name);
  const auto leased = [this, parent, name = spec.name, kind, there, done = std::move(done),
                       slot](Result<LeaseGate::Hold> lease) {
    if (!lease)
      return done(fail(std::move(lease).error()));
    local_->prepare(parent, name, kind,
                    [there, done, lease = std::move(*lease)](Result<Attributes> inode) {
                      if (inode)
                        return done(Prepared{std::move(*inode), lease});
                      if (inode.error().code == ErrorCode::kNotSupported)
                        return there();
                      done(fail(std::move(inode).error()));
                    },
                    slot);
  };
  const unsigned step = slot->begin();
  const auto question = leases_->enter({path}, leased);
  slot->bind(step, [this, question] { leases_->cancel(question); });
}

void Changes::make_file_here(const MakeSpec& spec, const std::string& path,
                             const Prepared& prepared, const There& there,
                             const Done<Created>& done) {
  // One that was made and removed here before may be known by it still.
  table_.supersede_file(prepared.inode.version.id);
  const auto made = writeback_->make(path, prepared.inode, /*is_directory=*/false, spec.mode,
                                     [&] { return is_at(spec.parent, spec.name, path); });
  if (!made && made.error().code == ErrorCode::kNotSupported)
    return there();
  if (!made)
    return done(fail(made.error()));
  OpenedHandle opened{remote_.reserve_handle(), prepared.inode, true, true};
  opened.attributes.mode = spec.mode;
  const auto entry = names_.remember_path(path, opened.attributes, SteadyClock::instance().now());
  if (!entry)
    return done(fail(entry.error()));
  files_.adopt(entry->nodeid, opened,
               [&table = table_, done, entry = *entry](const Result<Files::Opened>& file) {
                 if (file)
                   return done(Created{entry, *file});
                 table.forget(entry.nodeid, 1);
                 done(fail(file.error()));
               });
}

void Changes::make_directory_here(const MakeSpec& spec, const std::string& path,
                                  const Prepared& prepared, const There& there,
                                  const Done<Entry>& done) {
  const auto made = writeback_->make(path, prepared.inode, /*is_directory=*/true, spec.mode,
                                     [&] { return is_at(spec.parent, spec.name, path); });
  if (!made && made.error().code == ErrorCode::kNotSupported)
    return there();
  if (!made)
    return done(fail(made.error()));
  const auto known = writeback_->pending().find(path);
  if (!known)  // the server has it already
    return names_.lookup(spec.parent, spec.name, done, std::make_shared<CancelSlot>());
  done(names_.remember_path(path, known->attributes, SteadyClock::instance().now()));
}

Status Changes::remove_here(const std::string& path, bool is_directory) {
  SLIPWAY_TRY(writeback_->unmake(path, is_directory));
  table_.remove(path);
  return {};
}

/// Whether a name still leads there. Between the question to the server and its answer a directory may
/// have got another name.
bool Changes::is_at(std::uint64_t directory, const std::string& name,
                    const std::string& path) const {
  const auto node = table_.find(directory);
  return node && path_of(node->path, name) == path;
}

void Changes::rename_here(const NameRef& from, const std::string& old_path, const NodeView& target,
                          const std::string& name, const There& there,
                          const Done<Nothing>& done, const Slot& slot) {
  const std::string new_path = path_of(target.path, name);
  const auto finish = [this, from, to = NameRef{target.nodeid, name}, old_path, new_path, there,
                       done] {
    const Status renamed = finish_rename_here(from, to, old_path, new_path);
    if (renamed)
      return done(Nothing{});
    if (renamed.error().code == ErrorCode::kNotSupported)
      return there();
    done(fail(renamed.error()));
  };
  if (name == kStateName)
    return there();
  if (writeback_->pending().find(new_path))
    return finish();  // both are ours
  const auto leased = [this, target, name, finish, there, done,
                       slot](Result<LeaseGate::Hold> lease) {
    if (!lease)
      return done(fail(std::move(lease).error()));
    local_->check_free(target, name,
                       [finish, there, done, lease = std::move(*lease)](Result<Nothing> free) {
                         if (free)
                           return finish();
                         if (free.error().code == ErrorCode::kNotSupported)
                           return there();
                         done(fail(std::move(free).error()));
                       },
                       slot);
  };
  const unsigned step = slot->begin();
  const auto question = leases_->enter({new_path}, leased);
  slot->bind(step, [this, question] { leases_->cancel(question); });
}

Status Changes::finish_rename_here(const NameRef& from, const NameRef& to,
                                   const std::string& old_path, const std::string& new_path) {
  const auto is_current = [&] {
    return is_at(from.parent, from.name, old_path) && is_at(to.parent, to.name, new_path);
  };
  return writeback_->rename_made(old_path, new_path, is_current,
                                 [&] { table_.move(old_path, new_path); });
}

/// Of a file that the server never had, and that is only open. Its mtime is that of its writes.
void Changes::set_here(const NodeView& node, const AttributeChange& change,
                       const Done<TimedAttributes>& done) {
  Attributes after = node.attributes;
  if ((change.mask & kSetMode) != 0)
    after.mode = change.mode;
  if ((change.mask & kSetAtime) != 0)
    after.atime = change.atime;
  table_.own_change(node.nodeid, after, SteadyClock::instance().now());
  done(TimedAttributes{after, names_.attr_timeout()});
}

}  // namespace slipway
