#pragma once

#include "publish/collector.h"
#include "publish/publisher.h"

#include <string>
#include <vector>

namespace slipway {

// The commands of slipwayd(8) that deal with manifests. Each prints what it has to say and returns
// the exit status.

struct PublishCommand {
  std::vector<std::string> paths;
  PublishOptions options;
  bool json = false;
};

struct CollectCommand {
  std::vector<std::string> paths;  ///< gc: exports; unpublish: files and directories
  CollectOptions options;
};

struct ManifestCommand {
  std::string path;
  bool json = false;
  unsigned threads = 1;
};

int run_publish_command(const PublishCommand& command);
int run_unpublish_command(const CollectCommand& command);
int run_gc_command(const CollectCommand& command);
int run_manifest_show_command(const ManifestCommand& command);
int run_manifest_check_command(const ManifestCommand& command);

/// One thread per processor.
unsigned default_threads() noexcept;

}  // namespace slipway
