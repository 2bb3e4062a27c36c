#include "base/log.h"
#include "publish/commands.h"
#include "publish/manifest_check.h"

#include <nlohmann/json.hpp>

#include <cstdlib>

namespace slipway {

namespace {

std::uint64_t first_bytes(const Manifest& manifest) {
  std::uint64_t bytes = 0;
  for (const ByteRange& range : manifest.first)
    bytes += range.length;
  return bytes;
}

using Json = nlohmann::ordered_json;

void print_json(const ManifestFacts& facts) {
  Json json = {{"path", facts.path}, {"state", facts.state}, {"reason", facts.reason}};
  if (facts.file != nullptr) {
    const Manifest& manifest = facts.file->manifest();
    json["class"] = name_of(manifest.image_class);
    json["plan"] = name_of(manifest.plan);
    json["size"] = manifest.size();
    json["zero_bytes"] = zero_bytes(manifest);
    json["root"] = to_text(manifest.root);
    json["regions"] = manifest.regions.size();
    json["first_bytes"] = first_bytes(manifest);
    json["frame_bytes"] = facts.has_frames ? Json(facts.frames) : Json(nullptr);
    json["root_link"] = facts.has_root_link;
  }
  fmt::print("{}\n", json.dump(2, ' ', false, Json::error_handler_t::replace));
}

void print_text(const ManifestFacts& facts) {
  fmt::print("file     {}\n", escape(facts.path));
  fmt::print("state    {}{}{}\n", facts.state, facts.reason.empty() ? "" : ": ", facts.reason);
  if (facts.file == nullptr)
    return;
  const Manifest& manifest = facts.file->manifest();
  fmt::print("class    {}\n", name_of(manifest.image_class));
  fmt::print("plan     {}\n", name_of(manifest.plan));
  fmt::print("size     {} ({})\n", manifest.size(), format_size(manifest.size()));
  fmt::print("zero     {}\n", format_size(zero_bytes(manifest)));
  fmt::print("root     {}\n", to_text(manifest.root));
  fmt::print("regions  {}\n", manifest.regions.size());
  fmt::print("first    {}\n", format_size(first_bytes(manifest)));
  fmt::print("frames   {}\n", facts.has_frames ? format_size(facts.frames) : "none");
  fmt::print("link     {}\n", facts.has_root_link ? "under its root" : "none");
}

struct Target {
  std::unique_ptr<PublishedExport> served;
  std::string relative;
};

Result<Target> find_target(const std::string& path) {
  SLIPWAY_TRY_ASSIGN(const ExportPlace place, locate_in_export(path));
  if (place.relative.empty())
    return fail(ErrorCode::kIsDirectory, "'{}' is a directory", escape(path));
  Target target;
  target.relative = place.relative;
  SLIPWAY_TRY_ASSIGN(target.served, PublishedExport::open(place.root));
  return target;
}

int report_failure(const Error& error) {
  log_error("{}", error.message);
  return EXIT_FAILURE;
}

}  // namespace

int run_manifest_show_command(const ManifestCommand& command) {
  const Result<Target> target = find_target(command.path);
  const Result<ManifestFacts> facts =
      target ? look_at_manifest(*target->served, target->relative) : fail(target.error());
  if (!facts)
    return report_failure(facts.error());
  if (command.json)
    print_json(*facts);
  else
    print_text(*facts);
  return facts->state == "valid" ? EXIT_SUCCESS : EXIT_FAILURE;
}

int run_manifest_check_command(const ManifestCommand& command) {
  const Result<Target> target = find_target(command.path);
  const Status checked = target ? check_manifest(*target->served, target->relative, command.threads)
                                : fail(target.error());
  if (!checked)
    return report_failure({checked.error().code,
                         fmt::format("'{}': {}", escape(command.path), checked.error().message)});
  fmt::print("'{}': all is as the manifest says\n", escape(command.path));
  return EXIT_SUCCESS;
}

}  // namespace slipway
