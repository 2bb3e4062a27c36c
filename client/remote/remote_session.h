#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "session/session_connector.h"
#include "wire/lease_messages.h"
#include "wire/manifest_messages.h"
#include "wire/messages.h"
#include "wire/read_messages.h"
#include "wire/setup.h"
#include "wire/write_messages.h"

namespace slipway {

using CallId = std::uint64_t;  ///< names a call for cancel(); never 0

/// Completion of a call: exactly once, on a receiving thread or, when the call fails at once, inside
/// the call itself. Must not block and must not hold a lock that its caller holds around the call.
template <class T>
using Done = std::function<void(Result<T>)>;

enum class Priority { kDemand, kPrefetch };

/// Gets the answer to a read as it arrives, one call at a time. When a connection dies in between,
/// the read is asked again and segments come again: a sink takes repeated segments.
class RemoteReadSink {
 public:
  virtual ~RemoteReadSink() = default;

  /// `reply` has been checked against the request (bounds, order, coverage, plausible versions);
  /// its `data` is a view into `frame`, which the sink may keep. Two owners: sink and receiver.
  /// An error ends the read with it; kProtocol (content that is not what its segment says) costs
  /// the server its connection, too.
  virtual Status on_frame(std::shared_ptr<const Bytes> frame, const ReadReply& reply) = 0;

  /// Exactly once, last. No segment comes after it.
  virtual void on_done(Status status) = 0;
};

enum class LinkState { kConnecting, kOnline, kSlow, kDisconnected, kNeedsLogin, kClosed };

std::string_view name_of(LinkState state) noexcept;  ///< "connecting", "online", ...

/// One consistent picture for `slipway status`.
struct RemoteStatus {
  struct Connection {
    unsigned number = 0;  ///< 0: inside SSH
    std::string peer;
    std::string cipher;  ///< "" for connection 0
    std::uint64_t bytes_sent = 0;
    std::uint64_t bytes_received = 0;
  };

  LinkState state = LinkState::kConnecting;
  std::string why;        ///< one line: what the state comes from ("port 60123 not reachable ...")
  std::string transport;  ///< "tcp x4 (aes256-gcm)", "ssh only"
  std::string session_transport;  ///< EstablishedSession::transport_name
  bool survives_ssh = false;      ///< TCP connections are up, so the loss of SSH would be survived
  double rtt_ms = 0;              ///< smallest measured lately; 0 when unknown
  std::uint64_t goodput = 0;      ///< bytes per second, highest lately; 0 when unknown
  std::uint64_t bytes_sent = 0;   ///< since the mount, all sessions and connections
  std::uint64_t bytes_received = 0;
  std::uint64_t requests = 0;     ///< since the mount
  std::uint64_t requests_in_flight = 0;
  std::uint64_t sessions = 0;  ///< set up since the mount
  std::uint64_t redials = 0;   ///< TCP connections that came up after an earlier one died
  std::vector<Connection> connections;
};

struct RemoteOptions {
  MountIdentity identity;
  /// Bounds names and control calls, not data. Zero: no bound.
  Duration io_timeout = std::chrono::seconds(30);
  bool soft = false;  ///< data calls are bounded by io_timeout too
  bool accept_zstd = true;  ///< sent in every ReadRequest (option compress=)
  bool write_published = false;  ///< all changes are of published images too
  enum class Transport { kAuto, kSshOnly, kTcpOnly } transport = Transport::kAuto;
};

/// An open handle. `attributes` are those of the open.
struct OpenedHandle {
  std::uint64_t handle = 0;
  Attributes attributes;
  bool made = false;  ///< of make_file: it was not there before
  bool reserved = false;  ///< only its number is taken: nothing is open on the server yet
};

/// What to read, and how much it hurries.
struct RemoteReadRequest {
  std::vector<ReadExtent> extents;
  Priority priority = Priority::kDemand;
  bool want_leaves = false;
};

struct PutProfileDone {};

/// The success of a call whose answer says nothing else.
struct Nothing {};

/// One mount's channel to one export: requests with cookies over connection 0 and the TCP
/// connections, answered in any order; redials connections, asks idempotent requests again, and
/// makes a new session when the server's process is gone (handles are then opened again by path and
/// accepted only as the same file with the same content, else their reads are kStale). A transport
/// error is never an answer: calls wait, up to io_timeout or for ever, until the link is back.
/// Any thread may call anything. Owns its threads (docs/architecture.md).
class RemoteSession {
 public:
  /// Blocks until the first session is up; `interactive` as in SessionConnector.
  static Result<std::unique_ptr<RemoteSession>> start(const RemoteOptions& options,
                                                      std::unique_ptr<SessionConnector> connector,
                                                      bool interactive, TimePoint deadline);

  virtual ~RemoteSession() = default;

  /// Of the first session; a later session that differs in anchor, export id or uid is refused.
  virtual const ServerSetup& server() const noexcept = 0;
  virtual const std::string& anchor() const noexcept = 0;

