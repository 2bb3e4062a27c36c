#include "fs/content.h"

#include "base/unique_fd.h"
#include "base/worker.h"
#include "fs/cancel_slot.h"
#include "fs/contained_link.h"
#include "fs/read_reply.h"
#include "fs/thread_fate.h"
#include "support/catch.h"
#include "support/temp_dir.h"

#include <fcntl.h>
#include <unistd.h>

using namespace slipway;

namespace {

Piece piece(PieceKind kind, std::uint64_t offset, std::uint64_t length, int fd = -1) {
  Piece p;
  p.range = {offset, length};
  p.kind = kind;
  p.fd = fd;
  return p;
}

std::string text_of(const ReadReplyPlan& plan) {
  std::string text;
  for (const iovec& part : plan.memory)
    text.append(static_cast<const char*>(part.iov_base), part.iov_len);
  return text;
}

}  // namespace

TEST_CASE("pieces are put in order and must cover the range exactly") {
  const ByteRange range{100, 300};
  const auto arrange = [&](std::vector<Piece> pieces) {
    return arrange_content(range, std::move(pieces)).has_value();
  };
  CHECK(arrange({piece(PieceKind::kZero, 100, 300)}));
  CHECK(arrange({piece(PieceKind::kZero, 200, 200), piece(PieceKind::kHole, 100, 100)}));
  CHECK_FALSE(arrange({}));
  CHECK_FALSE(arrange({piece(PieceKind::kZero, 100, 299)}));
  CHECK_FALSE(arrange({piece(PieceKind::kZero, 100, 301)}));
  CHECK_FALSE(arrange({piece(PieceKind::kZero, 101, 299)}));
  CHECK_FALSE(arrange({piece(PieceKind::kZero, 100, 100), piece(PieceKind::kZero, 201, 199)}));
  CHECK_FALSE(arrange({piece(PieceKind::kZero, 100, 200), piece(PieceKind::kZero, 299, 101)}));
  CHECK_FALSE(arrange({piece(PieceKind::kBytes, 100, 300)}));  // says 300, has none
  CHECK(arrange_content({7, 0}, {}).has_value());
}

TEST_CASE("a long run of one file is spliced, anything else is put together in order") {
  const TempDir directory;
  const UniqueFd file(::open((directory / "f").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  const std::string stored(200'000, 's');
  REQUIRE(pwrite_full(file.get(), as_bytes(stored), 0));

  Content content{{0, 160'000},
                  {piece(PieceKind::kFile, 0, 40'000, file.get()),
                   piece(PieceKind::kFile, 40'000, 120'000, file.get())}};
  auto plan = plan_read_reply(content).value();
  CHECK(plan.fd == file.get());
  CHECK(plan.offset == 0);
  CHECK(plan.length == 160'000);

  const std::string network(1000, 'n');
  Piece bytes = piece(PieceKind::kBytes, 0, 1000);
  bytes.bytes = as_bytes(network);
  content = {{0, 202'000},
             {bytes, piece(PieceKind::kHole, 1000, 100'000),
              piece(PieceKind::kFile, 101'000, 1000, file.get()),
              piece(PieceKind::kZero, 102'000, 100'000)}};
  plan = plan_read_reply(content).value();
  CHECK(plan.fd < 0);
  CHECK((text_of(plan) == network + std::string(100'000, '\0') + std::string(1000, 's') +
                              std::string(100'000, '\0')));

  content = {{199'000, 2000}, {piece(PieceKind::kFile, 199'000, 2000, file.get())}};
  CHECK(plan_read_reply(content).error().code == ErrorCode::kIo);

  content = {{500, 0}, {}};
  CHECK(text_of(plan_read_reply(content).value()).empty());
}

TEST_CASE("a cancel reaches the step that waits now, and steps that start later") {
  CancelSlot slot;
  std::string cancelled;
  slot.bind(slot.begin(), [&] { cancelled += "1"; });
  const unsigned second = slot.begin();
  slot.bind(slot.begin(), [&] { cancelled += "3"; });
  slot.bind(second, [&] { cancelled += "2"; });  // bound late: step 3 has begun
  slot.cancel();
  CHECK(cancelled == "3");
  slot.cancel();
  CHECK(cancelled == "3");
  slot.bind(slot.begin(), [&] { cancelled += "4"; });
  CHECK(cancelled == "34");
}

TEST_CASE("steps of different parts of a request's work do not take each other's place") {
  CancelSlot slot;
  std::string cancelled;
  const auto part = [&](const std::string& name) {
    slot.bind(slot.begin(), [&cancelled, name] { cancelled += name; });
  };
  part("lease,");
  part("open,");   // of the same attempt
  part("change,");  // another part, which counts from its own beginning
  slot.cancel();
  CHECK(cancelled == "change,");
}

TEST_CASE("a worker runs its jobs in order, and what is left before it ends") {
  std::string order;
  {
    Worker worker;
    for (int i = 0; i < 5; ++i)
      worker.post([&order, i] { order += std::to_string(i); });
  }
  CHECK(order == "01234");
}

TEST_CASE("a thread's fate is seen") {
  CHECK(fate_of(::gettid()) == ThreadFate::kAlive);
  CHECK(fate_of(0) == ThreadFate::kUnseen);
}

TEST_CASE("links are contained by what the kernel would do with them, not by their letters") {
  const auto shown = [](const char* at, const std::string& target, const char* root = "/srv") {
    const auto result = contained_link(at, target, root);
    return result ? *result : std::string(name_of(result.error().code));
  };
  CHECK(shown("l", "x/./y//z") == "x/./y//z");
  CHECK(shown("a/l", "..") == "..");
  CHECK(shown("l", "./..") == "access-denied");
  CHECK(shown("a/l", "x/..") == "access-denied");
  CHECK(shown("a/l", "../../x") == "access-denied");
  CHECK(shown("a/b/l", "/srv//a/./c/") == "../../a/c");
  CHECK(shown("a/l", "/srv") == "..");
  CHECK(shown("l", "/srvx") == "access-denied");
  CHECK(shown("l", "/") == "access-denied");
  CHECK(shown("a/l", "/etc/passwd", "/") == "../etc/passwd");
  CHECK(shown("l", "/etc/passwd", "") == "access-denied");
  CHECK(shown("l", "") == "access-denied");
  CHECK(shown("l", std::string("x\0y", 3)) == "access-denied");
  CHECK(shown("a/l", "/srv/" + std::string(4090, 'x')) == "../" + std::string(4090, 'x'));
  CHECK(shown("a/b/l", "/srv/" + std::string(4090, 'x')) == "name-too-long");
}
