#include "samples.h"
#include "support/catch.h"
#include "wire/codec.h"
#include "wire/manifest_messages.h"

#include <cstdlib>
#include <new>

// Watches what decoders allocate: a count is only a claim until its elements are there.

namespace {

thread_local std::size_t largest_allocation = 0;

}  // namespace

void* operator new(std::size_t size) {
  largest_allocation = size > largest_allocation ? size : largest_allocation;
  void* memory = std::malloc(size);
  if (memory == nullptr)
    throw std::bad_alloc();
  return memory;
}

void operator delete(void* memory) noexcept {
  std::free(memory);
}

void operator delete(void* memory, std::size_t /*size*/) noexcept {
  std::free(memory);
}

using namespace slipway;

namespace {

/// Decodes a list that claims `count` elements and has none of them.
template <class M>
std::size_t allocated_for_claim(Result<M> (*decode)(ByteView), std::size_t bytes_before_count,
                                std::uint32_t count) {
  Bytes body(bytes_before_count, std::byte{1});
  WireWriter(body).u32(count);
  largest_allocation = 0;
  const bool refused = !decode(body).has_value();
  const std::size_t largest = largest_allocation;
  CHECK(refused);
  return largest;
}

}  // namespace

TEST_CASE("a decoder allocates no more than the bytes that came justify") {
  constexpr std::size_t kErrorTextSize = 512;
  for (const std::uint32_t count : {1U, 16U, 1024U, 2048U, 16384U, 65535U, 0xffffffffU}) {
    CAPTURE(count);
    CHECK(allocated_for_claim(decode_readdir_reply, 0, count) <= kErrorTextSize);
    CHECK(allocated_for_claim(decode_read_request, 1, count) <= kErrorTextSize);
    CHECK(allocated_for_claim(decode_read_reply, 0, count) <= kErrorTextSize);
    CHECK(allocated_for_claim(decode_confirm_request, 8, count) <= kErrorTextSize);
    CHECK(allocated_for_claim(decode_confirm_reply, 57, count) <= kErrorTextSize);
    CHECK(allocated_for_claim(decode_leaves_reply, 0, count) <= kErrorTextSize);
    CHECK(allocated_for_claim(decode_profile_reply, 0, count) <= kErrorTextSize);
  }
}
