#include "fake_server.h"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <chrono>
#include <netinet/in.h>
#include <stdexcept>
#include <sys/socket.h>

namespace slipway {

namespace {

constexpr std::chrono::seconds kServerPatience{5};

TimePoint soon() {
  return SteadyClock::instance().now() + kServerPatience;
}

}  // namespace

std::byte fake_byte(std::uint64_t offset) {
  return static_cast<std::byte>((offset * 31 + (offset >> 9) * 7) & 0xFF);
}

Attributes fake_file(std::uint64_t inode, std::uint64_t size) {
  Attributes attributes;
  attributes.version = {
      {1, inode}, {1'600'000'000, 0}, size, {1'700'000'000, 5}, {1'700'000'000, 5}};
  attributes.inode_number = inode;
  attributes.mode = 0644;
  attributes.nlink = 1;
  attributes.allocated = size;
  return attributes;
}

FakeServer::FakeServer(const Options& options) : options_(options) {
  ticket_.session_id.fill(std::byte{7});
  ticket_.suite = CipherSuite::kChaCha20Poly1305;
  ticket_.root = Secret::random();
  if (options_.tcp)
    listen();
}

void FakeServer::die() {
  stop_listening();
  for (auto& greeter : greeters_)
    greeter.join();
  greeters_.clear();
  cut_all();
}

FakeServer::~FakeServer() {
  die();
  std::vector<std::shared_ptr<Peer>> all;
  {
    const std::lock_guard lock(mutex_);
    all = past_;
  }
  for (const auto& each : all)
    each->receiver.join();
}

void FakeServer::listen() {
  listener_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  ::setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port_);
  auto* raw = reinterpret_cast<sockaddr*>(&address);
  socklen_t size = sizeof address;
  if (::bind(listener_.get(), raw, size) != 0 || ::listen(listener_.get(), 16) != 0 ||
      ::getsockname(listener_.get(), raw, &size) != 0)
    throw std::runtime_error("the fake server can't listen");
  port_ = ntohs(address.sin_port);
  acceptor_ = std::thread([this, fd = listener_.get()] { accept_loop(fd); });
}

void FakeServer::stop_listening() {
  if (!listener_)
    return;
  ::shutdown(listener_.get(), SHUT_RDWR);
  acceptor_.join();
  listener_.reset();
}

void FakeServer::listen_again() {
  listen();
}

void FakeServer::accept_loop(int listener) {
  for (;;) {
    UniqueFd socket(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
    if (!socket)
      return;
    greeters_.emplace_back([this](UniqueFd fd) { greet(std::move(fd)); }, std::move(socket));
  }
}

void FakeServer::greet(UniqueFd socket) {
  auto transport = make_fd_transport(std::move(socket), "client");
  const auto preamble = read_preamble(*transport, soon());
  if (!preamble || preamble->session_id != ticket_.session_id)
    return;
  auto channel = accept_secure(std::move(transport), *preamble, ticket_, soon());
  if (!channel)
    return;
  {
    const std::lock_guard lock(mutex_);
    preambles_.push_back(*preamble);
  }
  add_peer(preamble->connection, *std::move(channel));
}

EstablishedSession FakeServer::establish() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0)
    throw std::runtime_error("socketpair");
  add_peer(0, make_plain_channel(make_fd_transport(UniqueFd(ends[0]), "client")));
  EstablishedSession session;
  session.ticket = {ticket_.session_id, ticket_.suite, ticket_.root.clone()};
  session.server.session_id = ticket_.session_id;
  session.server.suite = ticket_.suite;
  session.server.data_port = port_;
  session.server.requests_in_flight_max = options_.requests_in_flight_max;
  session.server.bytes_in_flight_max = options_.bytes_in_flight_max;
  session.server.uid = 1000;
  session.connection0 = make_fd_transport(UniqueFd(ends[1]), "ssh");
  session.anchor = "hostkey SHA256:fake";
  session.addresses = options_.addresses;
  session.transport_name = "fake";
  return session;
}

void FakeServer::add_peer(unsigned connection, std::unique_ptr<Channel> channel) {
  auto added = std::make_shared<Peer>();
  added->channel = std::move(channel);
  const std::lock_guard lock(mutex_);
  peers_[connection] = added;
  past_.push_back(added);
  added->receiver = std::thread([this, connection, added] { receive_loop(connection, added); });
  changed_.notify_all();
}

void FakeServer::receive_loop(unsigned connection, const std::shared_ptr<Peer>& from) {
  for (;;) {
    auto frame = from->channel->receive();
    if (!frame)
      break;
    const auto header = decode_frame_header(*frame);
    if (!header)
      throw std::runtime_error("the client sent a bad frame");
    Request request{connection, *header, *std::move(frame)};
    if (answer_by_itself(request))
      continue;
    const std::lock_guard lock(mutex_);
    requests_.push_back(std::move(request));
    changed_.notify_all();
  }
  const std::lock_guard lock(mutex_);
  if (const auto found = peers_.find(connection); found != peers_.end() && found->second == from)
    peers_.erase(found);
  changed_.notify_all();
}

bool FakeServer::answer_by_itself(const Request& request) {
  std::unique_lock lock(mutex_);
  const bool muted = muted_;
  const bool serving = serving_;
  const bool reads = serving && !reads_paused_;
  const auto files = files_;
  lock.unlock();
  switch (request.header.type) {
    case MessageType::kPing:
    case MessageType::kGoodbye:
      if (!muted)
        reply(request, {});
      return true;
    case MessageType::kOpen: {
      if (!serving)
        return false;
      const auto open = decode_open_request(request.body());
      const auto found = files.find(open->node.path);
      if (found == files.end()) {
        reply_error(request, ErrorCode::kNotFound);
        return true;
      }
      lock.lock();
      open_[open->handle] = found->second;
      lock.unlock();
      answer(request, found->second);
      return true;
    }
    case MessageType::kClose:
      if (serving)
        reply(request, {});
      return false;
    case MessageType::kRead:
      if (reads)
        answer_read(request);
      return reads;
    case MessageType::kCancel:
    case MessageType::kLookup:
    case MessageType::kGetattr:
    case MessageType::kReaddir:
    case MessageType::kReadlink:
    case MessageType::kStatfs:
    case MessageType::kConfirm:
    case MessageType::kManifest:
    case MessageType::kLeaves:
    case MessageType::kProfile:
    case MessageType::kPutProfile:
    case MessageType::kMake:
    case MessageType::kLink:
    case MessageType::kRemove:
    case MessageType::kRename:
    case MessageType::kSetattr:
    case MessageType::kCopy:
    case MessageType::kSync:
    case MessageType::kStage:
    case MessageType::kCommit:
    case MessageType::kLease:
    case MessageType::kPrepare:
      break;
  }
  return false;
}

/// Frames of at most two units: small enough for connection 0.
void FakeServer::answer_read(const Request& to) {
  const auto request = decode_read_request(to.body());
  if (!request)
    throw std::runtime_error("the client sent a bad read");
  for (std::size_t i = 0; i < request->extents.size(); ++i) {
    const ReadExtent& extent = request->extents[i];
    const bool last_extent = i + 1 == request->extents.size();
    ReadReply reply;
    reply.files = {open_file(extent.handle)};
    ByteRange left = clamp_to_size({extent.offset, extent.length}, reply.files[0].version.size);
    do {
      const auto length =
          static_cast<std::uint32_t>(std::min<std::uint64_t>(2 * kUnitSize, left.length));
      Bytes data;
      for (std::uint64_t at = left.offset; at < left.offset + length; ++at)
        data.push_back(fake_byte(at));
      reply.segments.clear();
      if (length != 0)
        reply.segments.push_back({0, SegmentKind::kData, left.offset, length, length});
      reply.data = data;
      left = {left.offset + length, left.length - length};
      const bool last = last_extent && left.empty();
      answer(to, reply, last ? std::uint16_t{0} : std::uint16_t{kFrameMore});
    } while (!left.empty());
  }
}

ReadFile FakeServer::open_file(std::uint64_t handle) {
  const std::lock_guard lock(mutex_);
  ReadFile file;
  file.handle = handle;
  if (const auto found = open_.find(handle); found != open_.end())
    file.version = found->second.version;
  else
    file.status = static_cast<std::uint32_t>(ErrorCode::kBadHandle);
  return file;
}

Request FakeServer::take() {
  std::unique_lock lock(mutex_);
  if (!changed_.wait_for(lock, kServerPatience, [&] { return !requests_.empty(); }))
    throw std::runtime_error("no request came");
  Request request = std::move(requests_.front());
  requests_.pop_front();
  return request;
}

Request FakeServer::take(MessageType type) {
  std::unique_lock lock(mutex_);
  auto found = requests_.end();
  const auto has_come = [&] {
    found = std::find_if(requests_.begin(), requests_.end(),
                         [&](const Request& r) { return r.header.type == type; });
    return found != requests_.end();
  };
  if (!changed_.wait_for(lock, kServerPatience, has_come))
    throw std::runtime_error("no such request came");
  Request request = std::move(*found);
  requests_.erase(found);
  return request;
}

bool FakeServer::has_request(MessageType type) {
  const std::lock_guard lock(mutex_);
  return std::any_of(requests_.begin(), requests_.end(),
                     [&](const Request& r) { return r.header.type == type; });
}

std::size_t FakeServer::waiting() {
  const std::lock_guard lock(mutex_);
  return requests_.size();
}

void FakeServer::reply(const Request& to, const Bytes& body, std::uint16_t more_flags) {
  FrameHeader header = to.header;
  header.flags = static_cast<std::uint16_t>(kFrameReply | more_flags);
  send(to.connection, header, body);
}

void FakeServer::reply_error(const Request& to, ErrorCode code) {
  const Bytes frame = encode_error_reply(to.header, Error{code, "as the test wants it"});
  const auto to_peer = peer(to.connection);
  if (to_peer == nullptr)
    return;
  const std::lock_guard lock(to_peer->sending);
  const std::array<ByteView, 1> parts{frame};
  (void)to_peer->channel->send(parts);
}

void FakeServer::send(unsigned connection, const FrameHeader& header, const Bytes& body) {
  const auto to_peer = peer(connection);
  if (to_peer == nullptr)
    return;
  Bytes frame;
  begin_frame(frame, header);
  append(frame, body);
  const std::lock_guard lock(to_peer->sending);
  const std::array<ByteView, 1> parts{frame};
  (void)to_peer->channel->send(parts);
}

void FakeServer::serve(std::map<std::string, Attributes> files) {
  const std::lock_guard lock(mutex_);
  files_ = std::move(files);
  serving_ = true;
}

void FakeServer::pause_reads() {
  const std::lock_guard lock(mutex_);
  reads_paused_ = true;
}

std::shared_ptr<FakeServer::Peer> FakeServer::peer(unsigned connection) {
  const std::lock_guard lock(mutex_);
  const auto found = peers_.find(connection);
  return found == peers_.end() ? nullptr : found->second;
}

void FakeServer::wait_connected(unsigned connection) {
  std::unique_lock lock(mutex_);
  if (!changed_.wait_for(lock, kServerPatience, [&] { return peers_.count(connection) != 0; }))
    throw std::runtime_error("the client did not connect");
}

bool FakeServer::is_connected(unsigned connection) {
  return peer(connection) != nullptr;
}

void FakeServer::cut(unsigned connection) {
  if (const auto victim = peer(connection); victim != nullptr)
    victim->channel->abort();
}

void FakeServer::cut_all() {
  const std::lock_guard lock(mutex_);
  for (const auto& [connection, each] : peers_)
    each->channel->abort();
}

void FakeServer::mute(bool muted) {
  const std::lock_guard lock(mutex_);
  muted_ = muted;
}

std::vector<Preamble> FakeServer::preambles() {
  const std::lock_guard lock(mutex_);
  return preambles_;
}

}  // namespace slipway
