#include "commands/mount_source.h"

namespace slipway {

Status parse_source(const std::string& source, MountOptions& m) {
  std::string host;
  if (source.starts_with('[')) {  // user@[2001:db8::1]:/dir is written [user@]... below
    const auto close = source.find("]:");
    if (close == std::string::npos)
      return fail(ErrorCode::kInvalid, "'{}' is not [user@]host:/dir", source);
    host = source.substr(1, close - 1);
    m.export_path = source.substr(close + 2);
  } else {
    const auto at = source.find('@');
    const auto bracket = source.find("@[");
    const auto colon = bracket != std::string::npos && bracket == at
                           ? source.find("]:", bracket) + 1
                           : source.find(':');
    if (colon == std::string::npos || colon == 0)
      return fail(ErrorCode::kInvalid,
                  "'{}' is not a source: expected [user@]host:/dir or local:/dir", source);
    host = source.substr(0, colon);
    m.export_path = source.substr(colon + 1);
    const auto last_at = host.rfind('@');
    if (last_at != std::string::npos) {
      m.connect.user = host.substr(0, last_at);
      host = host.substr(last_at + 1);
      if (m.connect.user.empty())
        return fail(ErrorCode::kInvalid, "'{}': the user before '@' is empty", source);
    }
    if (host.size() > 2 && host.front() == '[' && host.back() == ']')
      host = host.substr(1, host.size() - 2);
  }
  if (host.empty() || host.front() == '-' || m.connect.user.starts_with('-'))
    return fail(ErrorCode::kInvalid, "'{}': the host (or user) is empty or begins with '-'",
                source);
  if (m.export_path.empty())
    m.export_path = ".";  // the remote home, as with sshfs
  m.connect.local = host == "local" && m.connect.user.empty();
  if (m.connect.local && !m.export_path.starts_with('/'))
    return fail(ErrorCode::kInvalid, "'{}': local: needs an absolute path", source);
  m.connect.host = host;
  return {};
}

}  // namespace slipway
