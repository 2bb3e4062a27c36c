#pragma once

#include <string>

namespace slipway {

/// The path of a name in a directory; that of the export's root is "".
inline std::string path_of(const std::string& directory, const std::string& name) {
  return directory.empty() ? name : directory + '/' + name;
}

}  // namespace slipway
