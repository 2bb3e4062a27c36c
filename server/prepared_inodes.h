#pragma once

#include "base/result.h"
#include "server/directory_store.h"
#include "server/prepared_directory.h"
#include "wire/write_messages.h"

#include <vector>

namespace slipway {

// Making the inodes that later commits give names to.

/// Whether this user may make names in `directory` (O_PATH) and an inode of `prepared` can get one
/// there: kAccessDenied, kReadOnly, or kCrossDevice for another file system or mount.
Status check_reach(int directory, int prepared);

/// The answer to a request, but for its `tidy`. Inodes are made where the directory lies in the
/// journal's own file system and mount, whoever may write to it (they are for others, too), and are
/// durable: a client counts on them long before it commits. kNoSpace beyond kPreparedMax; what fails
/// leaves no inode behind.
Result<PrepareReply> prepare_inodes(const PrepareRequest& request, PreparedDirectory& prepared,
                                    DirectoryStore& store);

/// Removes all but `kept`. REQUIRES: the lock, alone; no commit that names any of them is pending.
Status tidy_inodes(const std::vector<FileId>& kept, const PreparedDirectory& prepared,
                   DirectoryStore& store);

}  // namespace slipway
