#include "publish/frame_store.h"

#include "publish/published_index.h"
#include "server/file_attributes.h"
#include "server/safe_open.h"

#include <cerrno>
#include <fcntl.h>
#include <sys/statvfs.h>

namespace slipway {

Result<FrameStore> FrameStore::open(const PublishedExport& served,
                                    const std::optional<std::uint64_t>& bytes_max) {
  FrameStore store;
  SLIPWAY_TRY_ASSIGN(const UniqueFd frames,
                     open_beneath(served.state(), "frames", O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  if (bytes_max) {
    store.max_ = *bytes_max;
  } else {
    struct statvfs info {};

    if (::fstatvfs(frames.get(), &info) != 0)
      return fail_errno(errno, "statvfs");
    store.max_ = std::uint64_t{info.f_blocks} * info.f_frsize / 10;
  }
  SLIPWAY_TRY_ASSIGN(const std::vector<std::string> names, names_in_state(served, "frames"));
  for (const std::string& name : names) {
    if (const auto stat = stat_at(frames.get(), name.c_str()); stat && S_ISREG(stat->stx_mode))
      store.used_ += stat->stx_size;
  }
  return store;
}

}  // namespace slipway
