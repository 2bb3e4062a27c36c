#pragma once

#include "base/result.h"

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <vector>

namespace slipway {

// Names of files in a directory of leases (LeaseDirectory), and who has them.

inline constexpr std::string_view kLeaseLockSuffix = ".lock";
inline constexpr std::string_view kLeaseWishSuffix = ".wish";
inline constexpr std::string_view kLeaseUnfinished = ".new-";  ///< begins unfinished files' names
inline constexpr std::size_t kLeaseFilesMax = 256 * 1024;  ///< of which any are looked at

/// What the names of all files of a group begin with.
std::string lease_hash(const std::string& group);

std::string lease_record_name(const std::string& group, uid_t uid);
std::string lease_wish_name(const std::string& group, uid_t uid);

/// Whose record a file is; nothing: it is none.
std::optional<uid_t> lease_record_uid(std::string_view name);

/// Names in the directory that begin so.
Result<std::vector<std::string>> list_lease_files(int directory, std::string_view prefix);

/// Whether that user may write to a file or directory, as far as the bits say; `name` "": the
/// directory itself. Where there is an access list they don't, and then everybody is taken for one
/// who may: it is better to wait for somebody who can't write than to overlook one who can.
bool may_write(uid_t uid, int directory, const std::string& name);

}  // namespace slipway
