#pragma once

#include "fs/file_system.h"
#include "wire/messages.h"

#include <sys/stat.h>

namespace slipway {

/// What stat() shows of a remote file, with the mount's owner and umask applied.
struct stat stat_of(const Attributes& attributes, const FileSystemOptions& options) noexcept;

/// S_IFREG and so on.
mode_t file_type_bits(FileType type) noexcept;

}  // namespace slipway
