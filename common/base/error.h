#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace slipway {

/// What can go wrong, as a closed set. The numbers travel on the wire (docs/protocol.md, "Errors")
/// and never change meaning; a number that a peer sends and we do not know reads as kIo.
enum class ErrorCode : std::uint32_t {
  kNotFound = 1,        ///< ENOENT
  kAccessDenied = 2,    ///< EACCES
  kNotPermitted = 3,    ///< EPERM
  kNotDirectory = 4,    ///< ENOTDIR
  kIsDirectory = 5,     ///< EISDIR
  kStale = 6,           ///< ESTALE: the name now means another file, or another version of it
  kIo = 7,              ///< EIO
  kNoSpace = 8,         ///< ENOSPC
  kQuota = 9,           ///< EDQUOT
  kReadOnly = 10,       ///< EROFS
  kExists = 11,         ///< EEXIST
  kNotEmpty = 12,       ///< ENOTEMPTY
  kNameTooLong = 13,    ///< ENAMETOOLONG
  kInvalid = 14,        ///< EINVAL
  kNotSupported = 15,   ///< EOPNOTSUPP
  kBusy = 16,           ///< EBUSY
  kLoop = 17,           ///< ELOOP
  kTimedOut = 18,       ///< ETIMEDOUT
  kInterrupted = 19,    ///< EINTR
  kChanging = 20,       ///< EAGAIN: the file changed during each of several tries to read it
  kBadHandle = 21,      ///< EBADF
  kOutOfMemory = 22,    ///< ENOMEM
  kTooManyOpen = 23,    ///< EMFILE
  kFileTooBig = 24,     ///< EFBIG
  kCrossDevice = 25,    ///< EXDEV: also a path that would leave the export
  kDisconnected = 26,   ///< ENOTCONN
  kProtocol = 27,       ///< EPROTO: the peer broke the protocol; its connection is dropped
  kCancelled = 28,      ///< ECANCELED
  kVersionMismatch = 29,  ///< set-up only: no common protocol version
  kAuthentication = 30,   ///< set-up only: host key, credentials or psk refused
  kCorrupt = 31,        ///< a checksum on local disk did not match
  kLeaseLost = 32,      ///< ESTALE: the mount held the lease once, and somebody else took it
};

inline constexpr std::uint32_t kErrorCodeLast = 32;

/// An expected failure: what kind, and one line for a person (no newline, no secret, names quoted).
struct Error {
  ErrorCode code = ErrorCode::kIo;
  std::string message;
};

/// The only place where a code becomes an errno; used where FUSE is answered.
int to_errno(ErrorCode code) noexcept;

/// The nearest code for an errno of the operating system; kIo when there is none.
ErrorCode from_errno(int error_number) noexcept;

/// An error of a system call: `what` names the call and its object; strerror is appended.
Error system_error(int error_number, std::string_view what);

/// The code's name, such as "not-found", for logs and JSON.
std::string_view name_of(ErrorCode code) noexcept;

/// A number from the wire; kIo when unknown (a newer peer), never zero.
ErrorCode error_code_from_wire(std::uint32_t number) noexcept;

}  // namespace slipway
