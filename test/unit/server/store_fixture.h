#pragma once

#include "base/log.h"
#include "server/directory_store.h"
#include "support/catch.h"
#include "support/temp_dir.h"

#include <fcntl.h>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>

namespace slipway {

namespace fs = std::filesystem;

inline void write_file(const std::string& path, std::string_view content) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  REQUIRE(fd);
  REQUIRE(write_full(fd.get(), as_bytes(content)).has_value());
}

/// An export in `dir`/export, with a secret beside it.
struct ExportFixture {
  ExportFixture() {
    log_to(LogSink::kNone, "");
    fs::create_directories(root + "/vm/deep");
    write_file(root + "/vm/disk", "disk");
    write_file(dir / "secret", "secret");
    fs::create_directories(root + "/.slipway");
    write_file(root + "/.slipway/id", "x");
    fs::create_directories(root + "/vm/.slipway");
    store = open_store("");
  }

  std::unique_ptr<DirectoryStore> open_store(const std::string& state_file) const {
    UniqueFd fd(::open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    return DirectoryStore::open(std::move(fd), state_file).value();
  }

  std::map<std::string, Attributes> list(const std::string& path) const {
    std::map<std::string, Attributes> entries;
    const auto walk = store->open_directory({path, {}}, 0).value();
    while (const auto entry = walk->next().value())
      entries[entry->name] = entry->attributes;
    return entries;
  }

  ErrorCode open_error(const std::string& path) const {
    const auto opened = store->open({path, {}});
    REQUIRE(!opened);
    return opened.error().code;
  }

  TempDir dir;
  std::string root = dir / "export";
  std::unique_ptr<DirectoryStore> store;
};

inline ImageChunk read(ImageFile& file, const ByteRange& range, Bytes& data,
                       std::size_t data_max = 1024 * 1024) {
  data.clear();
  return file.read({range, data_max}, data).value();
}

}  // namespace slipway
