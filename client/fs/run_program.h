#pragma once

#include "base/result.h"

#include <string>
#include <vector>

namespace slipway {

struct ProgramEnd {
  int status = 0;      ///< exit status; 128 + signal when killed
  std::string errors;  ///< its standard error, up to 4 KiB
};

/// Runs a program found in PATH or /bin, /usr/bin, /sbin and waits for it. When `variable` is not
/// "", descriptor `passed` stays open in it and the variable holds its number. kNotSupported when
/// there is no such program. For processes without secrets and with one thread.
Result<ProgramEnd> run_program(const std::vector<std::string>& command, const std::string& variable,
                               int passed);

}  // namespace slipway
