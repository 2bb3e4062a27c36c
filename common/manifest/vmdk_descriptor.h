#pragma once

#include "base/result.h"
#include "manifest/facts_builder.h"

#include <string_view>

namespace slipway {

/// Whether a text is the descriptor of a .vmdk: after comments it starts with its version.
bool is_vmdk_descriptor(std::string_view text) noexcept;

/// Which files of a descriptor belong to the set. The one within a sparse extent describes that
/// extent itself, under the name that it had when it was made.
enum class DescriptorFiles { kAll, kOnlyOthers };

/// Adds the names of a descriptor's extents, parent and change tracking file. kInvalid when a line
/// of an extent makes no sense.
Status read_vmdk_descriptor(std::string_view text, DescriptorFiles files, FactsBuilder& facts);

}  // namespace slipway
