#pragma once

#include "base/bytes.h"
#include "server/image_store.h"
#include "wire/write_messages.h"

#include <optional>

namespace slipway {

// What is noted before a change runs, and what it tells about the state found later, when the
// process died and nobody knows whether the change was done. Files are known by inode and birth,
// which mean the same in every session. Changes that may simply run again note nothing.

Bytes intent_of(ImageStore& store, const MakeRequest& request);
Bytes intent_of(ImageStore& store, const LinkRequest& request);
Bytes intent_of(ImageStore& store, const RemoveRequest& request);
Bytes intent_of(ImageStore& store, const RenameRequest& request);
Bytes intent_of(ImageStore& store, const SetattrRequest& request);
Bytes intent_of(ImageStore& store, const CopyRequest& request);

// The body of the reply when the change was done; nothing: run it.
std::optional<Bytes> done_since(ByteView intent, ImageStore& store, const MakeRequest& request);
std::optional<Bytes> done_since(ByteView intent, ImageStore& store, const LinkRequest& request);
std::optional<Bytes> done_since(ByteView intent, ImageStore& store, const RemoveRequest& request);
std::optional<Bytes> done_since(ByteView intent, ImageStore& store, const RenameRequest& request);
std::optional<Bytes> done_since(ByteView intent, ImageStore& store, const SetattrRequest& request);
std::optional<Bytes> done_since(ByteView intent, ImageStore& store, const CopyRequest& request);

/// "a/b" and "c" are "a/b/c".
std::string path_below(const std::string& directory, const std::string& name);

}  // namespace slipway
