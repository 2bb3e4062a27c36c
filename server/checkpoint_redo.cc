// What a CheckpointGroup does from the moment when a checkpoint is committed: at once, or when the
// session that committed it is gone.

#include "base/fault_point.h"
#include "base/log.h"
#include "server/checkpoint_apply.h"
#include "server/checkpoint_group.h"

#include <cstdio>
#include <optional>
#include <sys/file.h>
#include <unistd.h>
#include <utility>

namespace slipway {

Result<CommitReply> CheckpointGroup::apply(const CommitPlan& plan, JournalFile& journal,
                                           Place place, std::vector<CheckpointTarget>& targets,
                                           CheckpointMakes& makes) {
  SLIPWAY_TRY_ASSIGN(CommitReply reply, apply_plan(plan, journal, targets, makes, store_));
  const std::uint64_t checkpoint = plan.request.checkpoint;
  AppliedRecord record{checkpoint, std::move(reply)};
  bool is_lost = false;  // refused only after it was committed: no conflict copy has it
  for (std::size_t i = 0; i < targets.size(); ++i)
    is_lost = is_lost || (plan.outcomes[i].status == 0 && targets[i].status != 0);
  if (is_lost && place == Place::kSmall)
    SLIPWAY_TRY(directory_.small().copy_commit(journal_name(kRefusedPrefix, checkpoint)));
  SLIPWAY_TRY(directory_.write_applied(record));
  if (place == Place::kSmall)
    directory_.small().forget_commit();
  else if (!is_lost)
    directory_.remove(kCommitPrefix, checkpoint);
  if (is_lost)
    set_aside(checkpoint, kRefusedPrefix);
  fault_point("checkpoint-after-unlink");
  return std::move(record.reply);
}

Result<bool> CheckpointGroup::has_pending() const {
  SLIPWAY_TRY_ASSIGN(const std::vector<std::uint64_t> committed, directory_.list(kCommitPrefix));
  if (!committed.empty())
    return true;
  SLIPWAY_TRY_ASSIGN(const std::optional<JournalFile> small,
                     directory_.small().open_commit(client_, group_));
  return small.has_value();
}

Status CheckpointGroup::recover() {
  SLIPWAY_TRY_ASSIGN(const bool has_any, has_pending());
  if (!has_any)
    return {};
  const std::scoped_lock guard(commit_mutex_, mutex_);
  SLIPWAY_TRY(hold());
  const Result<std::size_t> applied = apply_pending(nullptr);
  let_go();
  return applied ? Status() : Status(fail(applied.error()));
}

Result<std::size_t> CheckpointGroup::finish() {
  const std::scoped_lock guard(commit_mutex_, mutex_);
  if (holders_ != 0 || ::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0)
    return 0;
  ++holders_;
  Result<std::size_t> applied = apply_pending(nullptr);
  let_go();
  return applied;
}

// Nothing new is committed before what was committed is applied. So at most one commit is not; a
// small one comes last, since it may also have gone the other way after a failure.
Result<std::size_t> CheckpointGroup::apply_pending(HandleTable* handles) {
  SLIPWAY_TRY_ASSIGN(const std::vector<std::uint64_t> committed, directory_.list(kCommitPrefix));
  SLIPWAY_TRY(apply_files(committed, handles));
  SLIPWAY_TRY_ASSIGN(const bool was_small, apply_small(handles));
  return committed.size() + (was_small ? 1 : 0);
}

Status CheckpointGroup::apply_files(const std::vector<std::uint64_t>& committed,
                                    HandleTable* handles) {
  for (const std::uint64_t checkpoint : committed) {
    SLIPWAY_TRY_ASSIGN(const AppliedRecord applied, directory_.read_applied());
    if (checkpoint <= applied.checkpoint) {
      SLIPWAY_TRY(directory_.sync_applied());
      directory_.remove(kCommitPrefix, checkpoint);
      continue;
    }
    log_info("applying checkpoint {} of journal {} again", checkpoint,
             directory_name(client_, group_));
    const Result<CommitReply> done = redo_file(checkpoint, handles);
    if (!done && done.error().code == ErrorCode::kCorrupt)
      set_aside(checkpoint, kDamagedPrefix);
    else if (!done)
      return fail(done.error());
  }
  return {};
}

// One that can't be read in one piece was never committed, or nobody can tell that it was.
Result<bool> CheckpointGroup::apply_small(HandleTable* handles) {
  SLIPWAY_TRY_ASSIGN(std::optional<JournalFile> journal,
                     directory_.small().open_commit(client_, group_));
  if (!journal)
    return false;
  const std::uint64_t checkpoint = journal->checkpoint();
  SLIPWAY_TRY_ASSIGN(const AppliedRecord applied, directory_.read_applied());
  if (checkpoint <= applied.checkpoint) {
    SLIPWAY_TRY(directory_.sync_applied());
    directory_.small().forget_commit();
    return true;
  }
  log_info("applying small checkpoint {} of journal {} again", checkpoint,
           directory_name(client_, group_));
  SLIPWAY_TRY(directory_.small().sync_commit());  // who wrote it may have been killed before
  const Result<CommitReply> done = redo(std::move(*journal), Place::kSmall, handles);
  if (!done && done.error().code == ErrorCode::kCorrupt) {
    SLIPWAY_TRY(directory_.small().copy_commit(journal_name(kDamagedPrefix, checkpoint)));
    directory_.small().forget_commit();
    log_error("checkpoint {} of journal {} is malformed; it is kept as {}", checkpoint,
              directory_name(client_, group_), journal_name(kDamagedPrefix, checkpoint));
  } else if (!done) {
    return fail(done.error());
  }
  return true;
}

Result<CommitReply> CheckpointGroup::redo_file(std::uint64_t checkpoint, HandleTable* handles) {
  SLIPWAY_TRY_ASSIGN(JournalFile journal,
                     JournalFile::open(directory_.fd(), journal_name(kCommitPrefix, checkpoint),
                                       head_of(checkpoint)));
  if (!journal.plan())
    return fail(ErrorCode::kCorrupt, "the commit of checkpoint {} is damaged", checkpoint);
  SLIPWAY_TRY(directory_.sync());  // who renamed it may have been killed before
  return redo(std::move(journal), Place::kFile, handles);
}

// REQUIRES: it has a plan.
Result<CommitReply> CheckpointGroup::redo(JournalFile journal, Place place,
                                          HandleTable* handles) {
  const CommitPlan plan = *journal.plan();
  // Rather nothing of it than the first half.
  SLIPWAY_TRY(journal.for_each_part(plan.request.parts, [&](const StageRequest& part) -> Status {
    for (const StageExtent& extent : part.extents)
      if (!is_for_content(plan.request, extent))
        return fail(ErrorCode::kCorrupt, "an extent of no file");
    return {};
  }));
  SLIPWAY_TRY_ASSIGN(CheckpointMakes makes,
                     CheckpointMakes::open(plan.request, journals_, client_, store_));
  std::vector<CheckpointTarget> targets(plan.request.files.size());
  SLIPWAY_TRY(makes.look_again(plan, targets));
  for (std::size_t i = 0; i < targets.size(); ++i) {
    if (plan.outcomes[i].status != 0 || plan.request.files[i].make)
      continue;
    SLIPWAY_TRY_ASSIGN(targets[i],
                       open_target(plan.request.files[i], TargetMode::kRedo,
                                   Published::kMayChange, store_, handles));
  }
  return apply(plan, journal, place, targets, makes);
}

void CheckpointGroup::set_aside(std::uint64_t checkpoint, std::string_view prefix) {
  const std::string aside = journal_name(prefix, checkpoint);
  log_error(
      "checkpoint {} of journal {} could not be applied as it was committed; it is kept as {}",
      checkpoint, directory_name(client_, group_), aside);
  ::renameat(directory_.fd(), journal_name(kCommitPrefix, checkpoint).c_str(), directory_.fd(),
             aside.c_str());
}

}  // namespace slipway
