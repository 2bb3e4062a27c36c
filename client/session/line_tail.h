#pragma once

#include "base/bytes.h"

#include <deque>
#include <string>
#include <string_view>
#include <vector>

namespace slipway {

/// Cuts a stream of text (a remote's standard error) into lines and keeps the last ones for error
/// messages. Bounded whatever comes, also in how many lines it hands on to be shown or logged: a
/// remote must not be able to fill a log. Not thread-safe.
class LineTail {
 public:
  /// Lines that are handed on in all; then one that says so, and no more.
  static constexpr std::size_t kLinesShown = 256;

  /// Returns the lines that these bytes completed, escaped, without blank ones.
  std::vector<std::string> add(ByteView bytes);

  /// Ends an unfinished last line and returns it likewise.
  std::vector<std::string> finish();

  /// The last line that is not blank, escaped; empty when there was none.
  std::string last_line() const;

  /// Whether one of the kept lines contains `text`.
  bool contains(std::string_view text) const;

 private:
  static constexpr std::size_t kLinesKept = 8;
  static constexpr std::size_t kLineMax = 512;  ///< bytes; the rest of a longer line is dropped

  void end_line(std::vector<std::string>& completed);

  std::string current_;
  std::deque<std::string> lines_;
  std::size_t shown_ = 0;  ///< stops above kLinesShown
};

}  // namespace slipway
