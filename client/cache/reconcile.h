#pragma once

#include "cache/file_catalog.h"

namespace slipway {

/// Once after open, in the background: looks at each data file (never at blocks), corrects the
/// accounting, and removes data files and block records of generations that no file record names.
/// Generations from `first_new` on belong to this run and are left alone.
void reconcile(CacheCore& core, FileCatalog& catalog, std::uint64_t first_new);

/// The data files in the directory: calls visit(generation, bytes allocated).
void visit_data_files(const std::string& cache_directory,
                      const std::function<void(std::uint64_t, std::uint64_t)>& visit);

}  // namespace slipway
