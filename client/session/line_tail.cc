#include "session/line_tail.h"

#include "base/log.h"

#include <algorithm>

namespace slipway {

std::vector<std::string> LineTail::add(ByteView bytes) {
  std::vector<std::string> completed;
  for (const char c : as_text(bytes)) {
    if (c == '\n' || c == '\r')
      end_line(completed);
    else if (current_.size() < kLineMax)
      current_.push_back(c);
  }
  return completed;
}

std::vector<std::string> LineTail::finish() {
  std::vector<std::string> completed;
  end_line(completed);
  return completed;
}

std::string LineTail::last_line() const {
  return lines_.empty() ? std::string() : lines_.back();
}

bool LineTail::contains(std::string_view text) const {
  return std::any_of(lines_.begin(), lines_.end(),
                     [&](const std::string& line) { return line.find(text) != std::string::npos; });
}

void LineTail::end_line(std::vector<std::string>& completed) {
  const bool blank = current_.find_first_not_of(" \t") == std::string::npos;
  if (!blank) {
    lines_.push_back(escape(current_));
    if (lines_.size() > kLinesKept)
      lines_.pop_front();
    if (shown_ <= kLinesShown)
      completed.push_back(shown_++ < kLinesShown ? lines_.back() : "(further lines are not shown)");
  }
  current_.clear();
}

}  // namespace slipway
