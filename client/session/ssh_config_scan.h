#pragma once

#include "base/result.h"

#include <string>
#include <vector>

namespace slipway {

/// One file to scan, with what is included from it.
struct SshConfigRoot {
  std::string path;
  std::string include_directory;  ///< what relative Include patterns start from
  bool of_user = false;   ///< must belong to the user or root and be writable by no one else
  bool required = false;  ///< its absence is an error
};

struct SshConfigScan {
  /// "FILE line N" where `IdentitiesOnly yes` stands, in whatever block; empty when nowhere.
  std::string identities_only_at;
  std::string identity_agent;  ///< the last IdentityAgent seen
};

/// Reads the configuration files that libssh is going to read and refuses (kInvalid, by name, with
/// file and line) what changes who is trusted, or who is reached, and what libssh does not know or
/// does not honour. Conservative: every Host and Match block counts as if it applied. It decides
/// nothing else: libssh evaluates the files.
Result<SshConfigScan> scan_ssh_config(const std::vector<SshConfigRoot>& roots);

/// The words of a line of ssh_config as libssh cuts them: separated by blanks or one '=', double
/// quotes keep a word together. Empty for blank lines and comments.
std::vector<std::string> ssh_config_words(std::string_view line);

}  // namespace slipway
