#include "base/error.h"

#include <fmt/format.h>

#include <array>
#include <cerrno>
#include <system_error>

namespace slipway {

int to_errno(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::kNotFound:
      return ENOENT;
    case ErrorCode::kAccessDenied:
      return EACCES;
    case ErrorCode::kNotPermitted:
      return EPERM;
    case ErrorCode::kNotDirectory:
      return ENOTDIR;
    case ErrorCode::kIsDirectory:
      return EISDIR;
    case ErrorCode::kStale:
    case ErrorCode::kLeaseLost:
      return ESTALE;
    case ErrorCode::kIo:
      return EIO;
    case ErrorCode::kNoSpace:
      return ENOSPC;
    case ErrorCode::kQuota:
      return EDQUOT;
    case ErrorCode::kReadOnly:
      return EROFS;
    case ErrorCode::kExists:
      return EEXIST;
    case ErrorCode::kNotEmpty:
      return ENOTEMPTY;
    case ErrorCode::kNameTooLong:
      return ENAMETOOLONG;
    case ErrorCode::kInvalid:
      return EINVAL;
    case ErrorCode::kNotSupported:
      return EOPNOTSUPP;
    case ErrorCode::kBusy:
      return EBUSY;
    case ErrorCode::kLoop:
      return ELOOP;
    case ErrorCode::kTimedOut:
      return ETIMEDOUT;
    case ErrorCode::kInterrupted:
      return EINTR;
    case ErrorCode::kChanging:
      return EAGAIN;
    case ErrorCode::kBadHandle:
      return EBADF;
    case ErrorCode::kOutOfMemory:
      return ENOMEM;
    case ErrorCode::kTooManyOpen:
      return EMFILE;
    case ErrorCode::kFileTooBig:
      return EFBIG;
    case ErrorCode::kCrossDevice:
      return EXDEV;
    case ErrorCode::kDisconnected:
      return ENOTCONN;
    case ErrorCode::kCancelled:
      return ECANCELED;
    case ErrorCode::kProtocol:
    case ErrorCode::kVersionMismatch:
    case ErrorCode::kCorrupt:
      return EIO;
    case ErrorCode::kAuthentication:
      return EACCES;
  }
  return EIO;
}

ErrorCode from_errno(int error_number) noexcept {
  switch (error_number) {
    case EPROTO:
      return ErrorCode::kProtocol;
    case ENOTSUP:
    case ENOSYS:
      return ErrorCode::kNotSupported;
    case ENFILE:
      return ErrorCode::kTooManyOpen;
    case ECONNRESET:
    case EPIPE:
    case ECONNREFUSED:
      return ErrorCode::kDisconnected;
    default:
      break;
  }
  for (std::uint32_t number = 1; number <= kErrorCodeLast; ++number) {
    const auto code = static_cast<ErrorCode>(number);
    if (code != ErrorCode::kProtocol && code != ErrorCode::kVersionMismatch &&
        code != ErrorCode::kCorrupt && code != ErrorCode::kAuthentication &&
        to_errno(code) == error_number)
      return code;
  }
  return ErrorCode::kIo;
}

Error system_error(int error_number, std::string_view what) {
  return {from_errno(error_number),
          fmt::format("{}: {}", what, std::generic_category().message(error_number))};
}

std::string_view name_of(ErrorCode code) noexcept {
  static constexpr std::array<std::string_view, kErrorCodeLast + 1> kNames = {
      "ok",           "not-found",   "access-denied", "not-permitted", "not-directory",
      "is-directory", "stale",       "io",            "no-space",      "quota",
      "read-only",    "exists",      "not-empty",     "name-too-long", "invalid",
      "not-supported", "busy",       "loop",          "timed-out",     "interrupted",
      "changing",     "bad-handle",  "out-of-memory", "too-many-open", "file-too-big",
      "cross-device", "disconnected", "protocol",     "cancelled",     "version-mismatch",
      "authentication", "corrupt",   "lease-lost"};
  const auto number = static_cast<std::uint32_t>(code);
  return number <= kErrorCodeLast ? kNames[number] : "unknown";
}

ErrorCode error_code_from_wire(std::uint32_t number) noexcept {
  return number >= 1 && number <= kErrorCodeLast ? static_cast<ErrorCode>(number) : ErrorCode::kIo;
}

}  // namespace slipway
