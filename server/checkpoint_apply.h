#pragma once

#include "base/bytes.h"
#include "base/result.h"
#include "server/checkpoint_format.h"
#include "server/checkpoint_journal.h"
#include "server/checkpoint_makes.h"
#include "server/checkpoint_target.h"
#include "wire/write_messages.h"

#include <functional>
#include <vector>

namespace slipway {

// How writes reach a file. All of it may run again after a crash, from the start, with the same
// result. A file takes: begin_file, its extents in any order, finish_file.

/// Cuts the file to the bytes of its base that stay and gives it its size. That comes before the
/// extents, none of which changes it, because a later truncation would free what they allocate
/// behind the end.
Status begin_file(int fd, const CommitFile& file);

/// `stored`: the extent's bytes in its part. Nothing is written past `size`. `scratch` is kept from
/// call to call. kCorrupt: not what the extent says.
Status apply_extent(int fd, const StageExtent& extent, ByteView stored, std::uint64_t size,
                    Bytes& scratch);

/// Sets the mtime and makes all of the file durable. Who may not set the time (not the owner)
/// leaves the time of the last write.
Status finish_file(int fd, const CommitFile& file);

/// The two halves, for several files: when all have begun to go to the disk before the first is
/// waited for, the others are mostly there with it.
Status begin_to_finish_file(int fd, const CommitFile& file);
Status sync_file(int fd);

/// The extents of a part with their bytes.
using UseExtent = std::function<Status(const StageExtent& extent, ByteView stored)>;
Status for_each_extent(const StageRequest& part, const UseExtent& use);

/// Applies a plan to its targets, whose refused ones are left alone. What is made gets its name when
/// its content is there, durably. `store` tells what the files are then. Fails only for what passes, to be run again; what else goes wrong with a file is its
/// status.
Result<CommitReply> apply_plan(const CommitPlan& plan, JournalFile& journal,
                               std::vector<CheckpointTarget>& targets, CheckpointMakes& makes,
                               DirectoryStore& store);

}  // namespace slipway
