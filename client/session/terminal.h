#pragma once

#include "base/clock.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "session/interruption.h"

#include <memory>
#include <string>
#include <string_view>

namespace slipway {

/// The terminal of the person who mounts (/dev/tty). Not thread-safe.
class Terminal {
 public:
  /// Nothing when the process has no terminal.
  static std::unique_ptr<Terminal> open();

  void say(std::string_view text);

  /// One line of answer, not shown while typed unless `echo`. kCancelled on Ctrl-C, Ctrl-D or when
  /// the terminal goes away; kInterrupted. The caller wipes what is secret.
  Result<std::string> ask(std::string_view prompt, bool echo, const Interruption& interruption);

 private:
  explicit Terminal(UniqueFd fd) : fd_(std::move(fd)) {}

  UniqueFd fd_;
};

/// Wipes a password or passphrase when it goes out of scope.
class SecretText {
 public:
  explicit SecretText(std::string text) : text_(std::move(text)) {}

  ~SecretText();
  SecretText(const SecretText&) = delete;
  SecretText& operator=(const SecretText&) = delete;

  const char* c_str() const noexcept { return text_.c_str(); }

  std::size_t size() const noexcept { return text_.size(); }

 private:
  std::string text_;
};

}  // namespace slipway
