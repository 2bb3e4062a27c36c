#include "publish/image_scan.h"

#include "publish/region_scanner.h"

#include <cerrno>
#include <condition_variable>
#include <fcntl.h>
#include <map>
#include <mutex>
#include <optional>
#include <sys/stat.h>
#include <thread>

namespace slipway {

namespace {

constexpr std::uint64_t kThreadsPay = 4;  // regions: a shorter file is done before threads run

/// Hands out regions to threads and takes their results back in order. At most `window` regions are
/// under way or waiting for their turn. Any thread.
class RegionLine {
 public:
  RegionLine(std::uint64_t regions, std::uint64_t window) : regions_(regions), window_(window) {}

  /// The next region to scan; nothing when there is no more work.
  std::optional<std::uint64_t> take() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return is_over() || next_ < wanted_ + window_; });
    if (is_over())
      return std::nullopt;
    return next_++;
  }

  void deliver(std::uint64_t number, Result<ScannedRegion> result) {
    const std::lock_guard lock(mutex_);
    results_.emplace(number, std::move(result));
    changed_.notify_all();
  }

  /// The result whose turn it is.
  Result<ScannedRegion> get() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return results_.count(wanted_) == 1; });
    auto node = results_.extract(wanted_);
    ++wanted_;
    changed_.notify_all();
    return std::move(node.mapped());
  }

  void stop() {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    changed_.notify_all();
  }

 private:
  bool is_over() const noexcept { return stopped_ || next_ == regions_; }

  const std::uint64_t regions_;
  const std::uint64_t window_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::uint64_t, Result<ScannedRegion>> results_;
  std::uint64_t next_ = 0;    ///< to be taken
  std::uint64_t wanted_ = 0;  ///< to be got
  bool stopped_ = false;
};

struct StopAtEnd {
  RegionLine& line;

  ~StopAtEnd() { line.stop(); }
};

Status give(Result<ScannedRegion> found, const RegionSink& sink) {
  return found ? sink(*found) : fail(std::move(found).error());
}

}  // namespace

Status ImageScan::run(const RegionSink& sink) {
  SLIPWAY_TRY(scan_regions(sink));

  struct stat info {};

  // What was cut off meanwhile looks like a hole.
  if (::fstat(fd_, &info) != 0)
    return fail_errno(errno, "fstat");
  if (static_cast<std::uint64_t>(info.st_size) < size_)
    return fail(ErrorCode::kChanging, "it became shorter while it was read");
  return {};
}

Status ImageScan::scan_regions(const RegionSink& sink) {
  const std::uint64_t regions = region_count(size_);
  ::posix_fadvise(fd_, 0, 0, POSIX_FADV_SEQUENTIAL);
  if (options_.threads <= 1 || regions < kThreadsPay) {
    RegionScanner scanner(fd_, size_);
    for (std::uint64_t number = 0; number < regions; ++number)
      SLIPWAY_TRY(give(scanner.scan(number, frames_), sink));
    return {};
  }
  const std::uint64_t window = 2 * std::uint64_t{options_.threads};
  RegionLine line(regions, window);
  const auto work = [&] {
    RegionScanner scanner(fd_, size_);
    while (const std::optional<std::uint64_t> number = line.take()) {
      ::posix_fadvise(fd_, static_cast<off_t>((*number + options_.threads) * kRegionSize),
                      kRegionSize, POSIX_FADV_WILLNEED);
      line.deliver(*number, scanner.scan(*number, frames_));
    }
  };
  std::vector<std::jthread> threads;  // joined, once the line is stopped
  const StopAtEnd stop{line};
  for (unsigned i = 0; i < options_.threads; ++i)
    threads.emplace_back(work);
  Status done;
  for (std::uint64_t number = 0; number < regions && done; ++number)
    done = give(line.get(), sink);
  return done;
}

}  // namespace slipway
