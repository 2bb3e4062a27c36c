#include "options.h"

#include <CLI/CLI.hpp>
#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>

#include "commands/exit_codes.h"

namespace slipway {

namespace {

/// One line, as for every other error.
std::string explain(const CLI::App* app, const CLI::Error& error) {
  const CLI::App* top = app;
  while (top->get_parent() != nullptr)
    top = top->get_parent();
  return fmt::format("{}: {} (see {} --help)\n", top->get_name(), error.what(), top->get_name());
}

/// What is wrong with a --timeout; "": nothing. CLI11's own checks do not name the option's range.
std::string check_seconds(std::string& text) {
  constexpr double kSecondsMax = 1e6;
  char* end = nullptr;
  const double seconds = std::strtod(text.c_str(), &end);
  const bool is_number = !text.empty() && *end == '\0';
  return is_number && seconds >= 0 && seconds <= kSecondsMax
             ? ""
             : fmt::format("'{}': expected a number of seconds from 0 to {}", text, kSecondsMax);
}

/// -o takes one word and may come before the positionals.
void add_mount_options(CLI::App& app, CommandLine& out, const char* help) {
  app.add_option("-o", out.option_strings, help)->type_name("OPTION,...")->expected(1)->take_all();
}

std::string base_name(const std::string& path) { return path.substr(path.rfind('/') + 1); }

/// The file system type's helper: mount(8) calls it SOURCE DIR [-sfnvN] [-o OPTIONS] [-t TYPE].
CommandLine parse_helper(int argc, char** argv, const std::string& name) {
  CommandLine out;
  CLI::App app("Mounts a Slipway export; called by mount(8). See mount.slipway(8).", name);
  app.failure_message(explain);
  bool fake = false;
  bool ignored = false;
  std::string type;
  std::string space;
  app.add_option("source", out.source, "[user@]host:/dir or local:/dir")->required();
  app.add_option("mountpoint", out.mountpoint, "directory to mount on")->required();
  add_mount_options(app, out, "options: see slipway(1)");
  app.add_flag("-s", ignored, "ignored: unknown options are errors");
  app.add_flag("-f", fake, "fake: check the arguments, don't mount");
  app.add_flag("-n", ignored, "ignored: there is no mtab");
  app.add_flag("-v", out.verbosity, "log more; twice: also what libraries tell");
  app.add_option("-N", space, "namespace (not supported)");
  app.add_option("-t", type, "type, ignored");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    out.exit_status = app.exit(e) == 0 ? kExitOk : kExitUsage;
    return out;
  }
  if (!space.empty()) {
    std::fprintf(stderr, "%s: -N is not supported: use nsenter(1)\n", name.c_str());
    out.exit_status = kExitUsage;
  } else if (!fake) {
    out.command = CommandLine::Command::kMount;
  }
  return out;
}

}  // namespace

CommandLine parse_command_line(int argc, char** argv) {
  const std::string name = base_name(argv[0]);
  if (name.starts_with("mount."))
    return parse_helper(argc, argv, name);
  // mount.fuse3 runs "slipway SOURCE DIR -o OPTIONS"; no command's name holds a colon.
  if (argc >= 3 && argv[1][0] != '-' && std::string(argv[1]).find(':') != std::string::npos)
    return parse_helper(argc, argv, name);

  CommandLine out;
  CLI::App app("Mounts a remote directory of VM images as if it were local.", "slipway");
  app.set_version_flag("--version,-V", "slipway " SLIPWAY_VERSION);
  app.require_subcommand(0, 1);  // none is refused below: CLI11 would not name a misspelt one
  app.failure_message(explain);
  app.footer("Manual pages: slipway(1), slipwayd(8), mount.slipway(8).");

  CLI::App* mount = app.add_subcommand("mount", "Mount an export: returns when the mount works");
  mount->add_option("source", out.source, "[user@]host:/dir, or local:/dir without SSH")->required();
  mount->add_option("mountpoint", out.mountpoint, "an empty directory")->required();
  add_mount_options(*mount, out, "options, may be repeated: see slipway(1)");
  mount->add_flag("-f,--foreground", out.foreground, "stay in the foreground, log to the terminal");
  mount->add_flag("-v,--verbose", out.verbosity, "log more; twice: also what libraries tell");

  CLI::App* umount = app.add_subcommand("umount", "Unmount, and wait for the mount's process");
  umount->add_option("mountpoint", out.mountpoints, "mounted directories")->required();
  umount->add_flag("-l,--lazy", out.lazy, "detach now, even when in use");
  umount->add_flag("--detach", out.detach, "leave unsent writes in the cache, for the next mount");
  umount->add_option("--timeout", out.timeout, "seconds to wait for unsent writes to be sent")
      ->type_name("SECONDS")
      ->check(CLI::Validator(check_seconds, ""));

  CLI::App* status = app.add_subcommand("status", "Show the state of a mount, or of all of yours");
  status->add_option("mountpoint", out.mountpoint, "a mounted directory");
  status->add_flag("--json", out.json, "as JSON");

  CLI::App* prefetch =
      app.add_subcommand("prefetch", "Bring whole files of a mount into its cache");
  prefetch->add_option("path", out.paths, "files of a mount")->required();

  CLI::App* flush = app.add_subcommand("flush", "Write back, and return when it is done");
  CLI::App* invalidate =
      app.add_subcommand("invalidate", "Write back, then let go of what the kernel has cached");
  for (CLI::App* command : {flush, invalidate}) {
    command->add_option("path", out.paths, "files, directories or mounts")->required();
    command->add_option("--timeout", out.timeout, "seconds to wait; else without end")
        ->type_name("SECONDS")
        ->check(CLI::Validator(check_seconds, ""));
  }

  CLI::App* recover =
      app.add_subcommand("recover", "List caches with unsent writes, or send what is in one");
  recover->add_option("cache", out.cache, "a cache's directory, as listed");
  recover->add_flag("--json", out.json, "as JSON");

  CLI::App* lease = app.add_subcommand("lease", "Show or break leases: who may change what");
  lease->require_subcommand(1);
  CLI::App* lease_ls = lease->add_subcommand("ls", "List the leases on the server");
  lease_ls->add_option("mountpoint", out.mountpoint, "a mounted directory; else all of yours");
  lease_ls->add_flag("--json", out.json, "as JSON");
  CLI::App* lease_break = lease->add_subcommand("break", "Take a lease away from its holder");
  lease_break->add_option("mountpoint", out.mountpoint, "a mounted directory")->required();
  lease_break->add_option("group", out.group, "the group, as listed")->required();
  lease_break->add_flag("--yes", out.yes, "don't ask");

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    out.exit_status = app.exit(e) == 0 ? kExitOk : kExitUsage;
    return out;
  }
  if (app.get_subcommands().empty()) {
    std::fputs(
        "slipway: a command is needed: mount, umount, status, prefetch, flush, invalidate, "
        "recover or lease (see slipway --help)\n",
        stderr);
    out.exit_status = kExitUsage;
    return out;
  }
  out.command = mount->parsed()      ? CommandLine::Command::kMount
                : umount->parsed()   ? CommandLine::Command::kUmount
                : prefetch->parsed() ? CommandLine::Command::kPrefetch
                : flush->parsed()    ? CommandLine::Command::kFlush
                : invalidate->parsed() ? CommandLine::Command::kInvalidate
                : recover->parsed()  ? CommandLine::Command::kRecover
                : lease_ls->parsed()    ? CommandLine::Command::kLeaseLs
                : lease_break->parsed() ? CommandLine::Command::kLeaseBreak
                                     : CommandLine::Command::kStatus;
  return out;
}

}  // namespace slipway
