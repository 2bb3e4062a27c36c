#include "log_samples.h"

#include <cstdlib>
#include <thread>
#include <unistd.h>

using namespace slipway;

/// Appends patterns to a log, from the number after the last one that is there, until it is killed.
/// Each number goes to standard output after its append has returned.
int main(int, char** argv) {
  SeenLog seen;
  auto opened = WriteLog::open(log_options(argv[1], nullptr, 8), seen);
  if (!opened.has_value())
    return 1;
  WriteLog& log = **opened;
  std::uint64_t number = std::strtoull(argv[2], nullptr, 10);
  const std::uint64_t file =
      seen.files.empty() ? log.declare(sample_file()) : seen.files.begin()->first;
  seen = {};
  const std::thread syncer([&] {
    for (;;) {
      static_cast<void>(log.sync());
      static_cast<void>(log.trim());
    }
  });
  for (;; number++) {
    auto place = append_pattern(log, file, number);
    while (!place.has_value() && place.error().code == ErrorCode::kNoSpace) {  // until a trim
      std::this_thread::yield();
      place = append_pattern(log, file, number);
    }
    if (!place.has_value() ||
        ::write(STDOUT_FILENO, &number, sizeof(number)) != sizeof(number))
      std::_Exit(2);
  }
}
