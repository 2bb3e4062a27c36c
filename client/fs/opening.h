#pragma once

#include "fs/files.h"
#include "source/image_guide.h"

#include <atomic>
#include <memory>

namespace slipway {

/// One open() under way:
///
///   ask the server, for the handle and for what it knows of the image
///        |
///        v
///   compare with the node -> open the cached file -> [confirm its units] -> done
///
/// A small file that changed meanwhile starts again.
///
/// Keeps itself alive through its completions.
class Opening : public std::enable_shared_from_this<Opening> {
 public:
  Opening(Files& files, NodeView node, Done<Files::Opened> done, Files::Slot slot);

  void start();

 private:
  void opened(Result<OpenedHandle> answer);
  void found(ImageGuide::Found found);
  void arrive();
  void take_handle();
  void confirmed(const Status& status);
  void finish();
  void refuse(Error error);

  static constexpr unsigned kAttemptsMax = 3;

  Files& files_;
  const NodeView node_;
  const Done<Files::Opened> done_;
  const Files::Slot slot_;
  unsigned attempts_ = 0;
  std::atomic<unsigned> awaited_ = 0;  ///< answers
  TimePoint asked_;
  OpenedHandle handle_;
  ImageGuide::Found found_;
  std::shared_ptr<OpenFile> file_;
  bool young_ = false;
  bool pages_doubtful_ = false;
};

}  // namespace slipway
