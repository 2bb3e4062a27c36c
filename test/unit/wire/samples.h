#pragma once

#include "base/bytes.h"
#include "base/result.h"
#include "wire/lease_messages.h"
#include "wire/manifest_messages.h"
#include "wire/messages.h"
#include "wire/read_messages.h"
#include "wire/setup.h"
#include "wire/write_messages.h"

#include <functional>
#include <string>
#include <vector>

namespace slipway {

/// One example of something that travels: its bytes as our encoder writes them, and the ways back.
/// Golden files, unit tests and the corpus of the fuzzers are made from the same list.
struct WireSample {
  std::string name;
  Bytes bytes;
  bool may_trail = false;  ///< bytes behind it are allowed (fields of a later feature)

  /// Decodes and encodes again. Fails as the decoder fails.
  std::function<Result<Bytes>(ByteView)> recode;

  /// Whether bytes decode to exactly the value that `bytes` was made from.
  std::function<bool(ByteView)> decodes_to_value;
};

/// Every message of the protocol at least once; messages with a frame come with their header.
std::vector<WireSample> wire_samples();

// The values of some samples, for tests that change one thing in them.
Attributes sample_attributes();
ClientSetup sample_client_setup();
ServerSetup sample_server_setup();
ReadRequest sample_read_request();
ReadReply sample_read_reply();
ConfirmRequest sample_confirm_request();
ConfirmReply sample_confirm_reply();
ReadReply sample_leaves_read_reply();
ManifestRequest sample_manifest_request();
ManifestReply sample_manifest_reply();
LeavesReply sample_leaves_reply();
PutProfileRequest sample_put_profile_request();
MakeRequest sample_make_request();
RenameRequest sample_rename_request();
SetattrRequest sample_setattr_request();
CopyRequest sample_copy_request();
ChangeReply sample_change_reply();
StageRequest sample_stage_request();
CommitRequest sample_commit_request();
CommitRequest sample_commit_make_request();
CommitReply sample_commit_reply();
PrepareRequest sample_prepare_request();
PrepareReply sample_prepare_reply();
LeaseReply sample_lease_reply();

/// A zstd frame of kUnitSize bytes 0xab, written by hand: one run-length block.
ByteView sample_zstd_frame();

}  // namespace slipway
