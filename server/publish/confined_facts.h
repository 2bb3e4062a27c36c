#pragma once

#include "manifest/image_facts.h"

#include <cstdint>
#include <string_view>
#include <sys/types.h>

namespace slipway {

/// read_image_facts() of an open image in a process of its own: without root's rights, with no
/// other descriptors, and bounded in processor time (10 s), memory (512 MiB) and time (60 s).
/// Whatever happens to it, or whatever it says, becomes a complaint at worst. Called by root, the
/// process runs as the image's owner (root's own images: as nobody). REQUIRES: no other thread of
/// this process is running.
ImageFacts read_confined_facts(std::string_view name, int fd, std::uint64_t size, uid_t owner,
                               gid_t group);

/// What goes over the pipe. The decoder believes nothing: kInvalid when it is no such message or
/// breaks the limits of ImageFacts.
Bytes encode_facts(const ImageFacts& facts);
Result<ImageFacts> decode_facts(ByteView bytes, std::uint64_t size);

}  // namespace slipway
