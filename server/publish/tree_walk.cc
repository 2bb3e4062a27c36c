#include "publish/tree_walk.h"

#include "base/log.h"
#include "server/file_attributes.h"
#include "server/safe_open.h"
#include "wire/limits.h"

#include <algorithm>
#include <cerrno>
#include <dirent.h>
#include <fcntl.h>
#include <memory>
#include <sys/stat.h>
#include <vector>

namespace slipway {

namespace {

struct CloseDirectory {
  void operator()(DIR* opened) const noexcept { ::closedir(opened); }
};

// The names in a directory, so that only one directory is open at a time however deep it goes.
Result<std::vector<std::string>> names_in(UniqueFd fd) {
  const std::unique_ptr<DIR, CloseDirectory> opened(::fdopendir(fd.get()));
  if (!opened)
    return fail_errno(errno, "opendir");
  [[maybe_unused]] const int owned = fd.release();
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* const entry = ::readdir(opened.get())) {
    const std::string name = entry->d_name;
    if (name != "." && name != ".." && name != kStateDirectoryName)
      names.push_back(name);
  }
  if (errno != 0)
    return fail_errno(errno, "readdir");
  std::sort(names.begin(), names.end());
  return names;
}

class Walk {
 public:
  Walk(const PublishedExport& served, const TreeVisitor& visitor)
      : served_(served), visitor_(visitor) {}

  void run(const std::string& top) {
    look_at(top);
    while (!directories_.empty()) {
      const std::string directory = std::move(directories_.back());
      directories_.pop_back();
      if (const Status done = enter(directory); !done)
        visitor_.unseen(directory, done.error());
    }
  }

 private:
  void look_at(const std::string& path) {
    const Result<UniqueFd> fd = open_beneath(served_.root(), path, O_PATH | O_NOFOLLOW);
    const Result<struct statx> stat = fd ? stat_at(fd->get(), "") : fail(fd.error());
    if (!stat) {
      if (stat.error().code != ErrorCode::kNotFound)  // gone since it was listed
        visitor_.unseen(path, stat.error());
      return;
    }
    if (S_ISDIR(stat->stx_mode))
      directories_.push_back(path);
    else if (S_ISREG(stat->stx_mode))
      visitor_.file(path, *stat, fd->get());
  }

  Status enter(const std::string& directory) {
    SLIPWAY_TRY_ASSIGN(
        UniqueFd fd, open_beneath(served_.root(), directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
    SLIPWAY_TRY_ASSIGN(const std::vector<std::string> names, names_in(std::move(fd)));
    const std::size_t before = directories_.size();
    for (const std::string& name : names) {
      const std::string path = directory.empty() ? name : directory + "/" + name;
      if (name.size() > kNameMax || path.size() > kPathMax)
        visitor_.unseen(path, {ErrorCode::kNameTooLong, "the name is too long to be served"});
      else
        look_at(path);
    }
    // The last one pushed is entered first.
    std::reverse(directories_.begin() + static_cast<std::ptrdiff_t>(before), directories_.end());
    return {};
  }

  const PublishedExport& served_;
  const TreeVisitor& visitor_;
  std::vector<std::string> directories_;  ///< still to be entered
};

}  // namespace

void walk_tree(const PublishedExport& served, const std::string& relative,
               const TreeVisitor& visitor) {
  Walk(served, visitor).run(relative);
}

}  // namespace slipway
