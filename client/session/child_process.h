#pragma once

#include "base/clock.h"
#include "base/guarded.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "session/line_tail.h"

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <thread>
#include <vector>

namespace slipway {

/// A program whose standard input and output are one socket of ours, and whose standard error is
/// read line by line by a thread of this object. Owns the process: its destruction ends it
/// (SIGTERM, then SIGKILL) and reaps it. Any thread may call the const functions.
class ChildProcess {
 public:
  struct Options {
    std::vector<std::string> arguments;  ///< the first is the program's path, not searched for
    /// On the terminal: the program keeps it, and its messages go to our standard error. Else it
    /// gets a session of its own, so that it can't ask, and its messages go to the log.
    bool interactive = false;
    std::string name;  ///< precedes its messages: "ssh: ..."
  };

  /// Spawns without a fork of ours (posix_spawn); the program inherits nothing but its standard
  /// descriptors. `socket` is our end.
  struct Spawned {
    std::shared_ptr<ChildProcess> process;  ///< two owners: the session's keeper and set-up
    UniqueFd socket;
  };

  static Result<Spawned> spawn(Options options);

  ~ChildProcess();
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;

  /// The wait status when the process ends before `deadline`; then its standard error has also been
  /// read to the end (unless another process still holds it).
  std::optional<int> wait_for_exit(TimePoint deadline) const;

  std::string last_error_line() const;
  bool error_output_contains(std::string_view text) const;

 private:
  ChildProcess(pid_t pid, UniqueFd errors, const Options& options);

  void read_errors();
  void show(const std::vector<std::string>& lines) const;

  const pid_t pid_;
  const bool interactive_;
  const std::string name_;
  UniqueFd pid_fd_;
  UniqueFd errors_;
  UniqueFd stop_;
  UniqueFd errors_done_;  ///< readable once errors_ ended
  mutable Guarded<LineTail> tail_;
  std::thread reader_;
};

/// The path of an executable file: `name` itself when it holds a slash, else the first hit in $PATH
/// or the directories where servers live. Empty when there is none.
std::string find_program(std::string_view name);

std::vector<std::string> split_words(std::string_view text);

}  // namespace slipway
