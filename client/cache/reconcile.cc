#include "cache/reconcile.h"

#include "base/log.h"

#include <algorithm>
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <vector>

namespace slipway {
namespace {

/// One seek per generation, not per block.
std::vector<std::uint64_t> generations_with_records(CacheCore& core) {
  std::vector<std::uint64_t> found;
  std::string from = all_blocks().first;
  const std::string last = all_blocks().last;
  for (bool more = true; more;) {
    more = false;
    const auto visit = [&](std::string_view key, std::string_view) {
      if (const auto where = parse_block_key(key)) {
        found.push_back(where->first);
        from = blocks_of(where->first).last;
        more = from < last;
      }
      return false;
    };
    if (!core.index().scan(from, last, visit).has_value())
      break;
  }
  return found;
}

}  // namespace

void visit_data_files(const std::string& cache_directory,
                      const std::function<void(std::uint64_t, std::uint64_t)>& visit) {
  for (unsigned low = 0; low < 256; low++) {
    DIR* directory = ::opendir(fmt::format("{}/data/{:02x}", cache_directory, low).c_str());
    if (directory == nullptr)
      continue;
    while (const dirent* entry = ::readdir(directory)) {
      const auto generation = generation_of_name(entry->d_name);

      struct stat st {};

      if (generation && ::fstatat(::dirfd(directory), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0)
        visit(*generation, static_cast<std::uint64_t>(st.st_blocks) * 512);
    }
    ::closedir(directory);
  }
}

void reconcile(CacheCore& core, FileCatalog& catalog, std::uint64_t first_new) {
  const auto named = catalog.named_generations();
  const auto is_orphan = [&](std::uint64_t generation) {
    return named && generation < first_new && !catalog.is_live(generation) &&
           !std::binary_search(named->begin(), named->end(), generation);
  };
  std::uint64_t orphans = 0;
  std::uint64_t orphan_bytes = 0;
  visit_data_files(core.path(), [&](std::uint64_t generation, std::uint64_t bytes) {
    if (generation < first_new)
      core.space.set_data(generation, bytes, bytes);
    if (!is_orphan(generation))
      return;
    orphans++;
    orphan_bytes += bytes;
    core.retire(generation);
  });
  core.space.set_reconciled();
  for (const std::uint64_t generation : generations_with_records(core)) {
    if (is_orphan(generation))
      core.retire(generation);
  }
  if (orphans != 0)
    log_warning("cache '{}': removing {} data files ({}) that the index does not name", core.path(),
                orphans, format_size(orphan_bytes));
}

}  // namespace slipway
