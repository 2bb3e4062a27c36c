#include "server/options.h"

#include <CLI/CLI.hpp>

#include <arpa/inet.h>
#include <array>
#include <charconv>
#include <cstdio>
#include <string_view>
#include <utility>

namespace slipway {

namespace {

// "60100-60199" or one port, within the range that clients accept. Returns an error text or "".
std::string parse_ports(const std::string& text, ListenOptions& listen) {
  const std::string wrong =
      fmt::format("'{}' is not a range of ports within {}-{}", text, kDataPortFirst, kDataPortLast);
  const char* const end = text.data() + text.size();
  std::uint16_t first = 0;
  auto parsed = std::from_chars(text.data(), end, first);
  std::uint16_t last = first;
  if (parsed.ec == std::errc{} && parsed.ptr != end && *parsed.ptr == '-')
    parsed = std::from_chars(parsed.ptr + 1, end, last);
  if (parsed.ec != std::errc{} || parsed.ptr != end || first > last || first < kDataPortFirst ||
      last > kDataPortLast)
    return wrong;
  listen.port_first = first;
  listen.port_last = last;
  return "";
}

CLI::App* add_session(CLI::App& app, SessionOptions& options, std::string& ports) {
  CLI::App* const session =
      app.add_subcommand("session", "Serve one client on standard input and output (run by SSH)");
  session
      ->add_option("--restrict-to", options.restrict_to,
                   "Serve only this directory and those below")
      ->type_name("DIR");
  session->add_flag("--read-only", options.read_only, "Never let the client change anything");
  session->add_option("--data-port-range", ports, "TCP ports to choose from")
      ->type_name("A-B")
      ->check([&options](const std::string& text) { return parse_ports(text, options.listen); });
  session
      ->add_option("--bind", options.listen.addresses,
                   "Address to accept TCP connections on (may be repeated)")
      ->type_name("ADDR")
      ->expected(1)
      ->take_all()
      ->check([](const std::string& text) {
        in6_addr ignored{};
        const bool ok = ::inet_pton(AF_INET, text.c_str(), &ignored) == 1 ||
                        ::inet_pton(AF_INET6, text.c_str(), &ignored) == 1;
        return ok ? std::string() : "'" + text + "' is not a numeric address";
      });
  return session;
}

CommandLine::Command parsed_command(const CLI::App& session, const PublishSubcommands& publishing) {
  using Command = CommandLine::Command;
  const std::array<std::pair<const CLI::App*, Command>, 6> commands = {{
      {&session, Command::kSession},
      {publishing.publish, Command::kPublish},
      {publishing.unpublish, Command::kUnpublish},
      {publishing.gc, Command::kGc},
      {publishing.show, Command::kManifestShow},
      {publishing.check, Command::kManifestCheck},
  }};
  for (const auto& [subcommand, command] : commands) {
    if (subcommand->parsed())
      return command;
  }
  return Command::kInit;
}

}  // namespace

CommandLine parse_command_line(int argc, char** argv) {
  CommandLine line;
  CLI::App app("Slipway's image server: serves the files of a directory to `slipway mount`.",
               "slipwayd");
  app.set_version_flag("--version", "slipwayd " SLIPWAY_VERSION);
  app.require_subcommand(0, 1);  // none is refused below: CLI11 would not name a misspelt one
  app.failure_message([](const CLI::App*, const CLI::Error& error) {
    return fmt::format("slipwayd: {} (see slipwayd --help)\n", error.what());
  });
  std::string ports;
  const CLI::App* const session = add_session(app, line.session, ports);
  CLI::App* const init = app.add_subcommand(
      "init", "Give an export its identity: makes EXPORT/.slipway and prints the id");
  init->add_option("EXPORT", line.init_directory, "The directory")->required();
  CLI::App* const recover = app.add_subcommand(
      "recover", "Finish the commits of sessions that died: as root of all users, else one's own");
  recover->add_option("EXPORT", line.recover_directory, "The directory")->required();
  const PublishSubcommands publishing = add_publish_commands(app, line.publishing);
  CLI::App* const lease = app.add_subcommand("lease", "Show or break leases: who may change what");
  lease->require_subcommand(1);
  CLI::App* const lease_ls = lease->add_subcommand("ls", "List an export's leases");
  CLI::App* const lease_break = lease->add_subcommand("break", "Take a lease from its holder");
  for (CLI::App* const command : {lease_ls, lease_break})
    command->add_option("EXPORT", line.lease.directory, "The directory")->required();
  lease_break->add_option("GROUP", line.lease.group, "The group, as listed")->required();
  lease_break->add_flag("--yes", line.lease.yes, "Don't ask");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    line.exit_status = app.exit(error) == 0 ? 0 : 1;
    return line;
  }
  if (app.get_subcommands().empty()) {
    std::fputs("slipwayd: a command is needed (see slipwayd --help)\n", stderr);
    line.exit_status = 1;
    return line;
  }
  if (line.publishing.gc.paths.empty())
    line.publishing.gc.paths = {"."};
  line.command = lease_ls->parsed()      ? CommandLine::Command::kLeaseLs
                 : lease_break->parsed() ? CommandLine::Command::kLeaseBreak
                 : recover->parsed()     ? CommandLine::Command::kRecover
                                         : parsed_command(*session, publishing);
  return line;
}

}  // namespace slipway
