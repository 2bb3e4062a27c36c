#pragma once

#include "base/result.h"
#include "manifest/facts_builder.h"
#include "manifest/image_reader.h"

namespace slipway {

/// Looks for a qcow2 image (versions 2 and 3): its backing file, external data file, header, L1
/// and L2 tables, refcount table. `facts` stays unrecognised for anything else; kInvalid for one
/// that breaks its format. An image that also holds snapshots of running machines is still a disk.
Status read_qcow2(ImageReader& image, FactsBuilder& facts);

}  // namespace slipway
