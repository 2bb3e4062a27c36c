// What the server did with a checkpoint.
#include "base/fault_point.h"
#include "base/log.h"
#include "writeback/write_back.h"

#include <algorithm>
#include <utility>

namespace slipway {
namespace {

/// Files known, before those are looked for that need not be.
constexpr std::size_t kForgetMin = 256;

}  // namespace

void WriteBack::acknowledge(std::uint64_t number, const Files& files, const CommitReply& reply) {
  ++checkpoints_;
  ++revision_;
  LogApplied applied;
  applied.group = kWholeMount;
  applied.number = number;
  struct News {
    FileId id;
    VersionRecord base;
    Attributes after;
    std::uint64_t newest = 0;
    bool was_made = false;
  };
  std::vector<std::pair<std::shared_ptr<WrittenFile>, News>> news;
  for (std::size_t i = 0; i < files.size(); ++i) {
    const CommitResult& result = reply.files[i];
    const std::shared_ptr<WrittenFile>& file = files[i];
    if (result.status != 0)
      continue;
    const WrittenFile::Named named = file->named();
    apply_to_cache(*file, named.base, *layer_to_send(*file), result.attributes.version);
    applied.files.push_back({file->number(), result.attributes.version});
    news.emplace_back(file, News{named.id, named.base, result.attributes, 0, file->is_pending()});
  }
  fault_point("writeback-cached");
  has_unnoted_ = true;
  unnoted_ = std::move(applied);
  if (const Status noted = note_applied(); !noted)
    log_warning("{}", noted.error().message);
  fault_point("writeback-applied");
  // Who opens a file from here on asks the server. Who did before is told, below.
  for (const auto& [file, item] : news) {
    const std::lock_guard locked(file->mutex_);
    file->has_name_there_ = file->has_name_there_ || item.was_made;
  }
  WriteBackListener* const listener = listener_.load();
  std::vector<PendingNames::Named> named;
  for (auto& [file, item] : news) {
    {
      const std::lock_guard locked(file->mutex_);
      const bool is_clean = !file->has_active_locked() && file->closed_.size() == 1;
      item.newest = is_clean ? file->newest_ : 0;
    }
    // Readers go over to the new version before the layer goes.
    if (listener != nullptr)
      listener->on_applied(item.id, item.base, item.after, item.newest);
    const std::lock_guard lock(mutex_);
    const std::lock_guard locked(file->mutex_);
    unsent_bytes_ -= file->closed_.front().layer->data_bytes();
    file->closed_.pop_front();
    file->named_.base = item.after.version;
    if (file->is_clean_locked()) {
      file->active_.reset(item.after.version.size);
      file->mtime_ = item.after.version.mtime;
      --unsent_files_;
    }
    redeclare_locked(*file);
    if (item.was_made)
      named.push_back({file->named_.path, file.get()});
  }
  // In one step: a directory that is pending shows nothing but what is pending in it.
  pending_.remove(named);
  for (std::size_t i = 0; i < files.size(); ++i) {
    const CommitResult& result = reply.files[i];
    if (result.status == 0)
      continue;
    if (!result.conflict_name.empty())
      redirect(files[i], result);
    else
      give_up(files[i], result);
  }
  const std::lock_guard lock(mutex_);
  forget_clean_locked();
}

/// Before the next checkpoint is sent: a server can be asked again for its last one only.
Status WriteBack::note_applied() {
  if (!unnoted_)
    return {};
  if (const auto noted = log_->append_applied(*unnoted_); !noted)
    return fail(noted.error().code, "the write log could not note what the server has: {}",
                noted.error().message);
  unnoted_.reset();
  has_unnoted_ = false;
  return {};
}

void WriteBack::redeclare_locked(const WrittenFile& file) {
  log_->redeclare(file.number_, {options_.export_key, file.named_.id, file.logged_path_,
                                 file.named_.base});
}

/// Files that nobody has open any more and that are clean, or orphans.
void WriteBack::forget_clean_locked() {
  for (auto item = by_number_.begin(); item != by_number_.end();)
    item = drop_if_unused_locked(item);
  forget_at_ = std::max(kForgetMin, 2 * by_number_.size());
}

}  // namespace slipway
