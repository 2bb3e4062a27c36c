#pragma once

#include <functional>
#include <map>
#include <string>

#include "commands/mount_options.h"
#include "commands/option_values.h"

namespace slipway {

/// Checks one option's value and writes it into the mount's options.
using OptionSetter = std::function<Status(const Option&, MountOptions&)>;

/// Slipway's own `-o` options by name.
const std::map<std::string, OptionSetter, std::less<>>& own_options();

}  // namespace slipway
