#pragma once

#include "base/bytes.h"

#include <cstddef>
#include <cstdint>
#include <span>

// A fuzz target is one function over bytes that must return, whatever they are, with its promises
// kept (asserts, sanitizers). libFuzzer drives it in a build by clang++; replay_main.cc feeds
// it damaged golden files in ordinary builds.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace slipway {

inline ByteView fuzz_input(const std::uint8_t* data, std::size_t size) {
  return std::as_bytes(std::span(data, size));
}

}  // namespace slipway
