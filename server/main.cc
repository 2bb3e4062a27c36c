#include "base/log.h"
#include "publish/commands.h"
#include "secure/secret.h"
#include "server/export_root.h"
#include "server/init_export.h"
#include "server/options.h"
#include "server/recovery.h"
#include "server/session_command.h"

#include <fmt/format.h>

#include <cstdlib>
#include <exception>

namespace {

int run_init(const std::string& directory) {
  const slipway::Result<slipway::InitialisedExport> made = slipway::init_export(directory);
  if (!made) {
    slipway::log_error("{}", made.error().message);
    return EXIT_FAILURE;
  }
  if (!made->is_new)
    slipway::log_info("'{}' is initialised already", slipway::escape(directory));
  fmt::print("{}\n", slipway::to_hex(made->id));
  return EXIT_SUCCESS;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    slipway::init_secure_process();
    slipway::log_to(slipway::LogSink::kStderr, "slipwayd");
    const slipway::CommandLine line = slipway::parse_command_line(argc, argv);
    switch (line.command) {
      case slipway::CommandLine::Command::kSession:
        return slipway::run_session_command(line.session);
      case slipway::CommandLine::Command::kInit:
        return run_init(line.init_directory);
      case slipway::CommandLine::Command::kPublish:
        return slipway::run_publish_command(line.publishing.publish);
      case slipway::CommandLine::Command::kUnpublish:
        return slipway::run_unpublish_command(line.publishing.unpublish);
      case slipway::CommandLine::Command::kGc:
        return slipway::run_gc_command(line.publishing.gc);
      case slipway::CommandLine::Command::kManifestShow:
        return slipway::run_manifest_show_command(line.publishing.show);
      case slipway::CommandLine::Command::kManifestCheck:
        return slipway::run_manifest_check_command(line.publishing.check);
      case slipway::CommandLine::Command::kLeaseLs:
        return slipway::run_lease_ls_command(line.lease);
      case slipway::CommandLine::Command::kLeaseBreak:
        return slipway::run_lease_break_command(line.lease);
      case slipway::CommandLine::Command::kRecover:
        return slipway::run_recover_command(line.recover_directory);
      case slipway::CommandLine::Command::kExit:
        return line.exit_status;
    }
  } catch (const std::exception& error) {
    fmt::print(stderr, "slipwayd: {}\n", error.what());
  }
  return EXIT_FAILURE;
}
