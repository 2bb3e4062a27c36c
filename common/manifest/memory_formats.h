#pragma once

#include "base/result.h"
#include "manifest/facts_builder.h"
#include "manifest/image_reader.h"

#include <string_view>

namespace slipway {

/// Looks for the state of a machine that was running: VMware's suspended and snapshot states,
/// libvirt's save files, QEMU's migration streams, Firecracker's state files. `facts` stays
/// unrecognised for anything else, so for plain memory, which has no mark of its own. Formats that
/// keep the memory in a file of its own do not say where: the usual name beside `name` is given,
/// whether there is such a file or not. kInvalid for a file that breaks its format.
Status read_memory_format(std::string_view name, ImageReader& image, FactsBuilder& facts);

}  // namespace slipway
