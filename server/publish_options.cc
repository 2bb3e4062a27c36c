#include "server/publish_options.h"

#include "base/units.h"

#include <CLI/CLI.hpp>

#include <map>

namespace slipway {

namespace {

constexpr unsigned kThreadsMax = 256;

void add_threads(CLI::App& command, unsigned& threads) {
  threads = default_threads();
  command.add_option("-j,--jobs", threads, "Threads that hash; default: one per processor")
      ->type_name("N")
      ->check(CLI::Range(1U, kThreadsMax));
}

CLI::App* add_publish(CLI::App& app, PublishCommand& command) {
  CLI::App* const publish =
      app.add_subcommand("publish", "Read images once and keep what is known of them");
  publish->add_option("PATH", command.paths, "Images, or directories with all that is below")
      ->required();
  add_threads(*publish, command.options.threads);
  publish->add_flag("--json", command.json, "Tell in JSON lines on standard output");
  publish->add_flag("--force", command.options.force,
                    "Also what is published and did not change since");
  publish->add_flag("--rebind", command.options.rebind,
                    "After a copy of the export: take over what is known of the copied images");
  static const std::map<std::string, FramesPolicy> kPolicies = {
      {"bulk", FramesPolicy::kBulk}, {"all", FramesPolicy::kAll}, {"none", FramesPolicy::kNone}};
  publish
      ->add_option("--frames", command.options.frames,
                   "Compress ahead: images that travel in bulk (default), all, or none")
      ->type_name("bulk|all|none")
      ->transform(CLI::CheckedTransformer(kPolicies).description(""));
  publish
      ->add_option_function<std::string>(
          "--frames-max",
          [&command](const std::string& text) {
            const Result<std::uint64_t> size = parse_size(text);
            if (!size)
              throw CLI::ValidationError("--frames-max", size.error().message);
            command.options.frames_max = *size;
          },
          "The most that compressed images may take; default: a tenth of the file system")
      ->type_name("SIZE");
  return publish;
}

void add_collect_options(CLI::App& command, CollectOptions& options) {
  command.add_flag("--keep-roots", options.keep_roots,
                   "Keep images that have no other name than their root");
  command.add_flag("--dry-run", options.dry_run, "Only say what would be removed");
}

}  // namespace

PublishSubcommands add_publish_commands(CLI::App& app, PublishCommandLine& line) {
  PublishSubcommands added;
  added.publish = add_publish(app, line.publish);

  CLI::App* const unpublish = app.add_subcommand("unpublish", "Forget what is known of images");
  unpublish->add_option("PATH", line.unpublish.paths, "Images, or directories")->required();
  add_collect_options(*unpublish, line.unpublish.options);
  added.unpublish = unpublish;

  CLI::App* const gc =
      app.add_subcommand("gc", "Forget what is known of images that changed or are gone");
  gc->add_option("EXPORT", line.gc.paths,
                 "An export; default: the one around the working directory")
      ->expected(0, 1);
  add_collect_options(*gc, line.gc.options);
  added.gc = gc;

  CLI::App* const manifest = app.add_subcommand("manifest", "Look at what is known of an image");
  manifest->require_subcommand(1);
  CLI::App* const show = manifest->add_subcommand("show", "Print it");
  show->add_option("FILE", line.show.path, "The image")->required();
  show->add_flag("--json", line.show.json, "As a JSON object");
  added.show = show;
  CLI::App* const check =
      manifest->add_subcommand("check", "Read the image again and compare everything");
  check->add_option("FILE", line.check.path, "The image")->required();
  add_threads(*check, line.check.threads);
  added.check = check;
  return added;
}

}  // namespace slipway
