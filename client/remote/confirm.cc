// A comparison of many regions takes more than a frame inside SSH may hold: it goes out in parts.
#include "remote/remote_session_impl.h"

#include <algorithm>
#include <cassert>
#include <iterator>
#include <mutex>

namespace slipway {

namespace {

/// Regions in one request: 1,000 of 56 bytes fit a frame of connection 0 (kSshFrameMax).
constexpr std::size_t kRegionsPerPart = 1000;

/// Puts the parts' answers together. Owners: the parts' completions.
class ConfirmParts {
 public:
  ConfirmParts(std::size_t parts, Done<ConfirmReply> done)
      : parts_(parts), left_(parts), done_(std::move(done)) {}

  void take(std::size_t part, Result<ConfirmReply> reply) {
    std::unique_lock lock(mutex_);
    if (!done_)
      return;  // another part has failed
    if (reply && left_ < parts_.size() && !same_content(version_, reply->version))
      reply = fail(ErrorCode::kChanging, "the file changed while it was compared");
    if (!reply) {
      const auto done = std::exchange(done_, nullptr);
      lock.unlock();
      done(std::move(reply));
      return;
    }
    version_ = reply->version;
    parts_[part] = *std::move(reply);
    if (--left_ != 0)
      return;
    const auto done = std::exchange(done_, nullptr);
    lock.unlock();
    done(joined());
  }

 private:
  ConfirmReply joined() {
    ConfirmReply all = std::move(parts_.front());
    for (auto part = std::next(parts_.begin()); part != parts_.end(); ++part) {
      all.young |= part->young;
      all.equal.insert(all.equal.end(), part->equal.begin(), part->equal.end());
    }
    return all;
  }

  std::mutex mutex_;
  std::vector<ConfirmReply> parts_;
  std::size_t left_;
  VersionRecord version_;
  Done<ConfirmReply> done_;
};

}  // namespace

CallId RemoteSessionImpl::confirm(ConfirmRequest request, Done<ConfirmReply> done) {
  assert(request.regions.size() <= kConfirmRegionsMax);
  if (request.regions.size() <= kRegionsPerPart)
    return confirm_part(std::move(request), std::move(done));
  const std::size_t count = (request.regions.size() + kRegionsPerPart - 1) / kRegionsPerPart;
  const auto parts = std::make_shared<ConfirmParts>(count, std::move(done));
  CallId first = 0;  // stands for all: when it ends with an error, the whole ends with it
  for (std::size_t part = 0; part < count; ++part) {
    const auto begin =
        request.regions.begin() + static_cast<std::ptrdiff_t>(part * kRegionsPerPart);
    const auto end = std::min(begin + kRegionsPerPart, request.regions.end());
    const CallId id = confirm_part(
        ConfirmRequest{request.handle, {begin, end}},
        [parts, part](Result<ConfirmReply> reply) { parts->take(part, std::move(reply)); });
    if (part == 0)
      first = id;
  }
  return first;
}

}  // namespace slipway
