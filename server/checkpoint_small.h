#pragma once

#include "base/bytes.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "server/checkpoint_format.h"
#include "server/checkpoint_journal.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

namespace slipway {

/// What makes small commits cheap: two files of a group's journal directory that are made once and
/// then written over in place. Neither their names nor their sizes change, so one fdatasync of
/// bytes that have their blocks makes a commit, or what is known of it, durable. `small-commit`
/// holds the last small checkpoint as a whole journal file, with one checksum over all: it is
/// committed when that is right. `small-applied` has two slots for what was applied, written in
/// turn, so that a torn one leaves the one of before. Where the files can't be made or believed
/// nothing is small, which costs time only. Reads may come at any time, the rest one at a time
/// under the group's lock; the directory's descriptor must outlive this.
class SmallFiles {
 public:
  explicit SmallFiles(int directory) : directory_(directory) {}

  /// Commits what is staged, durably, in place of a commit before, which must have been applied.
  /// False: nothing was done, and the commit takes the way that all can take.
  bool place_commit(const JournalFile& staged, const CommitPlan& plan);

  /// What is committed, as a journal with its plan.
  Result<std::optional<JournalFile>> open_commit(const ClientId& client,
                                                 const GroupId& group) const;

  bool is_committed(const JournalHead& head) const;

  /// Who wrote what is read may have been killed before it was durable: before files are changed as
  /// a commit says, or a commit is dropped because it was applied.
  Status sync_commit() const;
  Status sync_applied() const;

  /// After it was applied, durably. Best effort: a commit that turns up again after a power cut is
  /// known by what was applied.
  void forget_commit();

  /// Durably, under a name of its own, for a person.
  Status copy_commit(const std::string& name) const;

  /// Checkpoint 0: nothing is known.
  Result<AppliedRecord> read_applied() const;

  /// Durable when it returns true; false: it must be kept elsewhere.
  bool write_applied(const AppliedRecord& record);

 private:
  Status make(const std::string& name, std::size_t size);
  Status make_both();
  Result<UniqueFd> open_made(const std::string& name, std::size_t size);
  Status write_commit(ByteView content);
  Result<Bytes> read_content() const;

  const int directory_;
  bool is_durable_ = false;  ///< both names are on the disk
};

}  // namespace slipway
