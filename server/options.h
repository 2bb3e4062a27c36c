#pragma once

#include "server/lease_command.h"
#include "server/publish_options.h"
#include "server/session_setup.h"

#include <string>

namespace slipway {

struct CommandLine {
  enum class Command {
    kSession,
    kInit,
    kPublish,
    kUnpublish,
    kGc,
    kManifestShow,
    kManifestCheck,
    kLeaseLs,
    kLeaseBreak,
    kRecover,
    kExit
  } command = Command::kExit;
  SessionOptions session;
  std::string init_directory;
  std::string recover_directory;
  LeaseCommandOptions lease;
  PublishCommandLine publishing;
  int exit_status = 0;  ///< for kExit: help or the version was printed, or an error
};

/// Prints help, the version and errors itself.
CommandLine parse_command_line(int argc, char** argv);

}  // namespace slipway
