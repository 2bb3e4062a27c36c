#pragma once

#include "base/bytes.h"
#include "remote/read_check.h"
#include "remote/remote_session.h"
#include "wire/frame.h"

#include <functional>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

namespace slipway {

/// What becomes of one call's reply frames. One thread at a time; no lock of the session is held
/// around on_frame and finish.
class Answer {
 public:
  virtual ~Answer() = default;

  /// A reply frame without a status; `last`: the answer ends with it. kProtocol: the server lied,
  /// and nothing of the frame was used. Any other error ends the call with that error.
  virtual Status on_frame(const std::shared_ptr<const Bytes>& frame, bool last) = 0;

  /// The request goes out again on another connection: what came of the answer is forgotten. Calls
  /// nobody (the session's lock is held).
  virtual void restart() {}

  /// Exactly once, last. Success only after on_frame succeeded with `last`.
  virtual void finish(Status status) = 0;
};

/// An answer that nobody waits for.
class IgnoredAnswer final : public Answer {
 public:
  Status on_frame(const std::shared_ptr<const Bytes>&, bool) override { return {}; }

  void finish(Status) override {}
};

/// An answer of one frame.
template <class T>
class ValueAnswer : public Answer {
 public:
  using Decode = std::function<Result<T>(ByteView)>;

  ValueAnswer(Decode decode, Done<T> done) : decode_(std::move(decode)), done_(std::move(done)) {}

  Status on_frame(const std::shared_ptr<const Bytes>& frame, bool last) override {
    if (!last)
      return fail(ErrorCode::kProtocol, "an answer of one frame promises more");
    SLIPWAY_TRY_ASSIGN(value_, decode_(frame_body(*frame)));
    return {};
  }

  void finish(Status status) override {
    if (status)
      done_(std::move(value_));
    else
      done_(fail(std::move(status).error()));
  }

 protected:
  T value_{};

 private:
  Decode decode_;
  Done<T> done_;
};

/// The answer to an open; the session keeps what it needs to open the handle again.
class OpenAnswer final : public ValueAnswer<OpenedHandle> {
 public:
  OpenAnswer(std::uint64_t handle, NodeRef node, bool writable, Done<OpenedHandle> done);

  /// Of a file that is made: its reply is a MakeReply.
  OpenAnswer(std::uint64_t handle, NodeRef made, Decode decode, Done<OpenedHandle> done)
      : ValueAnswer(std::move(decode), std::move(done)),
        handle_(handle),
        node_(std::move(made)),
        writable_(true) {}

  std::uint64_t handle() const noexcept { return handle_; }

  const NodeRef& node() const noexcept { return node_; }

  bool writable() const noexcept { return writable_; }

  const Attributes& attributes() const noexcept { return value_.attributes; }

 private:
  std::uint64_t handle_;
  NodeRef node_;
  bool writable_;
};

/// Collects all frames of a directory's answer.
class ReaddirAnswer final : public Answer {
 public:
  explicit ReaddirAnswer(Done<ReaddirReply> done) : done_(std::move(done)) {}

  Status on_frame(const std::shared_ptr<const Bytes>& frame, bool last) override;

  void restart() override { all_ = {}; }

  void finish(Status status) override;

 private:
  Done<ReaddirReply> done_;
  ReaddirReply all_;
};

/// Checks each frame of a read and hands it to the sink.
class ReadAnswer final : public Answer {
 public:
  /// Two owners of `sink`: the caller and this.
  ReadAnswer(const ReadRequest& request, std::shared_ptr<RemoteReadSink> sink)
      : check_(request.extents, request.want_leaves), sink_(std::move(sink)) {}

  Status on_frame(const std::shared_ptr<const Bytes>& frame, bool last) override;

  void restart() override { check_.restart(); }

  void finish(Status status) override { sink_->on_done(std::move(status)); }

 private:
  ReadCheck check_;
  std::shared_ptr<RemoteReadSink> sink_;
};

// Decoders that also judge what the codec leaves open.
Result<Attributes> decode_plausible_attributes(ByteView body);
Result<ReadlinkReply> decode_safe_readlink(ByteView body);

}  // namespace slipway
