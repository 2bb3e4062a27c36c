#include "server/lease_command.h"

#include "base/log.h"
#include "base/units.h"
#include "server/export_root.h"
#include "server/lease_store.h"

#include <cstdio>
#include <cstdlib>
#include <unistd.h>

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

void print_line(const LeaseEntry& lease) {
  fmt::print("{:<24} {:<24} {:>7}s {:>7}s {:>10}{}\n", name_of_group(lease),
             fmt::format("{}@{}", escape(lease.user), escape(lease.host)), lease.age_ms / 1000,
             lease.expires_in_ms / 1000, format_size(lease.unsent_bytes),
             lease.wanted_by.empty() ? "" : "  wanted by " + escape(lease.wanted_by));
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
  fmt::print("{:<24} {:<24} {:>8} {:>8} {:>10}\n", "GROUP", "HOLDER", "AGE", "EXPIRES", "UNSENT");
  return for_each_lease(*leases, [](const LeaseEntry& lease) {
    print_line(lease);
    return true;
  });
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
  fmt::print(stderr,
             "The lease on '{}' is held by user {} on host {}, for {} s; {} written there are not "
             "here and will end up in conflict copies.\n",
             name_of_group(found), escape(found.user), escape(found.host), found.age_ms / 1000,
             format_size(found.unsent_bytes));
  if (!options.yes && ::isatty(STDIN_FILENO) == 0)
    return fail(ErrorCode::kInvalid, "not asked on a terminal: say --yes");
  if (!options.yes && !confirms())
    return fail(ErrorCode::kCancelled, "nothing was done");
  SLIPWAY_TRY_ASSIGN(const LeaseReply reply, leases->break_lease(group, found.epoch));
  if (reply.outcome != LeaseOutcome::kDone)
    return fail(ErrorCode::kStale, "the lease has passed to another holder meanwhile");
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
