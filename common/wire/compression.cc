#include "wire/compression.h"

#include "base/units.h"

#include <zstd.h>

#include <cassert>
#include <memory>
#include <new>

namespace slipway {
namespace {

constexpr int kLevel = 1;

// Where a zstd frame's descriptor byte lies, behind the magic number, and what it must say: a
// single segment (so the window is the content, not what the frame claims), no checksum, no
// dictionary, reserved bit zero. The two top bits, the width of the content's size, are free, and
// so is the unused bit.
constexpr std::size_t kDescriptorAt = 4;
constexpr std::byte kDescriptorMask{0x2f};
constexpr std::byte kDescriptorWanted{0x20};

struct FreeDecompressor {
  void operator()(ZSTD_DCtx* owned) const noexcept { ZSTD_freeDCtx(owned); }
};

ZSTD_DCtx* this_threads_decompressor() {
  thread_local const std::unique_ptr<ZSTD_DCtx, FreeDecompressor> kContext(ZSTD_createDCtx());
  if (!kContext)
    throw std::bad_alloc();
  return kContext.get();
}

}  // namespace

struct UnitCompressor::Impl {
  struct Free {
    void operator()(ZSTD_CCtx* owned) const noexcept { ZSTD_freeCCtx(owned); }
  };

  std::unique_ptr<ZSTD_CCtx, Free> context{ZSTD_createCCtx()};
};

UnitCompressor::UnitCompressor() : impl_(std::make_unique<Impl>()) {
  if (!impl_->context)
    throw std::bad_alloc();
  ZSTD_CCtx_setParameter(impl_->context.get(), ZSTD_c_compressionLevel, kLevel);
  ZSTD_CCtx_setParameter(impl_->context.get(), ZSTD_c_contentSizeFlag, 1);
  ZSTD_CCtx_setParameter(impl_->context.get(), ZSTD_c_checksumFlag, 0);
}

UnitCompressor::~UnitCompressor() = default;

std::size_t UnitCompressor::compress(ByteView unit, Bytes& to) {
  assert(!unit.empty() && unit.size() <= kBlockSize);
  // zstd gives up when the frame does not fit into what would pay.
  const std::size_t before = to.size();
  const std::size_t worth = unit.size() - unit.size() / 8;
  to.resize(before + worth);
  const std::size_t size =
      ZSTD_compress2(impl_->context.get(), to.data() + before, worth, unit.data(), unit.size());
  const bool pays = ZSTD_isError(size) == 0 && size < unit.size();
  to.resize(pays ? before + size : before);
  return pays ? size : 0;
}

Status decompress_unit(ByteView frame, MutableBytes unit) {
  assert(!unit.empty() && unit.size() <= kBlockSize);
  const bool bounded = frame.size() > kDescriptorAt &&
                       (frame[kDescriptorAt] & kDescriptorMask) == kDescriptorWanted &&
                       ZSTD_getFrameContentSize(frame.data(), frame.size()) == unit.size();
  if (!bounded)
    return fail(ErrorCode::kProtocol, "not a zstd frame of one unit of {} bytes", unit.size());
  // The whole frame in one call decodes in place: no window is allocated, nothing is written past
  // the unit, and a second frame would not fit.
  if (ZSTD_findFrameCompressedSize(frame.data(), frame.size()) != frame.size())
    return fail(ErrorCode::kProtocol, "a unit is not exactly one zstd frame");
  const std::size_t size = ZSTD_decompressDCtx(this_threads_decompressor(), unit.data(),
                                               unit.size(), frame.data(), frame.size());
  if (ZSTD_isError(size) != 0 || size != unit.size())
    return fail(ErrorCode::kProtocol, "a zstd frame is damaged");
  return {};
}

}  // namespace slipway
