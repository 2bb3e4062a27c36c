#pragma once

#include "publish/commands.h"

#include <string>

namespace CLI {
class App;
}

namespace slipway {

/// What the command line says about publishing; filled when it is parsed.
struct PublishCommandLine {
  PublishCommand publish;
  CollectCommand unpublish;
  CollectCommand gc;
  ManifestCommand show;
  ManifestCommand check;
};

/// The subcommands of `app` that were made for it. Owned by the app.
struct PublishSubcommands {
  const CLI::App* publish = nullptr;
  const CLI::App* unpublish = nullptr;
  const CLI::App* gc = nullptr;
  const CLI::App* show = nullptr;
  const CLI::App* check = nullptr;
};

/// Adds publish, unpublish, gc and manifest to `app`; `line` must live until it is parsed.
PublishSubcommands add_publish_commands(CLI::App& app, PublishCommandLine& line);

}  // namespace slipway
