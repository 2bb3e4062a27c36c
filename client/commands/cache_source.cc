#include "commands/cache_source.h"

#include "base/log.h"
#include "base/unique_fd.h"
#include "control/control_client.h"
#include "control/runtime_directory.h"

#include <nlohmann/json.hpp>

#include <cerrno>
#include <fcntl.h>
#include <fstream>
#include <sstream>
#include <unistd.h>

namespace slipway {

namespace {

using Json = nlohmann::json;

std::string path_in(const std::string& cache_directory) {
  return cache_directory + "/source.json";
}

Status write_source(const MountOptions& options) {
  const std::string text =
      Json{{"source", options.source}, {"options", options.option_strings}}.dump(
          2, ' ', false, Json::error_handler_t::replace) +
      "\n";
  const std::string path = path_in(options.cache.directory);
  const std::string aside = path + ".new";
  UniqueFd fd(::open(aside.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!fd)
    return fail_errno(errno, "open '{}'", aside);
  SLIPWAY_TRY(pwrite_full(fd.get(), std::as_bytes(std::span(text)), 0));
  if (::fsync(fd.get()) != 0 || ::rename(aside.c_str(), path.c_str()) != 0)
    return fail_errno(errno, "write '{}'", path);
  return {};
}

}  // namespace

void note_source(const MountOptions& options) {
  if (const Status written = write_source(options); !written)
    log_warning("`slipway recover` will not know this cache: {}", written.error().message);
}

Result<CacheSource> read_source(const std::string& cache_directory) {
  std::ifstream file(path_in(cache_directory));
  std::stringstream text;
  text << file.rdbuf();
  const Json json = Json::parse(text.str(), nullptr, /*allow_exceptions=*/false);
  if (!file || !json.is_object() || !json.contains("source") || !json["source"].is_string())
    return fail(ErrorCode::kNotFound,
                "'{}' does not say where it was mounted from: is it a cache's directory? (`slipway "
                "recover` lists those with unsent writes)",
                escape(cache_directory));
  CacheSource source;
  source.source = json["source"].get<std::string>();
  for (const Json& option : json.value("options", Json::array())) {
    if (option.is_string())
      source.option_strings.push_back(option.get<std::string>());
  }
  return source;
}

bool release_draining(const std::string& cache_directory) {
  const auto sockets = control_sockets();
  if (!sockets)
    return false;
  bool found = false;
  for (const std::string& socket : *sockets) {
    const auto answer =
        control_request(socket, Json{{"version", kControlVersion}, {"command", "status"}}.dump());
    const Json status = answer ? Json::parse(*answer, nullptr, /*allow_exceptions=*/false) : Json();
    if (!status.is_object() || !status.value("draining", false) || !status.contains("cache") ||
        status["cache"].value("directory", "") != cache_directory)
      continue;
    found = true;
    log_info("an earlier mount still sends what is unsent in '{}': this one goes on with it",
             cache_directory);
    (void)control_request(socket,
                          Json{{"version", kControlVersion}, {"command", "release"}}.dump());
  }
  return found;
}

}  // namespace slipway
