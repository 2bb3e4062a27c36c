#include <cerrno>
#include <thread>

#include "base/bounded_queue.h"
#include "base/error.h"
#include "base/log.h"
#include "base/units.h"
#include "support/catch.h"

using namespace slipway;

TEST_CASE("every error code has a name and an errno, and unknown numbers read as io") {
  for (std::uint32_t number = 1; number <= kErrorCodeLast; ++number) {
    const auto code = static_cast<ErrorCode>(number);
    CAPTURE(number);
    CHECK(name_of(code) != "unknown");
    CHECK(to_errno(code) > 0);
    CHECK(error_code_from_wire(number) == code);
  }
  CHECK(error_code_from_wire(0) == ErrorCode::kIo);
  CHECK(error_code_from_wire(kErrorCodeLast + 1) == ErrorCode::kIo);
}

TEST_CASE("an errno survives the way through the wire") {
  for (const int number : {ENOENT, EACCES, EPERM, ENOTDIR, EISDIR, ESTALE, EIO, ENOSPC, EDQUOT,
                           EROFS, EEXIST, ENOTEMPTY, ENAMETOOLONG, EINVAL, ELOOP, ETIMEDOUT,
                           EMFILE, EXDEV, EBADF}) {
    CAPTURE(number);
    CHECK(to_errno(from_errno(number)) == number);
  }
  CHECK(from_errno(ENOSYS) == ErrorCode::kNotSupported);
  CHECK(from_errno(ECONNRESET) == ErrorCode::kDisconnected);
}

TEST_CASE("ranges are covered by whole units") {
  CHECK(cover_units({0, 1}) == ByteRange{0, kUnitSize});
  CHECK(cover_units({kUnitSize - 1, 2}) == ByteRange{0, 2 * kUnitSize});
  CHECK(cover_units({kUnitSize, kUnitSize}) == ByteRange{kUnitSize, kUnitSize});
  CHECK(cover_units({5, 0}).empty());
  CHECK(clamp_to_size({10, 10}, 15) == ByteRange{10, 5});
  CHECK(clamp_to_size({20, 10}, 15).empty());
  CHECK(is_valid({kFileSizeMax, 0}));
  CHECK_FALSE(is_valid({kFileSizeMax, 1}));
  CHECK_FALSE(is_valid({1, ~std::uint64_t{0}}));
}

TEST_CASE("sizes are read as people write them") {
  CHECK(parse_size("512").value() == 512);
  CHECK(parse_size("64K").value() == 65536);
  CHECK(parse_size("1.5G").value() == std::uint64_t{3} << 29);
  CHECK(parse_size("20GiB").value() == std::uint64_t{20} << 30);
  for (const char* bad : {"", "x", "-1", "1Q", "1GG", "nan", "1e99", "99999999P"}) {
    CAPTURE(bad);
    CHECK_FALSE(parse_size(bad).has_value());
  }
  CHECK(format_size(512) == "512 B");
  CHECK(format_size(std::uint64_t{20} << 30) == "20.0 GiB");
}

TEST_CASE("zeros are recognised at every length") {
  Bytes bytes(100, std::byte{0});
  for (std::size_t n = 0; n <= bytes.size(); ++n)
    CHECK(is_all_zero(ByteView(bytes).first(n)));
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = std::byte{1};
    CHECK_FALSE(is_all_zero(bytes));
    bytes[i] = std::byte{0};
  }
}

TEST_CASE("a bounded queue refuses or blocks when full and drains after close") {
  BoundedQueue<int> queue(2);
  CHECK(queue.try_push(1));
  CHECK(queue.try_push(2));
  CHECK_FALSE(queue.try_push(3));
  std::thread pusher([&] { CHECK(queue.push(3)); });
  CHECK(queue.pop() == 1);
  pusher.join();
  queue.close();
  CHECK_FALSE(queue.push(4));
  CHECK(queue.pop() == 2);
  CHECK(queue.pop() == 3);
  CHECK(queue.pop() == std::nullopt);
}

TEST_CASE("names of a peer are escaped and cut before they are logged") {
  CHECK(escape("a\nb\x1b[31m") == "a\\x0ab\\x1b[31m");
  CHECK(escape(std::string(1000, 'a')).size() < 300);
}
