#pragma once

#include "base/result.h"
#include "wire/setup.h"

#include <string>

namespace slipway {

struct InitialisedExport {
  ExportId id{};
  bool is_new = false;
};

/// `slipwayd init`: makes DIRECTORY/.slipway with the export's id, or finds it made. Errors are one
/// line for the administrator. Safe to run twice, also at the same time.
Result<InitialisedExport> init_export(const std::string& directory);

}  // namespace slipway
