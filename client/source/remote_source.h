#pragma once

#include "source/block_source.h"

#include <cstdint>
#include <memory>

namespace slipway {

struct RemoteSourceOptions {
  /// Bytes asked for by one request at most: larger reads become several requests in flight, so
  /// that the server works on them side by side. A multiple of kUnitSize, at most kReadBytesMax.
  /// (Whether zstd is accepted is RemoteOptions::accept_zstd.)
  std::uint64_t request_bytes_max = 1024 * 1024;
};

/// Content from the image server: turns ranges into extents of whole units, decodes the answers and
/// delivers each byte asked for once, even when a dying connection made the server answer twice.
/// Completes on RemoteSession's receiving threads. `remote` must outlive the source and its reads.
///
/// Errors: kStale when the answer comes from another content than image->version; what the server
/// said of the file (kChanging included: nothing is tried again here); what RemoteSession says of
/// the link; kProtocol for an answer that can't be decoded.
std::unique_ptr<BlockSource> make_remote_source(RemoteSession& remote,
                                                const RemoteSourceOptions& options = {});

}  // namespace slipway
