#pragma once

#include "base/result.h"
#include "manifest/facts_builder.h"
#include "manifest/image_reader.h"

namespace slipway {

/// Looks for the content of a .vmdk: a descriptor (text that names the extents), a sparse extent
/// of hosted products ("KDMV", also stream-optimised), of ESX ("COWD") or seSparse. A flat extent
/// has no mark of its own; `facts` stays unrecognised then. kInvalid for one that breaks its
/// format.
///
/// `may_be_descriptor` is given by the name: text at the start of any other image may be a guest's.
Status read_vmdk(ImageReader& image, bool may_be_descriptor, FactsBuilder& facts);

}  // namespace slipway
