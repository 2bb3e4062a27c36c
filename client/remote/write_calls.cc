// Calls of the feature "writes".
#include "remote/remote_session_impl.h"

#include <utility>

namespace slipway {

namespace {

/// The server's own, and as long again for a link that was away meanwhile.
constexpr Duration kAwaitDeadline = 2 * kLeaseAwaitMax;

Result<Nothing> decode_nothing(ByteView body) {
  if (!body.empty())
    return fail(ErrorCode::kProtocol, "an answer that should be empty is not");
  return Nothing{};
}

Status check_attributes(const Attributes& attributes) {
  if (!is_plausible(attributes))
    return fail(ErrorCode::kProtocol, "impossible attributes");
  return {};
}

Result<MakeReply> decode_made(ByteView body) {
  SLIPWAY_TRY_ASSIGN(MakeReply reply, decode_make_reply(body));
  SLIPWAY_TRY(check_attributes(reply.attributes));
  return reply;
}

Result<ChangeReply> decode_changed(ByteView body) {
  SLIPWAY_TRY_ASSIGN(ChangeReply reply, decode_change_reply(body));
  SLIPWAY_TRY(check_attributes(reply.after));
  return reply;
}

/// What an answer must show of a file that was committed.
struct CommittedFile {
  VersionRecord base;
  std::uint64_t size = 0;
  bool is_directory = false;  ///< one that was to be made
};

std::vector<CommittedFile> expected_of(const CommitRequest& request) {
  std::vector<CommittedFile> expected;
  expected.reserve(request.files.size());
  for (const CommitFile& file : request.files)
    expected.push_back({file.base, file.size,
                        file.make && file.make->kind == MakeKind::kDirectory});
  return expected;
}

// The file's records go over to these attributes, so they must be of this very file, as committed.
// That holds for a checkpoint that was applied before too: it is answered as it was then.
Result<CommitReply> decode_committed(ByteView body, const std::vector<CommittedFile>& expected) {
  SLIPWAY_TRY_ASSIGN(CommitReply reply, decode_commit_reply(body));
  if (reply.files.size() != expected.size())
    return fail(ErrorCode::kProtocol, "a commit of {} files answers for {}", expected.size(),
                reply.files.size());
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const CommitResult& file = reply.files[i];
    if (file.status == 0) {
      SLIPWAY_TRY(check_attributes(file.attributes));
      // A directory that was there already may stand for the one that was to be made.
      const bool is_expected =
          expected[i].is_directory
              ? file.attributes.type == FileType::kDirectory
              : file.attributes.type == FileType::kRegular &&
                    same_file(file.attributes.version, expected[i].base) &&
                    file.attributes.version.size == expected[i].size;
      if (!is_expected)
        return fail(ErrorCode::kProtocol, "a commit answers with what its file can't be");
    }
    if (!file.conflict_name.empty() && !is_valid_name(file.conflict_name))
      return fail(ErrorCode::kProtocol, "a commit answers with an impossible name");
  }
  return reply;
}

// What a reply to this action must say, so that we may go by it.
Result<LeaseReply> decode_lease(ByteView body, LeaseAction action) {
  SLIPWAY_TRY_ASSIGN(LeaseReply reply, decode_lease_reply(body));
  if (action == LeaseAction::kList || action == LeaseAction::kAwait)
    return reply;
  const bool is_grant = reply.outcome == LeaseOutcome::kDone &&
                        (action == LeaseAction::kAcquire || action == LeaseAction::kRenew);
  if (reply.leases.size() != 1 || (is_grant && !reply.leases[0].mine) ||
      (reply.outcome == LeaseOutcome::kHeld && !reply.leases[0].held))
    return fail(ErrorCode::kProtocol, "an answer about a lease does not say what it must");
  return reply;
}

template <class Reply>
std::unique_ptr<Answer> answer_of(typename ValueAnswer<Reply>::Decode decode, Done<Reply> done) {
  return std::make_unique<ValueAnswer<Reply>>(std::move(decode), std::move(done));
}

}  // namespace

bool RemoteSessionImpl::can_write() const {
  return (server().features & kFeatureWrites) != 0 && !server().read_only;
}

