#include <unistd.h>

#include <cstdio>
#include <exception>

#include "base/log.h"
#include "commands/commands.h"
#include "commands/exit_codes.h"
#include "options.h"
#include "secure/secret.h"

namespace slipway {

namespace {

int run(int argc, char** argv) {
  const CommandLine line = parse_command_line(argc, argv);
  switch (line.command) {
    case CommandLine::Command::kDone:
      return line.exit_status;
    case CommandLine::Command::kUmount:
      return umount_command(line.mountpoints, {line.lazy, line.detach, line.timeout});
    case CommandLine::Command::kStatus:
      return status_command(line.mountpoint, line.json);
    case CommandLine::Command::kPrefetch:
      return prefetch_command(line.paths);
    case CommandLine::Command::kFlush:
    case CommandLine::Command::kInvalidate:
      return flush_command(line.paths, line.command == CommandLine::Command::kInvalidate,
                           line.timeout);
    case CommandLine::Command::kLeaseLs:
      return lease_ls_command(line.mountpoint, line.json);
    case CommandLine::Command::kLeaseBreak:
      return lease_break_command(line.mountpoint, line.group, line.yes);
    case CommandLine::Command::kRecover:
    case CommandLine::Command::kMount:
      break;
  }
  init_secure_process();  // also tells which ciphers the processor has
  const Mounter mounter{::geteuid(), ::getegid()};
  if (line.command == CommandLine::Command::kRecover)
    return recover_command(line.cache, line.json, mounter);
  auto options = parse_mount_options(line.source, line.mountpoint, line.option_strings, mounter);
  if (!options) {
    std::fprintf(stderr, "slipway: %s\n", options.error().message.c_str());
    return kExitUsage;
  }
  options->foreground = line.foreground;
  options->verbose = line.verbosity > 0;
  // Until the daemon detaches its terminal shows only what is wrong.
  set_log_level(line.verbosity > 1    ? LogLevel::kTrace
                : line.verbosity == 1 ? LogLevel::kDebug
                : line.foreground     ? LogLevel::kInfo
                                      : LogLevel::kWarning);
  return mount_command(std::move(*options), mounter);
}

}  // namespace

}  // namespace slipway

int main(int argc, char** argv) {
  try {
    return slipway::run(argc, argv);
  } catch (const std::exception& e) {  // out of memory at start: nothing is mounted yet
    std::fprintf(stderr, "slipway: %s\n", e.what());
    return slipway::kExitSystem;
  }
}
