#pragma once

#include "base/result.h"
#include "base/unique_fd.h"
#include "server/checkpoint_journal.h"
#include "server/directory_store.h"

#include <cstddef>
#include <string>

namespace slipway {

/// The file that keeps what a client wrote to a file that is another one now, or changed meanwhile:
/// a copy of the changed file as it is, or an empty file where the old one is gone, with the
/// checkpoint's writes applied. It stands beside it, complete and durable. One thread; removes the
/// copy again unless keep() is called, so that a commit that fails leaves nothing behind.
class ConflictCopy {
 public:
  /// The file `index` of `request`. `source`: the changed file, or -1.
  static Result<ConflictCopy> make(const CommitRequest& request, std::size_t index, int source,
                                   const ClientId& client, JournalFile& journal,
                                   DirectoryStore& store);

  ConflictCopy(ConflictCopy&& other) noexcept = default;
  ConflictCopy& operator=(ConflictCopy&&) = delete;
  ~ConflictCopy();

  const std::string& name() const noexcept { return name_; }

  void keep() noexcept { is_removed_ = false; }

 private:
  explicit ConflictCopy(UniqueFd directory) : directory_(std::move(directory)) {}

  Status create(const std::string& leaf, const std::string& suffix);
  Status fill(const CommitRequest& request, std::size_t index, int source, JournalFile& journal);
  Status place(const std::string& leaf, const std::string& suffix);
  Status sync_directory() const;

  UniqueFd directory_;
  UniqueFd fd_;
  std::string name_;
  bool is_removed_ = true;
};

}  // namespace slipway
