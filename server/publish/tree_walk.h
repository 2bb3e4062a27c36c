#pragma once

#include "base/result.h"
#include "publish/published_export.h"

#include <functional>
#include <string>

namespace slipway {

/// What a walk meets. Called in the walk's thread.
struct TreeVisitor {
  /// `fd` is an O_PATH descriptor of it, for the time of the call.
  std::function<void(const std::string& relative, const struct statx& stat, int fd)> file;
  /// A directory that can't be read, a name that the protocol can't carry: what is there stays
  /// unseen.
  std::function<void(const std::string& relative, const Error& error)> unseen;
};

/// Visits every regular file at or below `relative` ("" is the root), in the order of names.
/// Follows no links, passes over `.slipway` and special files, and goes into other file systems.
void walk_tree(const PublishedExport& served, const std::string& relative,
               const TreeVisitor& visitor);

}  // namespace slipway
