#pragma once

#include "fs/fuse_api.h"
#include "fs/names.h"
#include "fs/stat.h"

#include <chrono>

namespace slipway {

// What replies to the kernel are made of; only for the operations.

inline double seconds(Duration duration) noexcept {
  return std::chrono::duration<double>(duration).count();
}

inline fuse_entry_param entry_param_of(const Entry& entry,
                                       const FileSystemOptions& options) noexcept {
  fuse_entry_param param = {};
  param.entry_timeout = seconds(options.attr_timeout);
  if (entry.nodeid == 0)
    return param;
  param.ino = entry.nodeid;
  param.generation = entry.generation;
  param.attr = stat_of(entry.known.attributes, options);
  param.attr_timeout = seconds(entry.known.valid);
  return param;
}

}  // namespace slipway
