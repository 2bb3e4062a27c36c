#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <thread>

#include "base/log.h"
#include "base/unique_fd.h"
#include "base/units.h"
#include "commands/commands.h"
#include "commands/exit_codes.h"
#include "fs/prefetch_ioctl.h"

namespace slipway {

namespace {

constexpr std::chrono::milliseconds kInterval{200};

void show(const std::string& path, const PrefetchReport& report, bool last) {
  if (::isatty(STDERR_FILENO) == 0)
    return;
  std::fprintf(stderr, "\r%s: %s of %s%s", escape(path).c_str(),
               format_size(report.bytes_done).c_str(), format_size(report.bytes_total).c_str(),
               last ? "\n" : "   ");
}

bool prefetch(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) {
    fmt::print(stderr, "slipway: '{}': {}\n", escape(path), std::strerror(errno));
    return false;
  }
  for (;;) {
    PrefetchReport report;
    if (::ioctl(fd.get(), kPrefetchIoctl, &report) != 0) {
      const int error = errno;
      const bool foreign = error == ENOTTY || error == EINVAL || error == ENOSYS;
      fmt::print(stderr, "slipway: '{}': {}\n", escape(path),
                 foreign           ? "not a file of a slipway mount"
                 : error == ENOSPC ? "the cache is too small for it: see cache_size"
                                   : std::strerror(error));
      return false;
    }
    const bool running = report.state == kPrefetchRunning;
    show(path, report, !running);
    if (!running && (report.state != kPrefetchDone || report.bytes_failed != 0)) {
      fmt::print(stderr, "slipway: '{}': {} could not be fetched; status and log tell more\n",
                 escape(path), report.bytes_failed != 0 ? format_size(report.bytes_failed) : "it");
      return false;
    }
    if (!running)
      return true;
    std::this_thread::sleep_for(kInterval);
  }
}

}  // namespace

int prefetch_command(const std::vector<std::string>& paths) {
  bool good = true;
  for (const std::string& path : paths)
    good = prefetch(path) && good;
  return good ? kExitOk : kExitFailure;
}

}  // namespace slipway
