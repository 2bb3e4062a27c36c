// Where secrets live, and how they end.
#include "secure/secret.h"

#include "fixture.h"
#include "support/catch.h"

#include <atomic>
#include <cinttypes>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// Pages are given back by munmap, and nobody can look at them after it. So this program looks just
// before: its own munmap stands in front of the C library's. The sanitizers need theirs.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define SLIPWAY_WATCHES_MUNMAP 1

namespace {
std::atomic<void*> watched_page{nullptr};
std::atomic<int> watched_nonzero{-1};  // bytes that were not zero when it was given back
}  // namespace

extern "C" int munmap(void* address, std::size_t size) noexcept {
  if (address == watched_page.load()) {
    int nonzero = 0;
    for (std::size_t i = 0; i < size; ++i)
      nonzero += static_cast<const unsigned char*>(address)[i] != 0 ? 1 : 0;
    watched_nonzero = nonzero;
  }
  return static_cast<int>(::syscall(SYS_munmap, address, size));
}
#endif

namespace slipway {
namespace {

std::string hex(ByteView bytes) {
  std::string text;
  for (const std::byte b : bytes)
    text += fmt::format("{:02x}", std::to_integer<unsigned>(b));
  return text;
}

// The line of /proc/self/smaps that begins with `key`, of the mapping that holds `address`.
std::string smaps_line(const void* address, const std::string& key) {
  std::ifstream smaps("/proc/self/smaps");
  std::string line;
  bool here = false;
  while (std::getline(smaps, line)) {
    std::uintptr_t from = 0;
    std::uintptr_t to = 0;
    if (std::sscanf(line.c_str(), "%" SCNxPTR "-%" SCNxPTR " ", &from, &to) == 2)
      here = from <= reinterpret_cast<std::uintptr_t>(address) &&
             reinterpret_cast<std::uintptr_t>(address) < to;
    else if (here && line.starts_with(key))
      return line;
  }
  return {};
}

}  // namespace

TEST_CASE(
    "a secure process leaves no core file and can't be traced by its user's other processes") {
  start_crypto();
  CHECK(::prctl(PR_GET_DUMPABLE) == 0);
  rlimit limit{1, 1};
  REQUIRE(::getrlimit(RLIMIT_CORE, &limit) == 0);
  CHECK(limit.rlim_cur == 0);
  CHECK(limit.rlim_max == 0);
}

TEST_CASE("a secret's memory is left out of dumps, wiped on fork, and locked where allowed") {
  start_crypto();
  const Secret secret = Secret::random();
  const std::string flags = smaps_line(secret.view().data(), "VmFlags:") + " ";
  CHECK(flags.find(" dd ") != std::string::npos);
  CHECK(flags.find(" wf ") != std::string::npos);
  rlimit limit{};
  REQUIRE(::getrlimit(RLIMIT_MEMLOCK, &limit) == 0);
#ifdef SLIPWAY_WATCHES_MUNMAP  // the sanitizers turn mlock off
  if (limit.rlim_cur >= 1024 * 1024)
    CHECK(flags.find(" lo ") != std::string::npos);
#endif
}

TEST_CASE("a child does not inherit a secret") {
  start_crypto();
  Secret secret = Secret::random();
  const std::string before = hex(secret.view());
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    bool zero = true;
    for (const std::byte b : secret.view())
      zero = zero && b == std::byte{0};
    ::_exit(zero ? 0 : 1);
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(hex(secret.view()) == before);
}

#ifdef SLIPWAY_WATCHES_MUNMAP
TEST_CASE("a secret is wiped before its memory is given back") {
  start_crypto();
  watched_nonzero = -1;
  SECTION("at the end of its life") {
    const Secret secret = Secret::random();
    watched_page = const_cast<std::byte*>(secret.view().data());
  }
  SECTION("when another takes its place") {
    Secret secret = Secret::random();
    watched_page = const_cast<std::byte*>(secret.view().data());
    secret = Secret::random();
    CHECK(watched_nonzero.load() == 0);
  }
  watched_page = nullptr;
  CHECK(watched_nonzero.load() == 0);
}
#endif

TEST_CASE("secrets move without a copy staying behind, and clones are independent") {
  start_crypto();
  Secret first = Secret::random();
  const std::byte* const place = first.view().data();
  const std::string value = hex(first.view());
  Secret second = std::move(first);
  CHECK(second.view().data() == place);
  Secret third = second.clone();
  third.mutable_view()[0] ^= std::byte{1};
  CHECK(hex(second.view()) == value);
  CHECK(hex(third.view()) != value);
  CHECK(hex(Secret().view()) == std::string(64, '0'));
  CHECK(hex(Secret::random().view()) != hex(Secret::random().view()));
}

TEST_CASE("the root is keyed BLAKE2b over both messages, with their lengths, truncated") {
  start_crypto();
  SecretBytes client;
  SecretBytes server;
  for (std::size_t i = 0; i < 32; ++i) {
    client[i] = static_cast<std::byte>(i);
    server[i] = static_cast<std::byte>(32 + i);
  }
  const auto root = [&](std::string_view a, std::string_view b) {
    return hex(derive_root(client, server, as_bytes(a), as_bytes(b)).view());
  };
  // Computed with another implementation of BLAKE2b.
  CHECK(root("client set-up", "server set-up, longer") ==
        "ce8c951f211904fe757a022e1b4f30dd70556f12fe459d488eca4c5267d322f4");
  CHECK(root("ab", "c") != root("a", "bc"));
  const std::string straight = root("a", "b");
  std::swap(client, server);
  CHECK(root("a", "b") != straight);
}

TEST_CASE("identifiers hash their parts with their lengths") {
  start_crypto();
  CHECK(hex(hash16({as_bytes("abc"), {}, as_bytes("d")})) == "8d47554e869f0ed95406eef6db70bc03");
  CHECK(hex(hash16({as_bytes("ab"), as_bytes("c")})) !=
        hex(hash16({as_bytes("a"), as_bytes("bc")})));
}

}  // namespace slipway
