#include "server/request_handler.h"

#include "server/confirm_answer.h"
#include "server/read_answer.h"
#include "server/readdir_answer.h"

#include <utility>

namespace slipway {

namespace {

template <class T>
Result<Bytes> encode_reply(const FrameHeader& request, const Result<T>& reply) {
  if (!reply)
    return fail(reply.error());
  Bytes frame;
  begin_frame(frame, reply_header(request, false));
  encode(frame, *reply);
  return frame;
}

Result<ReadlinkReply> to_reply(Result<std::string> target) {
  if (!target)
    return fail(std::move(target).error());
  return ReadlinkReply{std::move(*target)};
}

}  // namespace

/// An answer of one frame, or a confirm that turns into its long answer once its handle is found.
class RequestHandler::SmallAnswer final : public Answer {
 public:
  SmallAnswer(RequestHandler& handler, Request request, std::size_t frame_max)
      : handler_(handler), request_(std::move(request)), frame_max_(frame_max) {}

  Step step(WorkerTools& tools) override {
    if (confirm_ != nullptr)
      return confirm_->step(tools);
    if (auto* confirm = std::get_if<ConfirmRequest>(&request_.body)) {
      Result<std::shared_ptr<OpenImage>> image = handler_.handles_.find(confirm->handle);
      if (!image)
        return {OutgoingFrame{encode_error_reply(request_.header, image.error()), {}}, true};
      confirm_ =
          std::make_unique<ConfirmAnswer>(request_.header, std::move(*confirm), std::move(*image));
      return {};
    }
    Result<Bytes> frame = handler_.answer_at_once(request_, frame_max_);
    return {OutgoingFrame{
                frame ? std::move(*frame) : encode_error_reply(request_.header, frame.error()), {}},
            true};
  }

 private:
  RequestHandler& handler_;
  Request request_;
  const std::size_t frame_max_;
  std::unique_ptr<ConfirmAnswer> confirm_;
};

std::unique_ptr<Answer> RequestHandler::begin(Request request, std::size_t frame_max) {
  if (auto* read = std::get_if<ReadRequest>(&request.body))
    return std::make_unique<ReadAnswer>(request.header, std::move(*read), handles_, frame_max);
  if (auto* readdir = std::get_if<ReaddirRequest>(&request.body))
    return std::make_unique<ReaddirAnswer>(request.header, std::move(*readdir), store_, frame_max);
  return std::make_unique<SmallAnswer>(*this, std::move(request), frame_max);
}

Result<Bytes> RequestHandler::answer_at_once(const Request& request, std::size_t frame_max) {
  const FrameHeader& header = request.header;
  if (ChangeAnswers::takes(request))
    return changes_.answer(request);
  if (const auto* lookup = std::get_if<LookupRequest>(&request.body))
    return encode_reply(header, store_.lookup(lookup->directory, lookup->name));
  if (const auto* getattr_request = std::get_if<GetattrRequest>(&request.body))
    return encode_reply(header, getattr(*getattr_request));
  if (const auto* readlink = std::get_if<ReadlinkRequest>(&request.body))
    return encode_reply(header, to_reply(store_.readlink(readlink->node)));
  if (const auto* statfs = std::get_if<StatfsRequest>(&request.body))
    return encode_reply(header, store_.statfs(statfs->node));
  if (const auto* open_request = std::get_if<OpenRequest>(&request.body))
    return encode_reply(header, open(*open_request));
  if (const auto* close = std::get_if<CloseRequest>(&request.body)) {
    SLIPWAY_TRY(handles_.erase(close->handle));
    Bytes frame;
    begin_frame(frame, reply_header(header, false));
    return frame;
  }
  return answer_of_manifests(request, frame_max);
}

Result<Bytes> RequestHandler::answer_of_manifests(const Request& request, std::size_t frame_max) {
  const FrameHeader& header = request.header;
  if (const auto* manifest = std::get_if<ManifestRequest>(&request.body))
    return manifests_.answer(header, *manifest, frame_max);
  if (const auto* leaves = std::get_if<LeavesRequest>(&request.body))
    return manifests_.answer(header, *leaves, frame_max);
  if (const auto* profile = std::get_if<ProfileRequest>(&request.body))
    return manifests_.answer(header, *profile);
  if (const auto* put_profile = std::get_if<PutProfileRequest>(&request.body))
    return manifests_.answer(header, *put_profile);
  return fail(ErrorCode::kNotSupported, "not a request that is answered here");
}

Result<std::unique_ptr<ImageFile>> RequestHandler::open_file(const OpenRequest& request) {
  if (request.handle == 0 || (request.flags & ~(kOpenWrite | kOpenPublished)) != 0 ||
      request.flags == kOpenPublished)
    return fail(ErrorCode::kInvalid, "open with handle {} and flags {:#x}", request.handle,
                request.flags);
  if (request.flags == 0)
    return store_.open(request.node);
  if (!changes_.may_write())
    return fail(ErrorCode::kReadOnly, "this session changes nothing");
  return store_.open_for_writing(request.node, (request.flags & kOpenPublished) != 0
                                                   ? Published::kMayChange
                                                   : Published::kStays);
}

Result<Attributes> RequestHandler::open(const OpenRequest& request) {
  SLIPWAY_TRY_ASSIGN(std::unique_ptr<ImageFile> file, open_file(request));
  SLIPWAY_TRY_ASSIGN(const Attributes wanted, file->attributes());
  SLIPWAY_TRY_ASSIGN(const std::shared_ptr<OpenImage> image,
                     handles_.insert(request.handle, std::move(file)));
  SLIPWAY_TRY_ASSIGN(Attributes attributes, image->file->attributes());
  if (!same_file(attributes.version, wanted.version))
    return fail(ErrorCode::kExists, "handle {} is open on another file", request.handle);
  if ((request.flags & kOpenWrite) != 0 && !image->file->writable_fd())
    return fail(ErrorCode::kExists, "handle {} is open for reading only", request.handle);
  return attributes;
}

Result<Attributes> RequestHandler::getattr(const GetattrRequest& request) {
  if (request.handle == 0)
    return store_.getattr(request.node);
  SLIPWAY_TRY_ASSIGN(const std::shared_ptr<OpenImage> image, handles_.find(request.handle));
  return image->file->attributes();
}

}  // namespace slipway
