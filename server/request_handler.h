#pragma once

#include "server/answer.h"
#include "server/change_answers.h"
#include "server/handle_table.h"
#include "server/image_store.h"
#include "server/manifest_answer.h"
#include "server/request.h"

#include <memory>
#include <utility>

namespace slipway {

/// Requests to answers, over an ImageStore. Knows no connection: it is given the limit of the
/// frames that the answer goes out in. Any thread may call it; the answers refer to it and to the
/// store. A request without a number may come again (after a connection died) and is then simply
/// done again; those with one are the session's to run once (NumberedReplies).
class RequestHandler {
 public:
  RequestHandler(ImageStore& store, std::size_t handles_max, ProfileDrop profiles = {},
                 const WriteSide& write_side = {})
      : store_(store),
        handles_(handles_max),
        manifests_(store, handles_, std::move(profiles)),
        changes_(store, handles_, write_side) {}

  /// REQUIRES: not a ping, cancel or goodbye, which are the session's.
  std::unique_ptr<Answer> begin(Request request, std::size_t frame_max);

 private:
  class SmallAnswer;

  Result<Bytes> answer_at_once(const Request& request, std::size_t frame_max);
  Result<Bytes> answer_of_manifests(const Request& request, std::size_t frame_max);
  Result<std::unique_ptr<ImageFile>> open_file(const OpenRequest& request);
  Result<Attributes> open(const OpenRequest& request);
  Result<Attributes> getattr(const GetattrRequest& request);

  ImageStore& store_;
  HandleTable handles_;
  ManifestAnswers manifests_;
  ChangeAnswers changes_;
};

}  // namespace slipway
