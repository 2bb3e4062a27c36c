#pragma once

#include "remote/call_engine.h"
#include "remote/session_keeper.h"

#include <atomic>
#include <memory>
#include <string>
#include <vector>

namespace slipway {

/// RemoteSession: makes a call of each request; the engine carries it, the keeper keeps the
/// session.
class RemoteSessionImpl final : public RemoteSession {
 public:
  RemoteSessionImpl(const RemoteOptions& options, const RemoteTuning& tuning,
                    std::unique_ptr<SessionConnector> connector);
  ~RemoteSessionImpl() override;

  Status start(bool interactive, TimePoint deadline) {
    return keeper_.start(interactive, deadline);
  }

  const ServerSetup& server() const noexcept override { return keeper_.server(); }

  const std::string& anchor() const noexcept override { return keeper_.anchor(); }

  CallId lookup(const NodeRef& directory, const std::string& name, Done<Attributes> done) override;
  CallId getattr(std::uint64_t handle, const NodeRef& node, Done<Attributes> done) override;
  CallId readdir(const NodeRef& directory, std::uint64_t cursor, Done<ReaddirReply> done) override;
  CallId readlink(const NodeRef& node, Done<ReadlinkReply> done) override;
  CallId statfs(const NodeRef& node, Done<StatfsReply> done) override;
  CallId open(const NodeRef& node, Done<OpenedHandle> done) override;
  void close(std::uint64_t handle) override;
  CallId confirm(ConfirmRequest request, Done<ConfirmReply> done) override;
  CallId read(RemoteReadRequest request, std::shared_ptr<RemoteReadSink> sink) override;
  CallId manifest(ManifestRequest request, Done<ManifestReply> done) override;
  CallId leaves(LeavesRequest request, Done<LeavesReply> done) override;
  CallId profile(ProfileRequest request, Done<ProfileReply> done) override;
  CallId put_profile(PutProfileRequest request, Done<PutProfileDone> done) override;
  bool can_write() const override;
  CallId open_for_writing(const NodeRef& node, Done<OpenedHandle> done) override;
  CallId make_file(MakeRequest request, Done<OpenedHandle> done) override;
  CallId make(MakeRequest request, Done<MakeReply> done) override;
  CallId link(LinkRequest request, Done<Attributes> done) override;
  CallId remove(RemoveRequest request, Done<Nothing> done) override;
  CallId rename(RenameRequest request, Done<Attributes> done) override;
  CallId setattr(SetattrRequest request, Done<ChangeReply> done) override;
  CallId copy(CopyRequest request, Done<ChangeReply> done) override;
  CallId sync(SyncRequest request, Done<Nothing> done) override;
  CallId stage(const StageRequest& request, Done<Nothing> done) override;
  CallId commit(const CommitRequest& request, Done<CommitReply> done) override;
  bool can_prepare() const override;
  CallId prepare(const PrepareRequest& request, Done<PrepareReply> done) override;
  std::uint64_t reserve_handle() override { return engine_.new_handle(); }
  CallId open_reserved(std::uint64_t handle, const NodeRef& node,
                       Done<OpenedHandle> done) override;
  bool has_leases() const override;
  bool can_await_leases() const override;
  CallId lease(const LeaseRequest& request, Done<LeaseReply> done) override;
  void expect_changes(std::uint64_t handle) override;
  void moved(const std::string& from, const std::string& to) override;
  void cancel(CallId call) override;
  RemoteStatus status() const override;
  void stop() override;

 private:
  /// A name or control call of which all but the message is known.
  template <class Message>
  CallId ask(MessageType type, const Message& message, std::vector<std::uint64_t> handles,
             std::unique_ptr<Answer> answer, OpenAnswer* open = nullptr);

  TimePoint deadline() const;
  bool has_manifests() const { return (server().features & kFeatureManifests) != 0; }

  /// Of a feature that the server may not have.
  template <class Reply, class Message>
  CallId ask_feature(MessageType type, const Message& message, std::vector<std::uint64_t> handles,
                     typename ValueAnswer<Reply>::Decode decode, Done<Reply> done);
  CallId confirm_part(ConfirmRequest request, Done<ConfirmReply> done);

  /// Of kFeatureWrites. `numbered`: run once, over all sessions.
  template <class Message>
  CallId change(MessageType type, const Message& message, bool numbered,
                std::vector<std::uint64_t> handles, std::unique_ptr<Answer> answer,
                OpenAnswer* open = nullptr);
  CallId open(const NodeRef& node, bool writable, Done<OpenedHandle> done);

  const RemoteOptions options_;
  std::atomic<OperationId> next_operation_;
  CallEngine engine_;  // tells keeper_ of changes, but only of what keeper_ began
  SessionKeeper keeper_;
};

template <class Message>
CallId RemoteSessionImpl::ask(MessageType type, const Message& message,
                              std::vector<std::uint64_t> handles, std::unique_ptr<Answer> answer,
                              OpenAnswer* open) {
  auto call = std::make_shared<Call>();
  const CallId id = engine_.new_cookie();
  call->cookie = id;
  call->type = type;
  call->frame = make_request(type, id, Priority::kDemand, message);
  call->deadline = deadline();
  call->handles = std::move(handles);
  call->answer = std::move(answer);
  call->open = open;
  engine_.submit(std::move(call));
  return id;
}

}  // namespace slipway
