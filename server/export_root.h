#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "wire/setup.h"

#include <array>
#include <optional>
#include <span>
#include <string>

namespace slipway {

/// An export that may be served: opened, identified.
struct ExportRoot {
  std::string path;  ///< canonical
  UniqueFd fd;       ///< O_PATH
  ExportId id{};
  bool initialised = false;  ///< the id comes from `slipwayd init`
  std::string state_file;    ///< where FileSystemTable may keep its numbers; "": nowhere
  std::string state_root;    ///< the directory whose `.slipway` it is; "": not initialised
  std::string profile_directory;  ///< ProfileBox's; "": nowhere
  std::string journal_directory;  ///< Checkpoints', of this user and export; "": nowhere
  std::string lease_directory;    ///< LeaseDirectory's; "": nowhere
  std::string lease_top;          ///< groups lie directly below it: `state_root`, or `path`
};

/// What a client may mount. Errors are one line for the person who mounts.
///   typed         absolute, or relative to the user's home ("", "~" and "~/x" too)
///   restrict_to   "": anything; else only this directory and what is below, and nothing is said
///                 about what lies outside
Result<ExportRoot> open_export(const std::string& typed, const std::string& restrict_to);

/// The `.slipway` of an initialised export.
struct StateDirectory {
  std::string root;  ///< the directory that it is in
  ExportId id{};
};

/// The nearest `.slipway` at or above `directory` (canonical), not above `top`, whose owner can be
/// believed: root or the owner of the directory that it is in, and no link.
std::optional<StateDirectory> find_state_directory(const std::string& directory,
                                                   const std::string& top);

/// This machine, hashed.
std::array<std::byte, 16> machine_id();

std::string home_directory();

/// Canonical absolute path of an existing directory; errors name it as `typed`.
Result<std::string> canonical_directory(const std::string& path, const std::string& typed);

std::string to_hex(std::span<const std::byte> bytes);

}  // namespace slipway
