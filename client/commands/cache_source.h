#pragma once

#include "base/result.h"
#include "commands/mount_options.h"

#include <string>
#include <vector>

namespace slipway {

/// What a cache was mounted from, kept in it as `source.json`, so that what is unsent in it can be
/// sent without its mount.
struct CacheSource {
  std::string source;
  std::vector<std::string> option_strings;
};

/// Writes it, durably; a failure is only logged.
void note_source(const MountOptions& options);

Result<CacheSource> read_source(const std::string& cache_directory);

/// Asks a process that has unmounted and only sends what is unsent in this cache to leave it to us.
/// Whether there is one.
bool release_draining(const std::string& cache_directory);

}  // namespace slipway
