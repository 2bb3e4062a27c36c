#include "session/line_tail.h"

#include "support/catch.h"

namespace slipway {

TEST_CASE("lines are handed on escaped, whatever way they are cut, without blank ones") {
  LineTail tail;
  CHECK(tail.add(as_bytes("one\n\n  \r\ntw")) == std::vector<std::string>{"one"});
  CHECK(tail.add(as_bytes("o \x1b[2J\nthree")) == std::vector<std::string>{"two \\x1b[2J"});
  CHECK(tail.finish() == std::vector<std::string>{"three"});
  CHECK(tail.last_line() == "three");
  CHECK(tail.contains("two"));
}

TEST_CASE("a remote that never stops writing lines does not fill a log") {
  LineTail tail;
  std::size_t handed_on = 0;
  std::string last;
  for (std::size_t i = 0; i < 10 * LineTail::kLinesShown; ++i) {
    const auto lines = tail.add(as_bytes("line " + std::to_string(i) + "\n"));
    handed_on += lines.size();
    if (!lines.empty())
      last = lines.back();
  }
  CHECK(handed_on == LineTail::kLinesShown + 1);
  CHECK(last == "(further lines are not shown)");
  // The last line is still known for an error's message.
  CHECK(tail.last_line() == "line " + std::to_string(10 * LineTail::kLinesShown - 1));
}

}  // namespace slipway
