#pragma once

#include <string>
#include <vector>

namespace slipway {

/// What the command line asks `slipway` to do.
struct CommandLine {
  enum class Command { kMount, kUmount, kStatus, kPrefetch, kDone } command = Command::kDone;
  int exit_status = 0;  ///< kDone: help, version or a usage error has been printed

  std::string source;
  std::string mountpoint;                 ///< status: may be empty (all mounts)
  std::vector<std::string> mountpoints;   ///< umount
  std::vector<std::string> paths;         ///< prefetch
  std::vector<std::string> option_strings;  ///< each -o
  bool foreground = false;
  int verbosity = 0;  ///< times that -v was given
  bool lazy = false;
  bool json = false;
};

/// Understands `slipway COMMAND ...`, the mount(8) helper form `mount.slipway SOURCE DIR [-sfnvN]
/// [-o OPTIONS]` (by the program's name), and the form that mount.fuse3 uses, `slipway SOURCE DIR
/// [-o OPTIONS]`. Prints help, version and usage errors itself.
CommandLine parse_command_line(int argc, char** argv);

}  // namespace slipway
