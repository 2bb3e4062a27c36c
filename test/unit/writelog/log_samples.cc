#include "log_samples.h"

namespace slipway {

LogOptions log_options(const std::string& directory, std::shared_ptr<LogFileOps> ops,
                       std::uint64_t segments_max) {
  return {directory, kTestSegment, segments_max * kTestSegment, std::move(ops)};
}

LogFile sample_file(std::uint64_t inode) {
  LogFile file;
  file.owner.fill(std::byte{0x11});
  file.id = {1, inode};
  file.path = "vm/disk" + std::to_string(inode) + ".img";
  file.base.id = file.id;
  file.base.birth = {1'600'000'000, 1};
  file.base.size = 1 << 30;
  file.base.mtime = {1'700'000'000, 2};
  file.base.ctime = {1'700'000'001, 3};
  return file;
}

Bytes pattern(std::uint64_t number, std::size_t length) {
  Bytes bytes(length);
  std::uint64_t state = number * 0x9e3779b97f4a7c15 + 1;
  for (std::byte& byte : bytes) {
    state = state * 6364136223846793005 + 1442695040888963407;
    byte = static_cast<std::byte>(state >> 56);
  }
  return bytes;
}

std::size_t pattern_length(std::uint64_t number) {
  return number % 7 == 0 ? 1 + number * 7919 % 60000 : 1 + number * 131 % 5000;
}

LogChange write_of(std::uint64_t file, std::uint64_t offset, std::uint64_t length) {
  return {LogKind::kWrite, file, offset, length, {1'750'000'000, 5}};
}

Result<LogPlace> append_pattern(WriteLog& log, std::uint64_t file, std::uint64_t number) {
  const Bytes data = pattern(number, pattern_length(number));
  return log.append(write_of(file, number * 65536, data.size()), data);
}

}  // namespace slipway
