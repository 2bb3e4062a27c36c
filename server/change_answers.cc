#include "server/change_answers.h"

#include "base/fault_point.h"
#include "base/log.h"
#include "server/answer.h"
#include "server/change_intent.h"

#include <cassert>
#include <climits>
#include <memory>
#include <unistd.h>
#include <utility>
#include <vector>

namespace slipway {

namespace {

tl::unexpected<Error> refused() {
  return fail(ErrorCode::kReadOnly, "this session changes nothing");
}

template <class T>
Bytes body_of(const T& reply) {
  Bytes body;
  encode(body, reply);
  return body;
}

template <class T>
Result<Bytes> body_of(Result<T> reply) {
  if (!reply)
    return fail(std::move(reply).error());
  return body_of(*reply);
}

Result<Bytes> empty_body_of(Status done) {
  if (!done)
    return fail(std::move(done).error());
  return Bytes();
}

Result<Bytes> frame_of(const FrameHeader& request, Result<Bytes> body) {
  if (!body)
    return body;
  Bytes frame;
  begin_frame(frame, reply_header(request, false));
  append(frame, *body);
  return frame;
}

// The system did nothing for a reason that may be gone later; the same operation may then be sent
// again. Everything else is an answer for ever.
bool passes(ErrorCode code) noexcept {
  return code == ErrorCode::kNoSpace || code == ErrorCode::kQuota || code == ErrorCode::kIo ||
         code == ErrorCode::kReadOnly || code == ErrorCode::kBusy ||
         code == ErrorCode::kInterrupted || code == ErrorCode::kOutOfMemory ||
         code == ErrorCode::kTooManyOpen || code == ErrorCode::kBadHandle ||
         code == ErrorCode::kTimedOut || code == ErrorCode::kLeaseLost;
}

std::vector<std::string> paths_of(const MakeRequest& m, HandleTable&, const std::string&) {
  return {path_below(m.directory.path, m.name)};
}

// The file's other names may lie elsewhere, but its content does not change.
std::vector<std::string> paths_of(const LinkRequest& m, HandleTable&, const std::string&) {
  return {m.file.path, path_below(m.directory.path, m.name)};
}

std::vector<std::string> paths_of(const RemoveRequest& m, HandleTable&, const std::string&) {
  return {path_below(m.directory.path, m.name)};
}

std::vector<std::string> paths_of(const RenameRequest& m, HandleTable&, const std::string&) {
  return {path_below(m.from.path, m.from_name), path_below(m.to.path, m.to_name)};
}

// Where an open file is now, as the system says; nothing when it has no name any more.
std::vector<std::string> paths_of_handle(std::uint64_t handle, HandleTable& handles,
                                         const std::string& root) {
  const Result<std::shared_ptr<OpenImage>> image = handles.find(handle);
  const Result<int> fd = image ? (*image)->file->descriptor() : fail(image.error());
  if (!fd)
    return {};
  std::string path(PATH_MAX, '\0');
  const ssize_t length =
      ::readlink(fmt::format("/proc/self/fd/{}", *fd).c_str(), path.data(), path.size());
  path.resize(length > 0 ? static_cast<std::size_t>(length) : 0);
  const std::string top = root == "/" ? root : root + "/";
  if (!path.starts_with(top) || path.ends_with(" (deleted)"))
    return {};
  return {path.substr(top.size())};
}

std::vector<std::string> paths_of(const SetattrRequest& m, HandleTable& handles,
                                  const std::string& root) {
  if (m.handle != 0)
    return paths_of_handle(m.handle, handles, root);
  return {m.node.path};
}

std::vector<std::string> paths_of(const CopyRequest& m, HandleTable& handles,
                                  const std::string& root) {
  return paths_of_handle(m.to, handles, root);
}

}  // namespace

bool ChangeAnswers::takes(const Request& request) noexcept {
  return request.header.type >= MessageType::kMake && request.header.type <= MessageType::kPrepare;
}

Result<Bytes> ChangeAnswers::answer(const Request& request) {
  if (!side_.allowed)
    return refused();
  const FrameHeader& header = request.header;
  if (const auto* make = std::get_if<MakeRequest>(&request.body))
    return frame_of(header, change(*make, header.type));
  if (const auto* link = std::get_if<LinkRequest>(&request.body))
    return frame_of(header, change(*link, header.type));
  if (const auto* remove = std::get_if<RemoveRequest>(&request.body))
    return frame_of(header, change(*remove, header.type));
  if (const auto* rename = std::get_if<RenameRequest>(&request.body))
    return frame_of(header, change(*rename, header.type));
  if (const auto* setattr = std::get_if<SetattrRequest>(&request.body))
    return frame_of(header, change(*setattr, header.type));
  if (const auto* copy = std::get_if<CopyRequest>(&request.body))
    return frame_of(header, change(*copy, header.type));
  if (const auto* sync = std::get_if<SyncRequest>(&request.body))
    return frame_of(header, empty_body_of(store_.sync(*sync)));
  if (const auto* lease = std::get_if<LeaseRequest>(&request.body)) {
    if (side_.leases == nullptr)
      return fail(ErrorCode::kNotSupported, "this session has no leases");
    return frame_of(header, body_of(side_.leases->answer(*lease)));
  }
  if (side_.checkpoints == nullptr)
    return refused();
  if (const auto* prepare = std::get_if<PrepareRequest>(&request.body)) {
    if (side_.leases == nullptr)
      return fail(ErrorCode::kNotSupported, "this session has no leases");
    return frame_of(header, body_of(side_.checkpoints->prepare(*prepare)));
  }
  if (const auto* stage = std::get_if<StageRequest>(&request.body))
    return frame_of(header, empty_body_of(side_.checkpoints->stage(*stage)));
  const auto* const commit = std::get_if<CommitRequest>(&request.body);
  assert(commit != nullptr);
  return frame_of(header, body_of(side_.checkpoints->commit(*commit, handles_, side_.leases)));
}

template <class T>
Result<Bytes> ChangeAnswers::change(const T& request, MessageType type) {
  if (side_.operations == nullptr) {
    SLIPWAY_TRY_ASSIGN(const LeaseStore::Passage passage, enter(request));
    return run(request);
  }
  SLIPWAY_TRY_ASSIGN(OperationLog::Turn turn, side_.operations->begin(request.operation, type));
  if (turn.result())
    return repeat(request, *turn.result());
  SLIPWAY_TRY_ASSIGN(const LeaseStore::Passage passage, enter(request));
  if (turn.intent()) {
    if (std::optional<Bytes> body = done_since(*turn.intent(), store_, request)) {
      const OperationResult result{0, std::move(*body)};
      turn.finish(result);
      return repeat(request, result);
    }
  } else {
    SLIPWAY_TRY(turn.intend(intent_of(store_, request)));
  }
  fault_point("change-after-intent");
  Result<Bytes> body = run(request);
  fault_point("change-before-result");
  if (body) {
    turn.finish({0, *body});
  } else if (passes(body.error().code)) {
    turn.withdraw();
  } else {
    OperationResult result{static_cast<std::uint32_t>(body.error().code), {}};
    append(result.body, as_bytes(body.error().message));
    turn.finish(result);
  }
  return body;
}

template <class T>
Result<LeaseStore::Passage> ChangeAnswers::enter(const T& request) {
  if (side_.leases == nullptr)
    return LeaseStore::Passage();
  return side_.leases->enter(paths_of(request, handles_, side_.leases->export_path()),
                             LeaseStore::Purpose::kChange);
}

template <class T>
Result<Bytes> ChangeAnswers::repeat(const T&, const OperationResult& result) {
  if (result.status != 0)
    return fail(error_code_from_wire(result.status), "{}", as_text(result.body));
  return result.body;
}

// What was made is open under its handle again, as the client expects of the answer.
Result<Bytes> ChangeAnswers::repeat(const MakeRequest& request, const OperationResult& result) {
  SLIPWAY_TRY_ASSIGN(Bytes body, repeat<MakeRequest>(request, result));
  if (request.handle == 0)
    return body;
  SLIPWAY_TRY_ASSIGN(const MakeReply reply, decode_make_reply(body));
  const std::string path = path_below(request.directory.path, request.name);
  Result<std::unique_ptr<ImageFile>> file =
      store_.open_for_writing({path, reply.attributes.version.id},
                              request.even_published ? Published::kMayChange : Published::kStays);
  if (!file && file.error().code == ErrorCode::kNotFound)
    return fail(ErrorCode::kStale, "'{}' was made and is gone again", escape(path));
  if (!file)
    return fail(std::move(file).error());
  SLIPWAY_TRY_ASSIGN(const std::shared_ptr<OpenImage> image,
                     handles_.insert(request.handle, std::move(*file)));
  SLIPWAY_TRY_ASSIGN(const Attributes attributes, image->file->attributes());
  if (!same_file(attributes.version, reply.attributes.version))
    return fail(ErrorCode::kExists, "handle {} is open on another file", request.handle);
  return body;
}

Result<Bytes> ChangeAnswers::run(const MakeRequest& request) {
  if (request.handle != 0 && handles_.find(request.handle))
    return fail(ErrorCode::kExists, "handle {} is open already", request.handle);
  SLIPWAY_TRY_ASSIGN(ImageStore::Made made, store_.make(request));
  if (request.handle != 0)
    SLIPWAY_TRY(handles_.insert(request.handle, std::move(made.file)));
  return body_of(made.reply);
}

Result<Bytes> ChangeAnswers::run(const LinkRequest& request) {
  return body_of(store_.link(request));
}

Result<Bytes> ChangeAnswers::run(const RemoveRequest& request) {
  return empty_body_of(store_.remove(request));
}

Result<Bytes> ChangeAnswers::run(const RenameRequest& request) {
  return body_of(store_.rename(request));
}

Result<Bytes> ChangeAnswers::run(const SetattrRequest& request) {
  if (request.handle == 0)
    return body_of(store_.setattr(request, nullptr));
  SLIPWAY_TRY_ASSIGN(const std::shared_ptr<OpenImage> image, handles_.find(request.handle));
  return body_of(store_.setattr(request, image->file.get()));
}

Result<Bytes> ChangeAnswers::run(const CopyRequest& request) {
  SLIPWAY_TRY_ASSIGN(const std::shared_ptr<OpenImage> from, handles_.find(request.from));
  SLIPWAY_TRY_ASSIGN(const std::shared_ptr<OpenImage> to, handles_.find(request.to));
  return body_of(store_.copy(request, *from->file, *to->file));
}

}  // namespace slipway
