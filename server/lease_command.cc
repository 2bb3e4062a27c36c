#include "server/lease_command.h"

#include "base/log.h"
#include "base/units.h"
#include "server/export_root.h"
#include "server/lease_store.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

namespace slipway {

namespace {

Result<std::unique_ptr<LeaseStore>> open_leases(const std::string& directory) {
  SLIPWAY_TRY_ASSIGN(const ExportRoot root, open_export(directory, ""));
  LeaseStore::Options options;
  options.directory = root.lease_directory;
  options.top = root.lease_top;
  return LeaseStore::open(std::move(options));
}

std::string name_of_group(const LeaseEntry& lease) {
  return lease.group.empty() ? "." : escape(lease.group);
}

using Row = std::array<std::string, 6>;

Row row_of(const LeaseEntry& lease) {
  std::string state = lease.expires_in_ms > 0  ? "held"
                      : lease.unsent_bytes > 0 ? "expired, kept for what is unsent"
                                               : "expired, free to take";
  if (!lease.wanted_by.empty())
    state += ", wanted by " + escape(lease.wanted_by);
  return {name_of_group(lease),
          fmt::format("{}@{}", escape(lease.user), escape(lease.host)),
          fmt::format("{} s", lease.age_ms / 1000),
          lease.expires_in_ms > 0 ? fmt::format("{} s", lease.expires_in_ms / 1000) : "-",
          format_size(lease.unsent_bytes),
          std::move(state)};
}

// Each column as wide as what stands in it; numbers to the right.
void print_table(const std::vector<Row>& rows) {
  std::array<std::size_t, 6> widths{};
  for (const Row& row : rows)
    for (std::size_t i = 0; i < row.size(); ++i)
      widths[i] = std::max(widths[i], row[i].size());
  for (const Row& row : rows)
    fmt::print("{:<{}}  {:<{}}  {:>{}}  {:>{}}  {:>{}}  {}\n", row[0], widths[0], row[1], widths[1],
               row[2], widths[2], row[3], widths[3], row[4], widths[4], row[5]);
}

// `look` is given one lease after the other, until it returns false.
template <class Look>
Status for_each_lease(const LeaseStore& leases, const Look& look) {
  std::string after;
  for (;;) {
    SLIPWAY_TRY_ASSIGN(const LeaseReply page, leases.list(after));
    for (const LeaseEntry& lease : page.leases)
      if (!look(lease))
        return {};
    if (!page.more || page.leases.empty())
      return {};
    after = page.leases.back().group;
  }
}

bool confirms() {
  fmt::print(stderr, "Break it? [y/N] ");
  std::fflush(stderr);
  char line[16] = {};
  return std::fgets(line, sizeof line, stdin) != nullptr && (line[0] == 'y' || line[0] == 'Y');
}

Status list_leases(const LeaseCommandOptions& options) {
  SLIPWAY_TRY_ASSIGN(const std::unique_ptr<LeaseStore> leases, open_leases(options.directory));
  std::vector<Row> rows{{"GROUP", "HOLDER", "HELD FOR", "EXPIRES IN", "UNSENT", "STATE"}};
  SLIPWAY_TRY(for_each_lease(*leases, [&rows](const LeaseEntry& lease) {
    rows.push_back(row_of(lease));
    return true;
  }));
  if (rows.size() == 1)
    fmt::print("nobody holds a lease on anything in {}\n", escape(options.directory));
  else
    print_table(rows);
  return {};
}

// What breaking a lease means for who holds it.
std::string loss_of(const LeaseEntry& lease) {
  const std::string open = "Files that are open for writing there take no more writes.";
  if (lease.unsent_bytes == 0)
    return "everything written there is here. " + open;
  return fmt::format(
      "{} written there are not here. {} What is unsent is not dropped: should that host send it, "
      "it goes into its file if nobody else has changed that or holds the lease then, and into a "
      "conflict copy beside it otherwise.",
      format_size(lease.unsent_bytes), open);
}

Status break_one(const LeaseCommandOptions& options) {
  SLIPWAY_TRY_ASSIGN(const std::unique_ptr<LeaseStore> leases, open_leases(options.directory));
  const std::string group = options.group == "." ? "" : options.group;
  LeaseEntry found;
  SLIPWAY_TRY(for_each_lease(*leases, [&](const LeaseEntry& lease) {
    if (lease.group != group)
      return true;
    found = lease;
    return false;
  }));
  if (!found.held)
    return fail(ErrorCode::kNotFound, "nobody holds a lease on '{}'", escape(options.group));
  fmt::print(stderr, "The lease on '{}' is held by user {} on host {}, for {} s; {}\n",
             name_of_group(found), escape(found.user), escape(found.host), found.age_ms / 1000,
             loss_of(found));
  if (!options.yes && ::isatty(STDIN_FILENO) == 0)
    return fail(ErrorCode::kInvalid, "not asked on a terminal: say --yes");
  if (!options.yes && !confirms())
    return fail(ErrorCode::kCancelled, "nothing was done");
  SLIPWAY_TRY_ASSIGN(const LeaseReply reply, leases->break_lease(group, found.epoch));
  if (reply.outcome != LeaseOutcome::kDone)
    return fail(ErrorCode::kStale,
                "nothing was broken: the lease has passed to another holder meanwhile, or was "
                "given back");
  return {};
}

int report(const Status& done) {
  if (done)
    return EXIT_SUCCESS;
  log_error("{}", done.error().message);
  return EXIT_FAILURE;
}

}  // namespace

int run_lease_ls_command(const LeaseCommandOptions& options) {
  return report(list_leases(options));
}

int run_lease_break_command(const LeaseCommandOptions& options) {
  return report(break_one(options));
}

}  // namespace slipway
