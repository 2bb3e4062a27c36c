#pragma once

#include "fs/files.h"
#include "source/image_guide.h"
#include "writeback/lease_gate.h"

#include <atomic>
#include <functional>
#include <memory>

namespace slipway {

/// One open() under way:
///
///   ask the server, for the handle and for what it knows of the image
///        |
///        v
///   compare with the node -> open the cached file -> [confirm its units] -> done
///
/// A small file that changed meanwhile starts again. For writing, nothing is asked for but the
/// handle: a published image the server does not open so, and then it is opened for reading where
/// the mount has writable_opens.
///
/// Keeps itself alive through its completions.
class Opening : public std::enable_shared_from_this<Opening> {
 public:
  Opening(Files& files, NodeView node, const OpenMode& mode, Done<Files::Opened> done,
          Files::Slot slot);

  void start();

  /// Goes on with a handle that is open already.
  void start_with(OpenedHandle handle);

 private:
  void ask_open();
  bool open_pending();
  bool is_pending_still(const WrittenFile* file) const;
  void ask_lease();
  bool needs_lease() const;
  bool wait_for_own_commit(const VersionRecord& there);
  bool start_after_own_commit();
  void start_over();
  void start_after(const std::function<void(std::function<void(Status)>)>& wait);
  bool has_writer() const;
  bool follows_our_commits(OpenFile& file) const;
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
  OpenMode mode_;
  const Done<Files::Opened> done_;
  const Files::Slot slot_;
  unsigned attempts_ = 0;
  bool adopted_ = false;  ///< the handle is of a file that was made just now
  bool pending_ = false;  ///< or of one that the server does not have yet
  unsigned waits_ = 0;  ///< for commits of our own
  std::uint32_t revision_ = 0;  ///< of WriteBack, when the server was asked
  std::atomic<unsigned> awaited_ = 0;  ///< answers
  TimePoint asked_;
  OpenedHandle handle_;
  LeaseGate::Hold lease_;  ///< until the file itself shows that it is open for writing
  ImageGuide::Found found_;
  std::shared_ptr<OpenFile> file_;
  bool pages_differ_ = false;  ///< the content has changed, and not by us
  bool has_writer_ = false;  ///< another open file of this mount
  bool young_ = false;
  bool pages_doubtful_ = false;
};

}  // namespace slipway
