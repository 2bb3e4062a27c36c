#pragma once

#include "base/bytes.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "wire/messages.h"

#include <array>
#include <cstddef>
#include <string>
#include <utility>

namespace slipway {

/// The export's drop box of working-set profiles (`.slipway/profiles`, sticky), or the user's own
/// when the export has none. Each file is one start of one image in one role, written by the user
/// whose uid stands in its name; what others wrote is read, believed only as a hint, and bounded.
/// Any thread; no lock: files are replaced as a whole.
///
/// A file's name is UID-FILESYSTEM-INODE-ROLE-MOUNT, the numbers decimal, the mount's id 32 hex
/// digits. It holds "SLIPPROF", the image's birth (i64 seconds, u32 nanoseconds, little-endian) and
/// the profile. It is ignored unless it is a regular file, no link, and belongs to that uid.
class ProfileBox {
 public:
  static constexpr std::size_t kStartsMax = 8;        ///< newest profiles that are merged
  static constexpr std::size_t kPerUserMax = 256;     ///< files of one uid: the oldest go
  static constexpr std::size_t kPerImageMax = 16;     ///< files of one uid, image and role
  static constexpr std::size_t kScanMax = 64 * 1024;  ///< entries that are looked at

  using MountId = std::array<std::byte, 16>;

  /// `directory`: made, for this user alone, when first needed; "" keeps nothing.
  explicit ProfileBox(std::string directory) : directory_(std::move(directory)) {}

  /// Leaves one start's profile (client's bytes, checked by decode_profile). A second one of the
  /// same `mount_id` replaces the first. kInvalid: not a profile; kStale: of another size.
  Status put(const VersionRecord& image, const std::string& role, const MountId& mount_id,
             ByteView profile);

  /// The newest profiles, this user's first, merged (manifest/profile.h); empty when there is none.
  Result<Bytes> get(const VersionRecord& image, const std::string& role) const;

 private:
  const std::string directory_;
};

}  // namespace slipway
