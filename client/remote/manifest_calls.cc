// Calls of the feature "manifests".
#include "remote/remote_session_impl.h"

#include <utility>

namespace slipway {

namespace {

Result<PutProfileDone> decode_done(ByteView body) {
  if (!body.empty())
    return fail(ErrorCode::kProtocol, "an answer that should be empty is not");
  return PutProfileDone{};
}

}  // namespace

template <class Reply, class Message>
CallId RemoteSessionImpl::ask_feature(MessageType type, const Message& message,
                                      std::vector<std::uint64_t> handles,
                                      typename ValueAnswer<Reply>::Decode decode,
                                      Done<Reply> done) {
  if (!has_manifests())
    return refuse(done);
  return ask(type, message, std::move(handles),
             std::make_unique<ValueAnswer<Reply>>(std::move(decode), std::move(done)));
}

CallId RemoteSessionImpl::manifest(ManifestRequest request, Done<ManifestReply> done) {
  return ask_feature<ManifestReply>(MessageType::kManifest, request, {}, decode_manifest_reply,
                                    std::move(done));
}

CallId RemoteSessionImpl::leaves(LeavesRequest request, Done<LeavesReply> done) {
  return ask_feature<LeavesReply>(MessageType::kLeaves, request, {request.handle},
                                  decode_leaves_reply, std::move(done));
}

CallId RemoteSessionImpl::profile(ProfileRequest request, Done<ProfileReply> done) {
  return ask_feature<ProfileReply>(MessageType::kProfile, request, {}, decode_profile_reply,
                                   std::move(done));
}

CallId RemoteSessionImpl::put_profile(PutProfileRequest request, Done<PutProfileDone> done) {
  return ask_feature<PutProfileDone>(MessageType::kPutProfile, request, {}, decode_done,
                                     std::move(done));
}

}  // namespace slipway
