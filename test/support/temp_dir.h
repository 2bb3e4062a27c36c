#pragma once

#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>

namespace slipway {

/// A fresh directory below $SLIPWAY_TEST_DIR or /var/tmp (a real file system: /tmp may be tmpfs),
/// removed with everything in it.
class TempDir {
 public:
  TempDir() {
    const char* base = std::getenv("SLIPWAY_TEST_DIR");
    path_ = std::string(base != nullptr ? base : "/var/tmp") + "/slipway-test-XXXXXX";
    if (::mkdtemp(path_.data()) == nullptr)
      throw std::runtime_error("mkdtemp failed");
  }

  ~TempDir() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const { return path_; }

  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace slipway
