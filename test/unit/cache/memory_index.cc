#include "memory_index.h"

namespace slipway {

Result<std::optional<std::string>> MemoryIndex::get(std::string_view key) {
  content_->reads++;
  if (content_->fail_reads)
    return fail(ErrorCode::kCorrupt, "the index was told to fail");
  const std::lock_guard lock(content_->mutex);
  const auto found = content_->records.find(key);
  if (found == content_->records.end())
    return std::optional<std::string>();
  return std::optional<std::string>(found->second);
}

Status MemoryIndex::scan(std::string_view first, std::string_view last, const Visitor& visit) {
  content_->reads++;
  if (content_->fail_reads)
    return fail(ErrorCode::kCorrupt, "the index was told to fail");
  std::vector<std::pair<std::string, std::string>> found;
  {
    const std::lock_guard lock(content_->mutex);
    content_->scans[{std::string(first), std::string(last)}]++;
    for (auto at = content_->records.lower_bound(first);
         at != content_->records.end() && at->first < last; ++at)
      found.emplace_back(*at);
  }
  for (const auto& [key, value] : found) {
    if (!visit(key, value))
      break;
  }
  return {};
}

Result<std::optional<std::string>> MemoryIndex::last_key_before(std::string_view last) {
  const std::lock_guard lock(content_->mutex);
  auto at = content_->records.lower_bound(last);
  if (at == content_->records.begin())
    return std::optional<std::string>();
  return std::optional<std::string>(std::prev(at)->first);
}

Status MemoryIndex::write(const IndexBatch& batch) {
  if (content_->fail_writes)
    return fail(ErrorCode::kNoSpace, "the index was told to fail");
  const std::lock_guard lock(content_->mutex);
  auto& records = content_->records;
  if (content_->keep_history)
    content_->history.push_back(records);
  for (const auto& [first, last] : batch.erase_ranges)
    records.erase(records.lower_bound(first), records.lower_bound(last));
  for (const std::string& key : batch.erases)
    records.erase(key);
  for (const auto& [key, value] : batch.puts)
    records.insert_or_assign(key, value);
  content_->sequence += batch.erase_ranges.size() + batch.erases.size() + batch.puts.size();
  return {};
}

std::uint64_t MemoryIndex::sequence() {
  const std::lock_guard lock(content_->mutex);
  return content_->sequence;
}

std::uint64_t MemoryIndex::allocated_bytes() {
  const std::lock_guard lock(content_->mutex);
  return content_->records.size() * 128;
}

}  // namespace slipway
