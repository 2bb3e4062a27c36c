#include "remote/remote_session.h"

#include "remote/remote_session_impl.h"

#include <algorithm>
#include <cassert>
#include <chrono>

namespace slipway {

namespace {

/// A node or name that no server can have is refused here, so that it does not cost the connection.
Status check_node(const NodeRef& node) {
  if (node.path.size() > kPathMax)
    return fail(ErrorCode::kNameTooLong, "a path of {} bytes", node.path.size());
  if (!is_valid_path(node.path))
    return fail(ErrorCode::kInvalid, "not a path below the export");
  return {};
}

Status check_lookup(const NodeRef& directory, std::string_view name) {
  SLIPWAY_TRY(check_node(directory));
  if (name.size() > kNameMax)
    return fail(ErrorCode::kNameTooLong, "a name of {} bytes", name.size());
  if (!is_valid_name(name))
    return fail(ErrorCode::kInvalid, "not a name");
  return {};
}

/// Ascends over the mounts of a client, as long as its clock does.
OperationId first_operation() {
  return static_cast<OperationId>(std::chrono::system_clock::now().time_since_epoch() /
                                  std::chrono::nanoseconds(1));
}

}  // namespace

std::string_view name_of(LinkState state) noexcept {
  switch (state) {
    case LinkState::kConnecting:
      return "connecting";
    case LinkState::kOnline:
      return "online";
    case LinkState::kSlow:
      return "slow";
    case LinkState::kDisconnected:
      return "disconnected";
    case LinkState::kNeedsLogin:
      return "needs-login";
    case LinkState::kClosed:
      return "closed";
  }
  return "unknown";
}

Result<std::unique_ptr<RemoteSession>> RemoteSession::start(
    const RemoteOptions& options, std::unique_ptr<SessionConnector> connector, bool interactive,
    TimePoint deadline) {
  return start_remote_session(options, RemoteTuning{}, std::move(connector), interactive, deadline);
}

Result<std::unique_ptr<RemoteSession>> start_remote_session(
    const RemoteOptions& options, const RemoteTuning& tuning,
    std::unique_ptr<SessionConnector> connector, bool interactive, TimePoint deadline) {
  auto session = std::make_unique<RemoteSessionImpl>(options, tuning, std::move(connector));
  SLIPWAY_TRY(session->start(interactive, deadline));
  return session;
}

RemoteSessionImpl::RemoteSessionImpl(const RemoteOptions& options, const RemoteTuning& tuning,
                                     std::unique_ptr<SessionConnector> connector)
    : options_(options),
      next_operation_(first_operation()),
      engine_(tuning, options.transport == RemoteOptions::Transport::kTcpOnly,
              [this] { keeper_.poke(); }),
      keeper_(options, tuning, std::move(connector), engine_) {}

RemoteSessionImpl::~RemoteSessionImpl() {
  stop();
}

TimePoint RemoteSessionImpl::deadline() const {
  return options_.io_timeout == Duration::zero()
             ? TimePoint::max()
             : SteadyClock::instance().now() + options_.io_timeout;
}

CallId RemoteSessionImpl::lookup(const NodeRef& directory, const std::string& name,
                                 Done<Attributes> done) {
  if (Status good = check_lookup(directory, name); !good) {
    done(fail(std::move(good).error()));
    return engine_.new_cookie();
  }
  return ask(
      MessageType::kLookup, LookupRequest{directory, name}, {},
      std::make_unique<ValueAnswer<Attributes>>(decode_plausible_attributes, std::move(done)));
}

CallId RemoteSessionImpl::getattr(std::uint64_t handle, const NodeRef& node,
                                  Done<Attributes> done) {
  if (Status good = check_node(node); !good) {
    done(fail(std::move(good).error()));
    return engine_.new_cookie();
  }
  std::vector<std::uint64_t> handles;
  if (handle != 0)
    handles.push_back(handle);
  return ask(
      MessageType::kGetattr, GetattrRequest{handle, node}, std::move(handles),
      std::make_unique<ValueAnswer<Attributes>>(decode_plausible_attributes, std::move(done)));
}

CallId RemoteSessionImpl::readdir(const NodeRef& directory, std::uint64_t cursor,
                                  Done<ReaddirReply> done) {
  if (Status good = check_node(directory); !good) {
    done(fail(std::move(good).error()));
    return engine_.new_cookie();
  }
  return ask(MessageType::kReaddir, ReaddirRequest{directory, cursor, kReaddirEntriesMax}, {},
             std::make_unique<ReaddirAnswer>(std::move(done)));
}

CallId RemoteSessionImpl::readlink(const NodeRef& node, Done<ReadlinkReply> done) {
  if (Status good = check_node(node); !good) {
    done(fail(std::move(good).error()));
    return engine_.new_cookie();
  }
  return ask(MessageType::kReadlink, ReadlinkRequest{node}, {},
             std::make_unique<ValueAnswer<ReadlinkReply>>(decode_safe_readlink, std::move(done)));
}

CallId RemoteSessionImpl::statfs(const NodeRef& node, Done<StatfsReply> done) {
  if (Status good = check_node(node); !good) {
    done(fail(std::move(good).error()));
    return engine_.new_cookie();
  }
  return ask(MessageType::kStatfs, StatfsRequest{node}, {},
             std::make_unique<ValueAnswer<StatfsReply>>(decode_statfs_reply, std::move(done)));
}

CallId RemoteSessionImpl::open(const NodeRef& node, Done<OpenedHandle> done) {
  return open(node, /*writable=*/false, std::move(done));
}

CallId RemoteSessionImpl::open(const NodeRef& node, bool writable, Done<OpenedHandle> done) {
  if (Status good = check_node(node); !good) {
    done(fail(std::move(good).error()));
    return engine_.new_cookie();
  }
  const std::uint64_t handle = engine_.new_handle();
  auto answer = std::make_unique<OpenAnswer>(handle, node, writable, std::move(done));
  OpenAnswer* open = answer.get();
  return ask(MessageType::kOpen, OpenRequest{handle, node, open_flags(writable, options_)}, {},
             std::move(answer), open);
}

void RemoteSessionImpl::close(std::uint64_t handle) {
  engine_.close_handle(handle);
}

CallId RemoteSessionImpl::read(RemoteReadRequest request, std::shared_ptr<RemoteReadSink> sink) {
  ReadRequest message{options_.accept_zstd, std::move(request.extents),
                      request.want_leaves && has_manifests()};
  const std::vector<ReadExtent>& extents = message.extents;
  assert(!extents.empty() && extents.size() <= kReadExtentsMax);
  auto call = std::make_shared<Call>();
  const CallId id = engine_.new_cookie();
  call->cookie = id;
  call->type = MessageType::kRead;
  call->priority = request.priority;
  call->deadline = options_.soft ? deadline() : TimePoint::max();
  for (const ReadExtent& extent : extents) {
    assert(extent.length != 0 && is_valid(ByteRange{extent.offset, extent.length}));
    call->bytes += extent.length;
    if (std::find(call->handles.begin(), call->handles.end(), extent.handle) == call->handles.end())
      call->handles.push_back(extent.handle);
  }
  assert(call->bytes <= kReadBytesMax);
  call->answer = std::make_unique<ReadAnswer>(message, std::move(sink));
  call->frame = make_request(MessageType::kRead, id, request.priority, message);
  engine_.submit(std::move(call));
  return id;
}

void RemoteSessionImpl::cancel(CallId call) {
  engine_.cancel(call);
}

RemoteStatus RemoteSessionImpl::status() const {
  RemoteStatus status;
  engine_.fill(status);
  keeper_.fill(status);
  return status;
}

void RemoteSessionImpl::stop() {
  keeper_.stop();
}

CallId RemoteSessionImpl::confirm_part(ConfirmRequest request, Done<ConfirmReply> done) {
  const auto decode = [regions = request.regions.size()](ByteView body) -> Result<ConfirmReply> {
    SLIPWAY_TRY_ASSIGN(ConfirmReply reply, decode_confirm_reply(body));
    if (reply.equal.size() != regions)
      return fail(ErrorCode::kProtocol, "a comparison of {} regions answers for {}", regions,
                  reply.equal.size());
    return reply;
  };
  return ask(MessageType::kConfirm, request, {request.handle},
             std::make_unique<ValueAnswer<ConfirmReply>>(decode, std::move(done)));
}

}  // namespace slipway
