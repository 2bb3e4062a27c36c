#pragma once

#include "manifest/manifest.h"
#include "fs/files.h"

#include <atomic>
#include <memory>
#include <vector>

namespace slipway {

/// One SEEK_DATA or SEEK_HOLE under way: reads forward in growing steps until it finds a run of the
/// wanted kind. Zeros count as holes, allocated or not. Where a write of this mount crosses it, it
/// answers that all is data, which is always true. Keeps itself alive through its completions.
class SeekCall final : public ReadSink, public std::enable_shared_from_this<SeekCall> {
 public:
  SeekCall(Files& files, std::shared_ptr<OpenFile> file, std::uint64_t offset, SeekFor what,
           Done<std::uint64_t> done, Files::Slot slot);

  void start();

  void on_pieces(std::span<Piece> pieces) override;
  void on_done(Status status) override;

 private:
  /// Between a step's start and its end, on either side of the thread that started it.
  enum class Step { kStarted, kWaiting, kEnded };

  void advance();
  bool take_own();  ///< false: no more is known
  bool crosses_own_write() const;
  void answer_all_data();
  Result<std::uint64_t> find_in_manifest(const Manifest& manifest) const;
  bool go_on();  ///< false when the answer has been given
  void answer(Result<std::uint64_t> result);

  Files& files_;
  const std::shared_ptr<OpenFile> file_;
  std::shared_ptr<WrittenFile> unsent_;  ///< null: nothing is
  std::shared_ptr<const Image> image_;   ///< as of after that
  const SeekFor what_;
  const Done<std::uint64_t> done_;
  const Files::Slot slot_;
  std::uint64_t size_ = 0;  ///< the file's
  ByteRange range_;
  std::vector<ByteRange> below_;  ///< what of the range only the image has
  std::atomic<Step> step_{Step::kStarted};
  Status status_;
  std::vector<Piece> pieces_;
};

}  // namespace slipway
