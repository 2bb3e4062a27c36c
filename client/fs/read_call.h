#pragma once

#include "fs/files.h"

#include <atomic>
#include <memory>
#include <vector>

namespace slipway {

/// One read() under way: collects the pieces, checks them, and reads again when a small file turns
/// out to have changed. Keeps itself alive through its completions.
class ReadCall final : public ReadSink, public std::enable_shared_from_this<ReadCall> {
 public:
  ReadCall(Files& files, std::uint64_t id, std::shared_ptr<OpenFile> file, const ByteRange& range,
           Done<Content> done, Files::Slot slot);

  /// Returns when the read is done or waits for the network.
  void start();

  void on_pieces(std::span<Piece> pieces) override;
  void on_done(Status status) override;

 private:
  void read();
  bool take_own();
  void changed(Error error);
  bool try_again_after_own_change();
  void renewed(Result<Attributes> answer, TimePoint asked);
  void finish(Result<Content> content);

  static constexpr unsigned kAttemptsMax = 3;

  Files& files_;
  const std::uint64_t id_;
  const std::shared_ptr<OpenFile> file_;
  const ByteRange asked_;
  const Done<Content> done_;
  const Files::Slot slot_;
  unsigned attempts_ = 0;
  std::shared_ptr<const Image> image_;
  std::shared_ptr<WrittenFile> unsent_;
  ByteRange range_;  ///< asked_ cut at the file's size
  std::vector<ByteRange> below_;  ///< of it: what the image has
  std::vector<Piece> pieces_;
  std::atomic<bool> finished_{false};
  std::atomic<bool> waiting_{false};
};

}  // namespace slipway
