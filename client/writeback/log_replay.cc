#include "writeback/log_replay.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace slipway {

void LogReplay::on_file(std::uint64_t file, const LogFile& what) {
  const auto [found, is_new] = files_.try_emplace(file);
  Replayed& known = found->second;
  const VersionRecord base = known.what.base;
  const ExportKey owner = known.what.owner;
  known.what = what;
  if (is_new)
    return;
  known.what.owner = owner;
  if (!known.is_clean())
    known.what.base = base;  // of the oldest change
}

void LogReplay::on_change(const LogChange& change, const LogPlace& place) {
  const auto found = files_.find(change.file);
  if (found == files_.end())
    return;  // the log declares before it appends
  found->second.active.changes.emplace_back(change, place.data);
  found->second.newest = place.sequence;
}

void LogReplay::on_checkpoint(const LogCheckpoint& checkpoint, const LogPlace&) {
  checkpoint_ = std::max(checkpoint_, checkpoint.number);
  for (const std::uint64_t number : checkpoint.files) {
    const auto found = files_.find(number);
    if (found == files_.end() || found->second.active.empty())
      continue;
    Layer closed = std::exchange(found->second.active, {});
    closed.checkpoint = checkpoint.number;
    found->second.closed.push_back(std::move(closed));
  }
}

void LogReplay::on_applied(const LogApplied& applied, const LogPlace&) {
  checkpoint_ = std::max(checkpoint_, applied.number);
  for (const LogApplied::File& done : applied.files) {
    const auto found = files_.find(done.file);
    if (found == files_.end())
      continue;
    std::deque<Layer>& closed = found->second.closed;
    while (!closed.empty() && closed.front().checkpoint <= applied.number)
      closed.pop_front();
    found->second.what.base = done.version;
  }
  // What the server refused of it was being settled: it goes out again, with what came later.
  for (auto& [number, replayed] : files_) {
    std::deque<Layer>& closed = replayed.closed;
    if (closed.empty() || closed.front().checkpoint > applied.number)
      continue;
    Layer all;
    closed.push_back(std::move(replayed.active));
    for (Layer& layer : closed) {
      all.changes.insert(all.changes.end(), std::make_move_iterator(layer.changes.begin()),
                         std::make_move_iterator(layer.changes.end()));
      if (layer.making)
        all.making = std::move(layer.making);
    }
    closed.clear();
    replayed.active = std::move(all);
  }
}

void LogReplay::on_rename(std::uint64_t file, const std::string& path, const LogPlace&) {
  const auto found = files_.find(file);
  if (found == files_.end())
    return;
  found->second.what.path = path;
  if (found->second.active.making)
    replace(path, file);
}

/// A file of our making that got this name replaced another one of our making, if that had it.
void LogReplay::replace(const std::string& path, std::uint64_t by) {
  std::erase_if(files_, [&](const auto& item) {
    return item.first != by && item.second.active.making && item.second.what.path == path;
  });
}

void LogReplay::on_forget(std::uint64_t file, const LogPlace&) { files_.erase(file); }

void LogReplay::on_make(std::uint64_t file, const LogMake& make, const LogPlace& place) {
  const auto found = files_.find(file);
  if (found == files_.end())
    return;  // the log declares before it appends
  found->second.active.making = WrittenFile::Making{make, place.data};
  found->second.newest = place.sequence;
}

std::shared_ptr<WrittenFile> LogReplay::build(std::uint64_t number, const Replayed& replayed) {
  const LogFile& what = replayed.what;
  auto file =
      std::make_shared<WrittenFile>(number, WrittenFile::Named{what.id, what.path, what.base});
  std::uint64_t size = what.base.size;
  const auto layer_of = [&](const Layer& layer) {
    ContentLayer content(size);
    if (layer.making)
      file->mtime_ = layer.making->what.mtime;
    for (const auto& [change, data] : layer.changes) {
      content.apply(change, data);
      file->mtime_ = change.mtime;
    }
    size = content.size();
    return content;
  };
  for (const Layer& layer : replayed.closed)
    file->closed_.push_back(
        {layer.checkpoint, std::make_shared<const ContentLayer>(layer_of(layer)), layer.making});
  file->making_ = replayed.active.making;
  file->active_ = layer_of(replayed.active);
  file->newest_ = replayed.newest;
  return file;
}

LogReplay::Found LogReplay::take(const ExportKey& owner) {
  Found found;
  found.checkpoint = checkpoint_;
  for (const auto& [number, replayed] : files_) {
    // Only who had it open could read it. But the server may be asked what became of a checkpoint, which
    // has all its files.
    const bool is_gone = replayed.what.path.empty() && replayed.closed.empty();
    if (replayed.is_clean() || is_gone)
      continue;
    if (replayed.what.owner != owner)
      ++found.owner_mismatches;
    found.files.push_back(build(number, replayed));
  }
  // The order of their first writes, as they were declared.
  std::sort(found.files.begin(), found.files.end(),
            [](const auto& a, const auto& b) { return a->number() < b->number(); });
  files_.clear();
  return found;
}

}  // namespace slipway