  virtual CallId lookup(const NodeRef& directory, const std::string& name,
                        Done<Attributes> done) = 0;
  virtual CallId getattr(std::uint64_t handle, const NodeRef& node, Done<Attributes> done) = 0;
  /// All frames of one answer together.
  virtual CallId readdir(const NodeRef& directory, std::uint64_t cursor,
                         Done<ReaddirReply> done) = 0;
  virtual CallId readlink(const NodeRef& node, Done<ReadlinkReply> done) = 0;
  virtual CallId statfs(const NodeRef& node, Done<StatfsReply> done) = 0;
  /// Chooses the handle's number.
  virtual CallId open(const NodeRef& node, Done<OpenedHandle> done) = 0;
  /// Needs no answer.
  virtual void close(std::uint64_t handle) = 0;
  virtual CallId confirm(ConfirmRequest request, Done<ConfirmReply> done) = 0;
  /// REQUIRES: the limits of ReadRequest. Leaves are asked for only from a server that has them.
  virtual CallId read(RemoteReadRequest request, std::shared_ptr<RemoteReadSink> sink) = 0;

  CallId read(std::vector<ReadExtent> extents, Priority priority,
              std::shared_ptr<RemoteReadSink> sink) {
    return read(RemoteReadRequest{std::move(extents), priority, false}, std::move(sink));
  }

  // Of kFeatureManifests: kNotSupported at once when the server does not have it, as here.

  virtual CallId manifest(ManifestRequest, Done<ManifestReply> done) { return refuse(done); }

  virtual CallId leaves(LeavesRequest, Done<LeavesReply> done) { return refuse(done); }

  virtual CallId profile(ProfileRequest, Done<ProfileReply> done) { return refuse(done); }

  virtual CallId put_profile(PutProfileRequest, Done<PutProfileDone> done) { return refuse(done); }

  // Of kFeatureWrites: kReadOnly at once where the session may change nothing. Changes wait for the
  // link without bound (what was sent may happen) unless the mount is soft; each is run once,
  // whatever is repeated; a cancelled one may have happened. `operation` is filled in here.

  virtual bool can_write() const { return false; }

  /// kReadOnly for a published image, unless RemoteOptions::write_published.
  virtual CallId open_for_writing(const NodeRef&, Done<OpenedHandle> done) {
    return refuse_write(done);
  }

  /// Makes a regular file and opens it for writing.
  virtual CallId make_file(MakeRequest, Done<OpenedHandle> done) { return refuse_write(done); }

  /// A directory or a symbolic link.
  virtual CallId make(MakeRequest, Done<MakeReply> done) { return refuse_write(done); }

  virtual CallId link(LinkRequest, Done<Attributes> done) { return refuse_write(done); }

  virtual CallId remove(RemoveRequest, Done<Nothing> done) { return refuse_write(done); }

  virtual CallId rename(RenameRequest, Done<Attributes> done) { return refuse_write(done); }

  virtual CallId setattr(SetattrRequest, Done<ChangeReply> done) { return refuse_write(done); }

  virtual CallId copy(CopyRequest, Done<ChangeReply> done) { return refuse_write(done); }

  virtual CallId sync(SyncRequest, Done<Nothing> done) { return refuse_write(done); }

  /// REQUIRES: a frame of at most kSshFrameMax bytes, so that any connection carries it.
  virtual CallId stage(const StageRequest&, Done<Nothing> done) { return refuse_write(done); }

  virtual CallId commit(const CommitRequest&, Done<CommitReply> done) { return refuse_write(done); }

  // Of kFeaturePrepare: kNotSupported at once where the session has none of it.

  virtual bool can_prepare() const { return false; }

  /// Bounded by io_timeout; may be repeated.
  virtual CallId prepare(const PrepareRequest&, Done<PrepareReply> done) { return refuse(done); }

  /// A number for a file that will be opened once the server has it: calls that name it are kBadHandle
  /// until then.
  virtual std::uint64_t reserve_handle() { return 0; }

  /// Opens it for writing under a reserved number. Waits for the link without bound.
  virtual CallId open_reserved(std::uint64_t handle, const NodeRef& node,
                               Done<OpenedHandle> done) {
    static_cast<void>(handle);
    static_cast<void>(node);
    return refuse(done);
  }

  // Of kFeatureLeases: kNotSupported at once where the session has none.

  virtual bool has_leases() const { return false; }

  /// LeaseAction::kAwait may be asked; elsewhere it is kNotSupported at once.
  virtual bool can_await_leases() const { return false; }

  /// Bounded by io_timeout, as a control call (an await by its own length); may be repeated.
  virtual CallId lease(const LeaseRequest&, Done<LeaseReply> done) { return refuse(done); }

  /// The content of the file behind an open handle is ours to change: a new session accepts the
  /// handle as long as it is the same file.
  virtual void expect_changes(std::uint64_t handle) { static_cast<void>(handle); }

  /// A name was changed: handles below `from` are opened again below `to`.
  virtual void moved(const std::string& from, const std::string& to) {
    static_cast<void>(from);
    static_cast<void>(to);
  }

  /// The call's completion comes soon, with kCancelled unless it was already on its way.
  virtual void cancel(CallId call) = 0;

  virtual RemoteStatus status() const = 0;

  /// Says goodbye, ends all connections and threads, fails what waits with kDisconnected.
  virtual void stop() = 0;

 protected:
  /// A call of a feature that the server does not have.
  template <class Reply>
  static CallId refuse(const Done<Reply>& done) {
    done(fail(ErrorCode::kNotSupported, "the server does not do that"));
    return 1;
  }

  template <class Reply>
  static CallId refuse_write(const Done<Reply>& done) {
    done(fail(ErrorCode::kReadOnly, "the server lets this mount change nothing"));
    return 1;
  }
};

}  // namespace slipway
