#pragma once

#include <optional>
#include <string>
#include <vector>

namespace slipway {

/// What the command line asks `slipway` to do.
struct CommandLine {
  enum class Command { kMount, kUmount, kStatus, kPrefetch, kFlush, kInvalidate, kRecover, kLeaseLs, kLeaseBreak, kDone } command = Command::kDone;
  int exit_status = 0;  ///< kDone: help, version or a usage error has been printed

  std::string source;
  std::string mountpoint;                 ///< status: may be empty (all mounts)
  std::vector<std::string> mountpoints;   ///< umount
  std::vector<std::string> paths;         ///< prefetch, flush, invalidate
  std::string cache;                      ///< recover: may be empty (list)
  bool detach = false;                    ///< umount
  std::optional<double> timeout;          ///< seconds: umount, flush, invalidate
  std::vector<std::string> option_strings;  ///< each -o
  bool foreground = false;
  int verbosity = 0;  ///< times that -v was given
  bool lazy = false;
  bool json = false;
  std::string group;  ///< lease break
  bool yes = false;   ///< lease break
};

/// Understands `slipway COMMAND ...`, the mount(8) helper form `mount.slipway SOURCE DIR [-sfnvN]
/// [-o OPTIONS]` (by the program's name), and the form that mount.fuse3 uses, `slipway SOURCE DIR
/// [-o OPTIONS]`. Prints help, version and usage errors itself.
CommandLine parse_command_line(int argc, char** argv);

}  // namespace slipway
