#pragma once

#include "base/unique_fd.h"

#include <cstdint>

namespace slipway {

// Files and directories with exactly the permission bits that are asked for: the client has applied
// its own umask, and this process's must not narrow them (default access lists do, as the system
// has it). The umask is set aside for the calling thread only, so that what other code makes keeps
// it; where the system refuses that, it narrows all the same. Any thread.

/// A new empty file, for reading and writing; none with errno set, EEXIST when the name is taken.
UniqueFd make_exact_file(int directory, const char* name, std::uint32_t mode) noexcept;

/// 0, or -1 with errno set.
int make_exact_directory(int directory, const char* name, std::uint32_t mode) noexcept;

}  // namespace slipway
