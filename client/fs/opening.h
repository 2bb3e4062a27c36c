#pragma once

#include "fs/files.h"

#include <memory>

namespace slipway {

/// One open() under way:
///
///   ask the server -> compare with the node -> open the cached file -> [confirm its units] -> done
///        ^                                                                     |
///        +---------------- a small file that changed meanwhile ---------------+
///
/// Keeps itself alive through its completions.
class Opening : public std::enable_shared_from_this<Opening> {
 public:
  Opening(Files& files, NodeView node, Done<Files::Opened> done, Files::Slot slot);

  void start();

 private:
  void opened(Result<OpenedHandle> answer, TimePoint asked);
  void take_handle(const OpenedHandle& opened, TimePoint asked);
  void confirmed(const Status& status);
  void finish();
  void refuse(Error error);

  static constexpr unsigned kAttemptsMax = 3;

  Files& files_;
  const NodeView node_;
  const Done<Files::Opened> done_;
  const Files::Slot slot_;
  unsigned attempts_ = 0;
  std::shared_ptr<OpenFile> file_;
  bool young_ = false;
  bool pages_doubtful_ = false;
};

}  // namespace slipway
