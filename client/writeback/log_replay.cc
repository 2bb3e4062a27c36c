#include "writeback/log_replay.h"

#include <algorithm>
#include <utility>

namespace slipway {

void LogReplay::on_file(std::uint64_t file, const LogFile& what) {
  Replayed& replayed = files_[file];
  if (replayed.file == nullptr) {
    replayed.owner = what.owner;
    replayed.file = std::make_shared<WrittenFile>(
        file, WrittenFile::Named{what.id, what.path, what.base});
    return;
  }
  WrittenFile& known = *replayed.file;
  known.named_.path = what.path;
  known.named_.id = what.id;
  if (known.active_.empty() && replayed.frozen == nullptr) {
    known.named_.base = what.base;
    known.active_.reset(what.base.size);
  }
}

void LogReplay::on_change(const LogChange& change, const LogPlace& place) {
  const auto found = files_.find(change.file);
  if (found == files_.end())
    return;  // the log declares before it appends
  WrittenFile& file = *found->second.file;
  file.active_.apply(change, place.data);
  file.mtime_ = change.mtime;
}

void LogReplay::on_checkpoint(const LogCheckpoint& checkpoint, const LogPlace&) {
  checkpoint_ = std::max(checkpoint_, checkpoint.number);
  for (const std::uint64_t number : checkpoint.files) {
    const auto found = files_.find(number);
    if (found == files_.end() || found->second.file->active_.empty())
      continue;
    ContentLayer& active = found->second.file->active_;
    const std::uint64_t size = active.size();
    found->second.frozen = std::make_shared<ContentLayer>(std::exchange(active, ContentLayer(size)));
  }
}

void LogReplay::on_applied(const LogApplied& applied, const LogPlace&) {
  for (const LogApplied::File& done : applied.files) {
    const auto found = files_.find(done.file);
    if (found == files_.end())
      continue;
    found->second.frozen.reset();
    WrittenFile& file = *found->second.file;
    file.named_.base = done.version;
    if (file.active_.empty())
      file.active_.reset(done.version.size);
  }
  // What the server refused of it was being settled: it goes out again, with what came later.
  for (auto& [number, replayed] : files_) {
    if (replayed.frozen == nullptr)
      continue;
    replayed.frozen->absorb(replayed.file->active_);
    replayed.file->active_ = std::move(*replayed.frozen);
    replayed.frozen.reset();
  }
}

void LogReplay::on_rename(std::uint64_t file, const std::string& path, const LogPlace&) {
  if (const auto found = files_.find(file); found != files_.end())
    found->second.file->named_.path = path;
}

void LogReplay::on_forget(std::uint64_t file, const LogPlace&) { files_.erase(file); }

LogReplay::Found LogReplay::take(const ExportKey& owner) {
  Found found;
  found.checkpoint = checkpoint_;
  for (auto& [number, replayed] : files_) {
    WrittenFile& file = *replayed.file;
    file.frozen_ = std::move(replayed.frozen);
    const bool is_gone = file.named_.path.empty();  // only who had it open could read it
    if (file.is_clean() || is_gone)
      continue;
    if (replayed.owner != owner)
      ++found.owner_mismatches;
    found.files.push_back(replayed.file);
  }
  // The order of their first writes, as they were declared.
  std::sort(found.files.begin(), found.files.end(),
            [](const auto& a, const auto& b) { return a->number() < b->number(); });
  files_.clear();
  return found;
}

}  // namespace slipway
