#include "server/checkpoint_group.h"

#include "base/fault_point.h"
#include "base/log.h"
#include "server/export_root.h"

#include <cerrno>
#include <fcntl.h>
#include <set>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

namespace slipway {

namespace {

Status check_files(const CommitRequest& request) {
  std::set<FileId> files;
  std::set<std::string> made;
  for (const CommitFile& file : request.files) {
    if (!files.insert(file.base.id).second || (file.make && !made.insert(file.node.path).second))
      return fail(ErrorCode::kInvalid, "a file is named twice in checkpoint {}",
                  request.checkpoint);
  }
  return {};
}

Status check_parts(const CommitRequest& request, JournalFile& journal) {
  Status checked = journal.for_each_part(request.parts, [&](const StageRequest& part) -> Status {
    for (const StageExtent& extent : part.extents)
      if (!is_for_content(request, extent))
        return fail(ErrorCode::kInvalid, "part {} names file {}, of {}", part.part, extent.file,
                    request.files.size());
    return {};
  });
  if (!checked && checked.error().code == ErrorCode::kCorrupt)
    return fail(ErrorCode::kInvalid, "checkpoint {}: {}", request.checkpoint,
                checked.error().message);
  return checked;
}

Result<LeaseStore::Passage> enter(const CommitRequest& request, LeaseStore* leases) {
  std::vector<std::string> paths;
  for (const CommitFile& file : request.files)
    if (!file.node.path.empty())  // without a name nobody else can have it
      paths.push_back(file.node.path);
  if (leases == nullptr)
    return LeaseStore::Passage();
  return leases->enter(paths, LeaseStore::Purpose::kCommit);
}

}  // namespace

std::string CheckpointGroup::directory_name(const ClientId& client, const GroupId& group) {
  return to_hex(client) + "-" + to_hex(group);
}

Result<std::shared_ptr<CheckpointGroup>> CheckpointGroup::open(int journals, const ClientId& client,
                                                               const GroupId& group,
                                                               DirectoryStore& store) {
  const std::string name = directory_name(client, group);
  const bool is_new = ::mkdirat(journals, name.c_str(), 0700) == 0;
  if (!is_new && errno != EEXIST)
    return fail_errno(errno, "the journal of a group");
  if (is_new && ::fsync(journals) != 0)
    return fail_errno(errno, "fsync of the journals");
  SLIPWAY_TRY_ASSIGN(UniqueFd directory, open_own(journals, name, O_RDONLY | O_DIRECTORY));
  SLIPWAY_TRY_ASSIGN(UniqueFd lock, open_own(directory.get(), "lock", O_RDWR | O_CREAT));
  return std::shared_ptr<CheckpointGroup>(
      new CheckpointGroup(journals, std::move(directory), std::move(lock), client, group, store));
}

Status CheckpointGroup::hold() {
  if (holders_ == 0)
    SLIPWAY_TRY(lock_journal(lock_.get(), LOCK_EX));
  ++holders_;
  return {};
}

void CheckpointGroup::let_go() {
  if (--holders_ == 0)
    ::flock(lock_.get(), LOCK_UN);
}

Status CheckpointGroup::stage(const StageRequest& request, ByteView body) {
  const std::lock_guard guard(mutex_);
  SLIPWAY_TRY(hold());
  Status staged = stage_held(request, body);
  let_go();
  return staged;
}

Status CheckpointGroup::stage_held(const StageRequest& request, ByteView body) {
  SLIPWAY_TRY_ASSIGN(const AppliedRecord applied, directory_.read_applied());
  if (request.checkpoint <= applied.checkpoint)
    return {};
  if (directory_.contains(kCommitPrefix, request.checkpoint) ||
      directory_.small().is_committed(head_of(request.checkpoint)))
    return {};
  SLIPWAY_TRY_ASSIGN(JournalFile* const journal, make_stage(request.checkpoint));
  if (!journal->has(request.part))
    return journal->append_part(request.part, body);
  if (journal->is_part(request.part, body))
    return {};
  // The client was started anew and cuts its checkpoint differently: nothing of before belongs to
  // it. What it had staged again already is missing at the commit, and is staged once more.
  drop_stage(request.checkpoint);
  SLIPWAY_TRY_ASSIGN(JournalFile* const anew, make_stage(request.checkpoint));
  return anew->append_part(request.part, body);
}

Result<CommitReply> CheckpointGroup::commit(const CommitRequest& request, HandleTable& handles,
                                            LeaseStore* leases) {
  const std::lock_guard guard(commit_mutex_);
  std::unique_lock state(mutex_);
  SLIPWAY_TRY(hold());
  Result<CommitReply> reply = commit_held(request, handles, leases, state);
  let_go();
  return reply;
}

Result<CommitReply> CheckpointGroup::commit_held(const CommitRequest& request, HandleTable& handles,
                                                 LeaseStore* leases,
                                                 std::unique_lock<std::mutex>& state) {
  SLIPWAY_TRY(apply_pending(&handles));
  SLIPWAY_TRY_ASSIGN(AppliedRecord applied, directory_.read_applied());
  if (request.checkpoint == applied.checkpoint)
    return std::move(applied.reply);
  if (request.checkpoint < applied.checkpoint)
    return fail(ErrorCode::kInvalid, "checkpoint {} is older than {}, which was applied",
                request.checkpoint, applied.checkpoint);
  SLIPWAY_TRY_ASSIGN(JournalFile* const staged, request.parts == 0
                                                    ? make_stage(request.checkpoint)
                                                    : load_stage(request.checkpoint));
  SLIPWAY_TRY(check_files(request));
  SLIPWAY_TRY(check_parts(request, *staged));
  // No lease changes hands before all is applied.
  SLIPWAY_TRY_ASSIGN(const LeaseStore::Passage passage, enter(request, leases));
  SLIPWAY_TRY_ASSIGN(CheckpointMakes makes,
                     CheckpointMakes::open(request, journals_, client_, store_));
  std::vector<CheckpointTarget> targets(request.files.size());
  SLIPWAY_TRY(makes.look([&](const std::string& path) { return passage.is_refused(path); },
                         targets));
  for (std::size_t i = 0; i < targets.size(); ++i) {
    if (request.files[i].make)
      continue;
    SLIPWAY_TRY_ASSIGN(targets[i],
                       open_target(request.files[i], TargetMode::kFirst,
                                   request.even_published ? Published::kMayChange
                                                          : Published::kStays,
                                   store_, &handles));
    if (targets[i].status == 0 && passage.is_refused(request.files[i].node.path))
      targets[i].status = static_cast<std::uint32_t>(ErrorCode::kStale);
  }
  SLIPWAY_TRY(check_space(request, targets, *staged));
  CommitPlan plan{request, {}};
  SLIPWAY_TRY_ASSIGN(std::vector<ConflictCopy> copies, plan_conflicts(plan, *staged, targets));
  SLIPWAY_TRY_ASSIGN(const Place place, place_commit(plan, *staged));
  for (ConflictCopy& copy : copies)
    copy.keep();
  JournalFile journal = std::move(*staged);
  stages_.erase(request.checkpoint);
  if (place == Place::kSmall)
    directory_.remove(kStagePrefix, request.checkpoint);  // stays readable here
  else
    SLIPWAY_TRY(directory_.sync());
  fault_point("checkpoint-after-rename");
  drop_stages_below(request.checkpoint);
  state.unlock();  // parts of the next checkpoint may come meanwhile
  Result<CommitReply> reply = apply(plan, journal, place, targets, makes);
  state.lock();
  return reply;
}

void CheckpointGroup::remove_old() {
  const std::lock_guard guard(mutex_);
  if (holders_ != 0 || ::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0)
    return;  // it is in use
  directory_.remove_stages_older_than(kStageKept);
  ::flock(lock_.get(), LOCK_UN);
}

Result<JournalFile*> CheckpointGroup::load_stage(std::uint64_t checkpoint) {
  const std::string name = journal_name(kStagePrefix, checkpoint);
  auto at = stages_.find(checkpoint);
  if (at != stages_.end() && !at->second.is_current(directory_.fd(), name)) {
    stages_.erase(at);
    at = stages_.end();
  }
  if (at == stages_.end()) {
    Result<JournalFile> file = JournalFile::open(directory_.fd(), name, head_of(checkpoint));
    if (!file && file.error().code == ErrorCode::kNotFound)
      return fail(ErrorCode::kInvalid, "nothing is staged of checkpoint {}", checkpoint);
    if (!file && file.error().code == ErrorCode::kCorrupt) {
      drop_stage(checkpoint);
      return fail(ErrorCode::kInvalid, "what was staged of checkpoint {} is damaged", checkpoint);
    }
    if (!file)
      return fail(std::move(file).error());
    if (stages_.size() == kStagesMax)
      stages_.erase(stages_.begin());  // only what is known of it
    at = stages_.emplace(checkpoint, std::move(*file)).first;
  }
  SLIPWAY_TRY(at->second.make_appendable());
  return &at->second;
}

Result<JournalFile*> CheckpointGroup::make_stage(std::uint64_t checkpoint) {
  Result<JournalFile*> loaded = load_stage(checkpoint);
  if (loaded || loaded.error().code != ErrorCode::kInvalid)
    return loaded;
  SLIPWAY_TRY_ASSIGN(const std::vector<std::uint64_t> staged, directory_.list(kStagePrefix));
  for (std::size_t i = 0; i + kStagesMax <= staged.size(); ++i) {
    if (staged[i] > checkpoint)
      return fail(ErrorCode::kInvalid, "checkpoint {} is older than what is staged", checkpoint);
    drop_stage(staged[i]);
  }
  SLIPWAY_TRY_ASSIGN(JournalFile file,
                     JournalFile::create(directory_.fd(), journal_name(kStagePrefix, checkpoint),
                                         head_of(checkpoint)));
  if (stages_.size() == kStagesMax)
    stages_.erase(stages_.begin());
  return &stages_.emplace(checkpoint, std::move(file)).first->second;
}

void CheckpointGroup::drop_stage(std::uint64_t checkpoint) {
  stages_.erase(checkpoint);
  directory_.remove(kStagePrefix, checkpoint);
}

// Best effort: what stays takes space until the next checkpoints push it out.
void CheckpointGroup::drop_stages_below(std::uint64_t checkpoint) {
  const auto staged = directory_.list(kStagePrefix);
  if (!staged)
    return;
  for (const std::uint64_t old : *staged)
    if (old < checkpoint)
      drop_stage(old);
}

// What is refused because the file is another one now, or has gone, is kept beside it.
Result<std::vector<ConflictCopy>> CheckpointGroup::plan_conflicts(
    CommitPlan& plan, JournalFile& journal, std::vector<CheckpointTarget>& targets) {
  std::vector<ConflictCopy> copies;
  for (std::size_t i = 0; i < targets.size(); ++i) {
    PlannedOutcome& outcome = plan.outcomes.emplace_back();
    outcome.status = targets[i].status;
    outcome.is_taken = targets[i].is_taken;
    if (outcome.status == 0)
      continue;
    const ErrorCode code = error_code_from_wire(outcome.status);
    const std::string path = escape(plan.request.files[i].node.path);
    const bool has_content = !is_made_directory(plan.request.files[i]);
    if (has_content && (code == ErrorCode::kStale || code == ErrorCode::kNotFound)) {
      Result<ConflictCopy> copy =
          ConflictCopy::make(plan.request, i, targets[i].fd, client_, journal, store_);
      if (!copy && does_pass(copy.error().code))
        return fail(std::move(copy).error());
      if (copy) {
        outcome.conflict_name = copy->name();
        copies.push_back(std::move(*copy));
      } else {
        log_error("no conflict copy of '{}': {}", path, copy.error().message);
      }
    }
    log_error("CONFLICT: what a client wrote to '{}' is refused ({}); {}", path,
              slipway::name_of(code),
              outcome.conflict_name.empty() ? "nothing of it is kept here"
                                            : "it is in '" + escape(outcome.conflict_name) + "'");
  }
  return copies;
}

// What fails changes nothing.
Result<CheckpointGroup::Place> CheckpointGroup::place_commit(const CommitPlan& plan,
                                                             JournalFile& journal) {
  fault_point("checkpoint-before-record");
  if (directory_.small().place_commit(journal, plan))
    return Place::kSmall;
  SLIPWAY_TRY(place_file(plan, journal));
  return Place::kFile;
}

// From the rename on the checkpoint is committed.
Status CheckpointGroup::place_file(const CommitPlan& plan, JournalFile& journal) {
  const std::uint64_t checkpoint = plan.request.checkpoint;
  if (Status recorded = journal.append_commit(plan); !recorded) {
    // After a failed fdatasync nobody knows what of the parts is on the disk.
    if (recorded.error().code == ErrorCode::kIo)
      drop_stage(checkpoint);
    return recorded;
  }
  fault_point("checkpoint-after-record");
  if (::renameat(directory_.fd(), journal_name(kStagePrefix, checkpoint).c_str(), directory_.fd(),
                 journal_name(kCommitPrefix, checkpoint).c_str()) != 0)
    return fail_errno(errno, "rename of a journal");
  return {};
}

}  // namespace slipway
