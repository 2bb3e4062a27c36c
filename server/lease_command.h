#pragma once

#include <cstdint>
#include <string>

namespace slipway {

/// The command line of `slipwayd lease`.
struct LeaseCommandOptions {
  std::string directory;  ///< the export, or something below it
  std::string group;
  bool yes = false;
};

/// Prints the leases of an export.
int run_lease_ls_command(const LeaseCommandOptions& options);

/// Takes the lease on a group away from its holder, as root or as one who may write to the group.
int run_lease_break_command(const LeaseCommandOptions& options);

}  // namespace slipway
