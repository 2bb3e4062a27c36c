#pragma once

#include "support/catch.h"
#include "wire/lease_messages.h"
#include "wire/manifest_messages.h"
#include "wire/messages.h"
#include "wire/read_messages.h"
#include "wire/setup.h"
#include "wire/write_messages.h"

namespace slipway {

template <class M>
Bytes body_of(const M& message) {
  Bytes body;
  encode(body, message);
  return body;
}

/// Whether a message, encoded as it is, gets past its decoder. A refusal must be kProtocol.
template <class M>
bool accepts(Result<M> (*decode)(ByteView), const M& message) {
  Bytes body;
  encode(body, message);
  const Result<M> decoded = decode(body);
  if (!decoded.has_value())
    CHECK(decoded.error().code == ErrorCode::kProtocol);
  return decoded.has_value();
}

inline bool accepts(const Attributes& m) {
  return accepts(decode_attributes, m);
}

inline bool accepts(const LookupRequest& m) {
  return accepts(decode_lookup_request, m);
}

inline bool accepts(const GetattrRequest& m) {
  return accepts(decode_getattr_request, m);
}

inline bool accepts(const ReaddirRequest& m) {
  return accepts(decode_readdir_request, m);
}

inline bool accepts(const ReaddirReply& m) {
  return accepts(decode_readdir_reply, m);
}

inline bool accepts(const ReadlinkReply& m) {
  return accepts(decode_readlink_reply, m);
}

inline bool accepts(const StatfsReply& m) {
  return accepts(decode_statfs_reply, m);
}

inline bool accepts(const OpenRequest& m) {
  return accepts(decode_open_request, m);
}

inline bool accepts(const CloseRequest& m) {
  return accepts(decode_close_request, m);
}

inline bool accepts(const ReadRequest& m) {
  return accepts(decode_read_request, m);
}

inline bool accepts(const ReadReply& m) {
  return accepts(decode_read_reply, m);
}

inline bool accepts(const ConfirmRequest& m) {
  return accepts(decode_confirm_request, m);
}

inline bool accepts(const ConfirmReply& m) {
  return accepts(decode_confirm_reply, m);
}

inline bool accepts(const ManifestRequest& m) {
  return accepts(decode_manifest_request, m);
}

inline bool accepts(const ManifestReply& m) {
  return accepts(decode_manifest_reply, m);
}

inline bool accepts(const LeavesRequest& m) {
  return accepts(decode_leaves_request, m);
}

inline bool accepts(const LeavesReply& m) {
  return accepts(decode_leaves_reply, m);
}

inline bool accepts(const ProfileRequest& m) {
  return accepts(decode_profile_request, m);
}

inline bool accepts(const ProfileReply& m) {
  return accepts(decode_profile_reply, m);
}

inline bool accepts(const PutProfileRequest& m) {
  return accepts(decode_put_profile_request, m);
}

inline bool accepts(const MakeRequest& m) {
  return accepts(decode_make_request, m);
}

inline bool accepts(const MakeReply& m) {
  return accepts(decode_make_reply, m);
}

inline bool accepts(const LinkRequest& m) {
  return accepts(decode_link_request, m);
}

inline bool accepts(const RemoveRequest& m) {
  return accepts(decode_remove_request, m);
}

inline bool accepts(const RenameRequest& m) {
  return accepts(decode_rename_request, m);
}

inline bool accepts(const SetattrRequest& m) {
  return accepts(decode_setattr_request, m);
}

inline bool accepts(const CopyRequest& m) {
  return accepts(decode_copy_request, m);
}

inline bool accepts(const ChangeReply& m) {
  return accepts(decode_change_reply, m);
}

inline bool accepts(const SyncRequest& m) {
  return accepts(decode_sync_request, m);
}

inline bool accepts(const StageRequest& m) {
  return accepts(decode_stage_request, m);
}

inline bool accepts(const CommitRequest& m) {
  return accepts(decode_commit_request, m);
}

inline bool accepts(const CommitReply& m) {
  return accepts(decode_commit_reply, m);
}

inline bool accepts(const LeaseRequest& m) {
  return accepts(decode_lease_request, m);
}

inline bool accepts(const LeaseReply& m) {
  return accepts(decode_lease_reply, m);
}

inline bool accepts(const PrepareRequest& m) {
  return accepts(decode_prepare_request, m);
}

inline bool accepts(const PrepareReply& m) {
  return accepts(decode_prepare_reply, m);
}

inline bool accepts(const ClientSetup& m) {
  return accepts(decode_client_setup, m);
}

inline bool accepts(const ServerSetup& m) {
  return accepts(decode_server_setup, m);
}

}  // namespace slipway
