#include "base/log.h"
#include "publish/commands.h"
#include "publish/text_report.h"

#include <algorithm>
#include <cstdlib>
#include <map>
#include <thread>
#include <unistd.h>

namespace slipway {

namespace {

constexpr int kInterruptedStatus = 130;  // what a shell says of SIGINT

/// The paths of a command by the export they are in, in the order of the exports' names.
using PathsByExport = std::map<std::string, std::vector<std::string>>;

Result<PathsByExport> by_export(const std::vector<std::string>& paths) {
  PathsByExport found;
  for (const std::string& path : paths) {
    SLIPWAY_TRY_ASSIGN(const ExportPlace place, locate_in_export(path));
    found[place.root].push_back(place.relative);
  }
  return found;
}

// Others may be at work; what they do may take long.
Status lock(PublishedExport& served, bool exclusive, Interrupt& interrupt) {
  for (bool said = false;; said = true) {
    const Status locked = served.try_lock(exclusive);
    if (locked || locked.error().code != ErrorCode::kBusy)
      return locked;
    if (!said)
      log_info("{}; waiting for it to end", locked.error().message);
    if (interrupt.wait(std::chrono::milliseconds(200)))
      return fail(ErrorCode::kInterrupted, "interrupted");
  }
}

int report_error(const Error& error) {
  log_error("{}", error.message);
  return error.code == ErrorCode::kInterrupted ? kInterruptedStatus : EXIT_FAILURE;
}

Result<PublishSummary> publish_in(const std::string& root, const std::vector<std::string>& paths,
                                  const PublishCommand& command, Interrupt& interrupt) {
  SLIPWAY_TRY_ASSIGN(const auto served, PublishedExport::open(root));
  SLIPWAY_TRY(lock(*served, /*exclusive=*/false, interrupt));
  std::unique_ptr<PublishReport> report;
  if (command.json)
    report = std::make_unique<JsonReport>();
  else
    report = std::make_unique<TextReport>(::isatty(STDERR_FILENO) == 1);
  Publisher publisher(*served, command.options, *report, interrupt);
  for (const std::string& path : paths)
    publisher.add(path);
  return publisher.run();
}

using CollectWork =
    std::function<Result<Collected>(Collector& collector, const std::string& relative)>;

int collect(const CollectCommand& command, const CollectWork& work) {
  const Result<PathsByExport> exports = by_export(command.paths);
  if (!exports)
    return report_error(exports.error());
  Interrupt interrupt;
  Collected all;
  for (const auto& [root, paths] : *exports) {
    const auto served = PublishedExport::open(root);
    const Status ready =
        served ? lock(**served, /*exclusive=*/true, interrupt) : fail(served.error());
    if (!ready)
      return report_error(ready.error());
    for (const std::string& path : paths) {
      Collector collector(**served, command.options,
                          [](const std::string& line) { fmt::print("{}\n", line); });
      const Result<Collected> freed = work(collector, path);
      if (!freed)
        return report_error(freed.error());
      all.manifests += freed->manifests;
      all.packs += freed->packs;
      all.roots += freed->roots;
      all.bytes += freed->bytes;
      all.failed += freed->failed;
    }
  }
  fmt::print("{} {} manifests, {} frame packs and {} roots: {}\n",
             command.options.dry_run ? "would remove" : "removed", all.manifests, all.packs,
             all.roots, format_size(all.bytes));
  return all.failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

}  // namespace

unsigned default_threads() noexcept {
  return std::max(1U, std::thread::hardware_concurrency());
}

int run_publish_command(const PublishCommand& command) {
  const Result<PathsByExport> exports = by_export(command.paths);
  if (!exports)
    return report_error(exports.error());
  Interrupt interrupt;
  int status = EXIT_SUCCESS;
  bool is_new = false;
  for (const auto& [root, paths] : *exports) {
    const Result<PublishSummary> done = publish_in(root, paths, command, interrupt);
    if (!done)
      return report_error(done.error());
    if (done->interrupted)
      return kInterruptedStatus;
    if (done->failed != 0)
      status = EXIT_FAILURE;
    is_new |= done->published != 0;
  }
  // The root's link made the files young: until they are older, no session believes the manifests.
  if (is_new && interrupt.wait(kYoungAge))
    return kInterruptedStatus;
  return status;
}

int run_unpublish_command(const CollectCommand& command) {
  return collect(command, [](Collector& collector, const std::string& relative) {
    return collector.unpublish(relative);
  });
}

int run_gc_command(const CollectCommand& command) {
  return collect(command,
                 [](Collector& collector, const std::string&) { return collector.collect(); });
}

}  // namespace slipway
