#pragma once

#include "server/checkpoints.h"
#include "server/handle_table.h"
#include "server/image_store.h"
#include "server/lease_store.h"
#include "server/operation_log.h"
#include "server/request.h"

namespace slipway {

/// What a session that may change its export has besides the store; all outlive the session.
struct WriteSide {
  bool allowed = false;                ///< else everything that changes something is kReadOnly
  OperationLog* operations = nullptr;  ///< null: changes run once within this session only
  Checkpoints* checkpoints = nullptr;  ///< null: stages and commits are kReadOnly
  LeaseStore* leases = nullptr;        ///< null: nobody excludes anybody
};

/// Answers the messages of kFeatureWrites: runs changes once, over sessions. Any thread; no lock of
/// its own. Refers to the store, the handles and the write side.
class ChangeAnswers {
 public:
  ChangeAnswers(ImageStore& store, HandleTable& handles, const WriteSide& side)
      : store_(store), handles_(handles), side_(side) {}

  /// Whether the message is one that is answered here.
  static bool takes(const Request& request) noexcept;

  /// The whole reply frame. REQUIRES: takes(request).
  Result<Bytes> answer(const Request& request);

  bool may_write() const noexcept { return side_.allowed; }

 private:
  template <class T>
  Result<Bytes> change(const T& request, MessageType type);

  /// Leave to run a change: of all groups that it touches.
  template <class T>
  Result<LeaseStore::Passage> enter(const T& request);

  // The body of the reply to a change that runs now.
  Result<Bytes> run(const MakeRequest& request);
  Result<Bytes> run(const LinkRequest& request);
  Result<Bytes> run(const RemoveRequest& request);
  Result<Bytes> run(const RenameRequest& request);
  Result<Bytes> run(const SetattrRequest& request);
  Result<Bytes> run(const CopyRequest& request);

  Result<Bytes> repeat(const MakeRequest& request, const OperationResult& result);

  template <class T>
  Result<Bytes> repeat(const T& request, const OperationResult& result);

  ImageStore& store_;
  HandleTable& handles_;
  const WriteSide side_;
};

}  // namespace slipway