template <class Message>
CallId RemoteSessionImpl::change(MessageType type, const Message& message, bool numbered,
                                 std::vector<std::uint64_t> handles,
                                 std::unique_ptr<Answer> answer, OpenAnswer* open) {
  auto call = std::make_shared<Call>();
  const CallId id = engine_.new_cookie();
  const CallEngine::Number number = numbered ? engine_.new_number() : CallEngine::Number{};
  call->cookie = id;
  call->type = type;
  call->number = number.number;
  call->frame = make_request(type, id, Priority::kDemand, message, number);
  call->deadline = options_.soft ? deadline() : TimePoint::max();
  call->handles = std::move(handles);
  call->answer = std::move(answer);
  call->open = open;
  engine_.submit(std::move(call));
  return id;
}

CallId RemoteSessionImpl::open_for_writing(const NodeRef& node, Done<OpenedHandle> done) {
  if (!can_write())
    return refuse_write(done);
  return open(node, /*writable=*/true, std::move(done));
}

CallId RemoteSessionImpl::make_file(MakeRequest request, Done<OpenedHandle> done) {
  if (!can_write())
    return refuse_write(done);
  request.operation = next_operation_++;
  request.kind = MakeKind::kFile;
  request.even_published = options_.write_published;
  request.handle = engine_.new_handle();
  NodeRef made;
  made.path = request.directory.path.empty() ? request.name
                                             : request.directory.path + "/" + request.name;
  const auto decode = [handle = request.handle](ByteView body) -> Result<OpenedHandle> {
    SLIPWAY_TRY_ASSIGN(const MakeReply reply, decode_made(body));
    return OpenedHandle{handle, reply.attributes, reply.made};
  };
  auto answer =
      std::make_unique<OpenAnswer>(request.handle, std::move(made), decode, std::move(done));
  OpenAnswer* const opened = answer.get();
  return change(MessageType::kMake, request, true, {}, std::move(answer), opened);
}

CallId RemoteSessionImpl::make(MakeRequest request, Done<MakeReply> done) {
  if (!can_write())
    return refuse_write(done);
  request.operation = next_operation_++;
  return change(MessageType::kMake, request, true, {},
                answer_of<MakeReply>(decode_made, std::move(done)));
}

CallId RemoteSessionImpl::link(LinkRequest request, Done<Attributes> done) {
  if (!can_write())
    return refuse_write(done);
  request.operation = next_operation_++;
  return change(MessageType::kLink, request, true, {},
                answer_of<Attributes>(decode_plausible_attributes, std::move(done)));
}

CallId RemoteSessionImpl::remove(RemoveRequest request, Done<Nothing> done) {
  if (!can_write())
    return refuse_write(done);
  request.operation = next_operation_++;
  return change(MessageType::kRemove, request, true, {},
                answer_of<Nothing>(decode_nothing, std::move(done)));
}

CallId RemoteSessionImpl::rename(RenameRequest request, Done<Attributes> done) {
  if (!can_write())
    return refuse_write(done);
  request.operation = next_operation_++;
  return change(MessageType::kRename, request, true, {},
                answer_of<Attributes>(decode_plausible_attributes, std::move(done)));
}

CallId RemoteSessionImpl::setattr(SetattrRequest request, Done<ChangeReply> done) {
  if (!can_write())
    return refuse_write(done);
  request.operation = next_operation_++;
  if (options_.write_published)
    request.mask |= kSetPublished;
  std::vector<std::uint64_t> handles;
  if (request.handle != 0)
    handles.push_back(request.handle);
  return change(MessageType::kSetattr, request, true, std::move(handles),
                answer_of<ChangeReply>(decode_changed, std::move(done)));
}

CallId RemoteSessionImpl::copy(CopyRequest request, Done<ChangeReply> done) {
  if (!can_write())
    return refuse_write(done);
  request.operation = next_operation_++;
  return change(MessageType::kCopy, request, true, {request.from, request.to},
                answer_of<ChangeReply>(decode_changed, std::move(done)));
}

CallId RemoteSessionImpl::sync(SyncRequest request, Done<Nothing> done) {
  if (!can_write())
    return refuse_write(done);
  return change(MessageType::kSync, request, false, {},
                answer_of<Nothing>(decode_nothing, std::move(done)));
}

