#include "log_fixture.h"

#include "writelog/segment_set.h"

#include <algorithm>
#include <fcntl.h>
#include <filesystem>
#include <unistd.h>

namespace slipway {

std::unique_ptr<WriteLog> open_log(const LogOptions& options, LogVisitor& visitor) {
  auto log = WriteLog::open(options, visitor);
  if (!log.has_value())
    FAIL(log.error().message);
  return std::move(*log);
}

std::unique_ptr<WriteLog> open_log(const LogOptions& options) {
  SeenLog nobody;
  return open_log(options, nobody);
}

void require_patterns(const SeenLog& seen, std::uint64_t first, std::uint64_t count) {
  REQUIRE(seen.in_order);
  REQUIRE(seen.changes.size() == count);
  for (std::uint64_t i = 0; i < count; i++) {
    const auto& [change, place] = seen.changes[i];
    const Bytes expected = pattern(first + i, pattern_length(first + i));
    REQUIRE(change == write_of(change.file, (first + i) * 65536, expected.size()));
    REQUIRE(seen.files.count(change.file) == 1);
    Bytes data(place.data.length);
    REQUIRE(read_log_data(place.data, 0, data).has_value());
    REQUIRE(data == expected);
  }
}

std::string segment_path(const std::string& directory, std::uint64_t number) {
  return directory + "/" + segment_file_name(number);
}

std::vector<std::string> names_in(const std::string& directory) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory))
    names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

void flip(const std::string& path, std::uint64_t offset) {
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  Bytes byte(1);
  REQUIRE(pread_full(fd.get(), byte, offset).value_or(0) == 1);
  byte[0] ^= std::byte{0x10};
  REQUIRE(pwrite_full(fd.get(), byte, offset).has_value());
}

}  // namespace slipway
