#pragma once

#include "base/result.h"
#include "base/unique_fd.h"

#include <string>
#include <string_view>

namespace slipway {

/// The name that is hidden at every level of an export.
inline constexpr std::string_view kStateDirectoryName = ".slipway";

bool has_hidden_component(std::string_view path) noexcept;

/// The path of the directory that a path lies in ("": the root), and the name there.
std::string_view directory_of(std::string_view path) noexcept;
std::string leaf_of(std::string_view path);

/// Opens `path` ("" is the root itself) below the directory `root`, whatever its components turned
/// into meanwhile: no symbolic link is followed, no magic link, nothing above the root is reached.
/// A link in the middle is kStale (the client resolves links itself, so the name changed).
/// O_CLOEXEC is added. With O_PATH and O_NOFOLLOW the last component may be a link.
Result<UniqueFd> open_beneath(int root, const std::string& path, int flags);

/// Opens the regular file or directory behind an O_PATH descriptor for reading, without side
/// effects on anything else: the type is looked at first, so no device, fifo or socket is ever
/// opened. Keeps atime where it may.
Result<UniqueFd> reopen_for_reading(int path_fd);

/// A regular file only, for reading and writing.
Result<UniqueFd> reopen_for_writing(int path_fd);

}  // namespace slipway