/// Behind demand, on the connections that prefetch uses.
CallId RemoteSessionImpl::stage(const StageRequest& request, Done<Nothing> done) {
  if (!can_write())
    return refuse_write(done);
  auto call = std::make_shared<Call>();
  const CallId id = engine_.new_cookie();
  call->cookie = id;
  call->type = MessageType::kStage;
  call->priority = Priority::kPrefetch;
  call->bytes = request.data.size();
  call->answer = answer_of<Nothing>(decode_nothing, std::move(done));
  call->frame = make_request(MessageType::kStage, id, Priority::kPrefetch, request);
  engine_.submit(std::move(call));
  return id;
}

CallId RemoteSessionImpl::commit(const CommitRequest& given, Done<CommitReply> done) {
  if (!can_write())
    return refuse_write(done);
  CommitRequest request = given;
  request.even_published = options_.write_published;
  const auto decode = [expected = expected_of(request)](ByteView body) {
    return decode_committed(body, expected);
  };
  return change(MessageType::kCommit, request, false, {},
                answer_of<CommitReply>(decode, std::move(done)));
}

bool RemoteSessionImpl::can_prepare() const {
  return has_leases() && (server().features & kFeaturePrepare) != 0;
}

CallId RemoteSessionImpl::prepare(const PrepareRequest& request, Done<PrepareReply> done) {
  if (!can_prepare())
    return refuse(done);
  const auto decode = [files = request.files,
                       directories = request.directories](ByteView body) -> Result<PrepareReply> {
    SLIPWAY_TRY_ASSIGN(PrepareReply reply, decode_prepare_reply(body));
    if (reply.files.size() > files || reply.directories.size() > directories)
      return fail(ErrorCode::kProtocol, "more inodes were prepared than were asked for");
    for (const auto* all : {&reply.files, &reply.directories})
      for (const Attributes& attributes : *all)
        SLIPWAY_TRY(check_attributes(attributes));
    return reply;
  };
  return ask(MessageType::kPrepare, request, {},
             answer_of<PrepareReply>(decode, std::move(done)));
}

CallId RemoteSessionImpl::open_reserved(std::uint64_t handle, const NodeRef& node,
                                        Done<OpenedHandle> done) {
  if (!can_write())
    return refuse_write(done);
  auto answer = std::make_unique<OpenAnswer>(handle, node, /*writable=*/true, std::move(done));
  OpenAnswer* const open = answer.get();
  return change(MessageType::kOpen, OpenRequest{handle, node, open_flags(true, options_)}, false, {},
                std::move(answer), open);
}

bool RemoteSessionImpl::has_leases() const {
  return can_write() && (server().features & kFeatureLeases) != 0;
}

bool RemoteSessionImpl::can_await_leases() const {
  return has_leases() && (server().features & kFeatureLeaseAwait) != 0;
}

CallId RemoteSessionImpl::lease(const LeaseRequest& request, Done<LeaseReply> done) {
  const bool is_await = request.action == LeaseAction::kAwait;
  if (is_await ? !can_await_leases() : !has_leases())
    return refuse(done);
  const auto decode = [action = request.action](ByteView body) {
    return decode_lease(body, action);
  };
  if (!is_await)
    return ask(MessageType::kLease, request, {}, answer_of<LeaseReply>(decode, std::move(done)));
  auto call = std::make_shared<Call>();
  const CallId id = engine_.new_cookie();
  call->cookie = id;
  call->type = MessageType::kLease;
  call->lasting = true;
  call->deadline = SteadyClock::instance().now() + kAwaitDeadline;
  call->answer = answer_of<LeaseReply>(decode, std::move(done));
  call->frame = make_request(MessageType::kLease, id, Priority::kDemand, request);
  engine_.submit(std::move(call));
  return id;
}

void RemoteSessionImpl::expect_changes(std::uint64_t handle) {
  engine_.expect_changes(handle);
}

void RemoteSessionImpl::moved(const std::string& from, const std::string& to) {
  engine_.moved(from, to);
}

}  // namespace slipway
