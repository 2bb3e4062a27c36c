#include "server/operation_log.h"

#include "base/log.h"
#include "support/catch.h"
#include "support/temp_dir.h"

#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>

namespace slipway {
namespace {

Bytes bytes_of(std::string_view text) {
  Bytes bytes;
  append(bytes, as_bytes(text));
  return bytes;
}

struct LogFixture {
  LogFixture() { log_to(LogSink::kNone, ""); }

  std::unique_ptr<OperationLog> open(const std::string& boot = "boot",
                                     const OperationLog::Limits& limits = {}) const {
    return OperationLog::open(path, boot, limits).value();
  }

  static void run(OperationLog& log, OperationId operation, std::string_view result) {
    auto turn = log.begin(operation, MessageType::kMake);
    REQUIRE(turn.has_value());
    REQUIRE(!turn->intent());
    REQUIRE(turn->intend(bytes_of("intent")).has_value());
    turn->finish({0, bytes_of(result)});
  }

  std::string file() const { return path + "/ops"; }

  TempDir dir;
  std::string path = dir / "client";
};

std::optional<OperationResult> result_of(OperationLog& log, OperationId operation) {
  return log.begin(operation, MessageType::kMake).value().result();
}

}  // namespace

TEST_CASE("what an operation did is known to later sessions, and to others at the same time") {
  const LogFixture f;
  const auto other = f.open();
  {
    const auto log = f.open();
    LogFixture::run(*log, 5, "five");
    CHECK(result_of(*log, 5) == OperationResult{0, bytes_of("five")});
  }
  CHECK(result_of(*other, 5) == OperationResult{0, bytes_of("five")});
  CHECK(!result_of(*other, 6));
  CHECK(result_of(*f.open(), 5) == OperationResult{0, bytes_of("five")});
  CHECK(f.open()->begin(5, MessageType::kRemove).error().code == ErrorCode::kInvalid);

  struct stat info {};

  REQUIRE(::stat(f.path.c_str(), &info) == 0);
  CHECK((info.st_mode & 0777) == 0700);
}

TEST_CASE("an operation that was begun and not finished leaves its intent") {
  const LogFixture f;
  {
    const auto log = f.open();
    REQUIRE(log->begin(1, MessageType::kMake).value().intend(bytes_of("was empty")).has_value());
  }
  const auto log = f.open();
  const auto turn = log->begin(1, MessageType::kMake);
  REQUIRE(turn.has_value());
  CHECK(!turn->result());
  CHECK(*turn->intent() == bytes_of("was empty"));
}

TEST_CASE("a withdrawn operation is as if it had never been sent") {
  const LogFixture f;
  {
    const auto log = f.open();
    auto turn = log->begin(1, MessageType::kMake);
    REQUIRE(turn->intend(bytes_of("x")).has_value());
    turn->withdraw();
  }
  const auto log = f.open();
  CHECK(!log->begin(1, MessageType::kMake)->intent());
}

TEST_CASE("while an operation runs, no session and nobody in this one begins it") {
  const LogFixture f;
  OperationLog::Limits limits;
  limits.wait_ms_max = 20;
  const auto log = f.open();
  const auto other = f.open("boot", limits);
  {
    const auto turn = log->begin(1, MessageType::kMake);
    REQUIRE(turn.has_value());
    CHECK(log->begin(1, MessageType::kMake).error().code == ErrorCode::kBusy);
    CHECK(other->begin(1, MessageType::kMake).error().code == ErrorCode::kBusy);
    CHECK(other->begin(2, MessageType::kMake).has_value());
  }
  CHECK(other->begin(1, MessageType::kMake).has_value());
  CHECK(log->begin(1, MessageType::kMake).has_value());
}

TEST_CASE("a damaged tail is cut away, and the log goes on behind what is good") {
  const LogFixture f;
  LogFixture::run(*f.open(), 1, "one");
  const auto good = std::filesystem::file_size(f.file());
  LogFixture::run(*f.open(), 2, "two");
  const auto whole = std::filesystem::file_size(f.file());
  SECTION("cut off anywhere") {
    const auto cut = GENERATE_COPY(good + 1, good + 11, whole - 1);
    std::filesystem::resize_file(f.file(), cut);
  }
  SECTION("flipped") {
    const UniqueFd fd(::open(f.file().c_str(), O_RDWR | O_CLOEXEC));
    REQUIRE(pwrite_full(fd.get(), as_bytes("X"), good + 20).has_value());
  }
  const auto log = f.open();
  CHECK(result_of(*log, 1) == OperationResult{0, bytes_of("one")});
  CHECK(!result_of(*log, 2));
  LogFixture::run(*log, 3, "three");
  CHECK(result_of(*f.open(), 3) == OperationResult{0, bytes_of("three")});
}

TEST_CASE("a file that is no log is begun anew") {
  const LogFixture f;
  LogFixture::run(*f.open(), 1, "one");
  const UniqueFd fd(::open(f.file().c_str(), O_RDWR | O_CLOEXEC));
  REQUIRE(pwrite_full(fd.get(), as_bytes("something else"), 0).has_value());
  const auto log = f.open();
  CHECK(!result_of(*log, 1));
  LogFixture::run(*log, 2, "two");
  CHECK(result_of(*f.open(), 2) == OperationResult{0, bytes_of("two")});
}

TEST_CASE("the log stays small, and what it forgot is refused, never run again") {
  const LogFixture f;
  OperationLog::Limits limits;
  limits.bytes_max = 4096;
  limits.kept_max = 10;
  const auto log = f.open("boot", limits);
  const auto other = f.open("boot", limits);
  for (OperationId operation = 1; operation <= 500; ++operation) {
    LogFixture::run(operation % 3 == 0 ? *other : *log, operation, "result");
    REQUIRE(std::filesystem::file_size(f.file()) < 8192);
  }
  for (OperationLog* each : {log.get(), other.get(), f.open("boot", limits).release()}) {
    const std::unique_ptr<OperationLog> owned(each != log.get() && each != other.get() ? each
                                                                                       : nullptr);
    CHECK(result_of(*each, 500).has_value());
    CHECK(result_of(*each, 495).has_value());
    CHECK(each->begin(1, MessageType::kMake).error().code == ErrorCode::kStale);
    CHECK(!result_of(*each, 501));
  }
}

TEST_CASE("after the machine stopped results are not believed, intents are") {
  const LogFixture f;
  LogFixture::run(*f.open("first"), 1, "one");
  const auto log = f.open("second");
  {
    const auto turn = log->begin(1, MessageType::kMake);
    CHECK(!turn->result());
    CHECK(*turn->intent() == bytes_of("intent"));
  }
  LogFixture::run(*log, 2, "two");
  CHECK(result_of(*f.open("second"), 2).has_value());
}

TEST_CASE("a log that somebody else may write to is not believed") {
  const LogFixture f;
  SECTION("the directory") {
    std::filesystem::create_directory(f.path);
    REQUIRE(::chmod(f.path.c_str(), 0777) == 0);
  }
  SECTION("a link for the directory") {
    std::filesystem::create_directory(f.dir / "elsewhere");
    std::filesystem::create_directory_symlink(f.dir / "elsewhere", f.path);
  }
  SECTION("a link for the file") {
    std::filesystem::create_directory(f.path);
    REQUIRE(::chmod(f.path.c_str(), 0700) == 0);
    std::filesystem::create_symlink(f.dir / "elsewhere", f.file());
  }
  CHECK(OperationLog::open(f.path, "boot", {}).error().code == ErrorCode::kNotPermitted);
  CHECK(!std::filesystem::exists(f.dir / "elsewhere/ops"));
}

}  // namespace slipway
