#pragma once

#include "log_samples.h"
#include "support/catch.h"
#include "support/temp_dir.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace slipway {

std::unique_ptr<WriteLog> open_log(const LogOptions& options, LogVisitor& visitor);
std::unique_ptr<WriteLog> open_log(const LogOptions& options);

/// Whether the writes seen are those numbered from `first` on, with their data readable.
void require_patterns(const SeenLog& seen, std::uint64_t first, std::uint64_t count);

std::string segment_path(const std::string& directory, std::uint64_t number);
std::vector<std::string> names_in(const std::string& directory);
/// Changes one byte.
void flip(const std::string& path, std::uint64_t offset);

}  // namespace slipway
