#pragma once

#include "base/bytes.h"
#include "base/result.h"
#include "base/unique_fd.h"

#include <cstdint>
#include <string>
#include <sys/types.h>

namespace slipway {

/// A file below `.slipway`, opened for reading and believed.
struct StateFile {
  UniqueFd fd;
  std::uint64_t size = 0;  ///< bytes
};

/// Opens a file that tells of an image: a regular file, no link, that belongs to root, the image's
/// owner or this process's user and that nobody else may write to. kNotFound: there is none;
/// kNotPermitted: not believed, or not readable; kInvalid: not a file.
Result<StateFile> open_state_file(int state, const std::string& path, uid_t image_owner);

/// Whose an image is and who may read it: what is told of it must be read by no others.
struct ImageRights {
  uid_t owner = 0;
  gid_t group = 0;
  mode_t mode = 0;

  /// Of an open file, also one opened with O_PATH. An access list makes the group's bits mean
  /// something else, so they count as none then.
  static Result<ImageRights> of(int fd);
};

/// A file written aside, beside where it shall stand; without place() nothing is left of it. One
/// thread; owns the descriptor.
class StateFileWriter {
 public:
  /// `directory` is "manifests" or "frames". kNotFound, kNotPermitted: with what to do about it.
  static Result<StateFileWriter> create(int state, const std::string& directory);

  StateFileWriter(StateFileWriter&& other) noexcept;
  StateFileWriter& operator=(StateFileWriter&&) = delete;
  ~StateFileWriter();

  int fd() const noexcept { return fd_.get(); }

  /// Makes it durable under `name`, in place of what was there, readable for those who may read the
  /// image as far as this process may arrange that, and for no others.
  Status place(const std::string& name, const ImageRights& rights);

 private:
  StateFileWriter(UniqueFd directory, UniqueFd fd, std::string name)
      : directory_(std::move(directory)), fd_(std::move(fd)), name_(std::move(name)) {}

  UniqueFd directory_;
  UniqueFd fd_;
  std::string name_;  ///< "": placed, or moved from
};

/// What names of files that were never finished start with; gc removes old ones.
inline constexpr std::string_view kUnfinishedPrefix = ".new-";

/// Gives an open file below `.slipway` to those who may read the image, as far as this process may
/// arrange that, and to no others.
Status set_rights(int fd, const ImageRights& rights);

}  // namespace slipway
