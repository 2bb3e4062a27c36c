#pragma once

#include "base/unique_fd.h"
#include "secure/channel.h"
#include "session/session_connector.h"
#include "wire/frame.h"
#include "wire/messages.h"
#include "wire/read_messages.h"

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace slipway {

/// A request that a test has taken off the fake server.
struct Request {
  unsigned connection = 0;
  FrameHeader header;
  Bytes frame;

  ByteView body() const { return frame_body(frame); }
};

/// The server's side of one session: connection 0 over a socket pair, TCP connections over
/// loopback. The test takes requests and answers them when and how it likes; pings and goodbyes are
/// answered at once unless muted. With a file table (serve()), it answers opens, attributes and
/// reads itself.
class FakeServer {
 public:
  struct Options {
    bool tcp = true;
    std::vector<std::string> addresses{"127.0.0.1"};
    std::uint32_t requests_in_flight_max = 0;
    std::uint64_t bytes_in_flight_max = 0;
  };

  FakeServer() : FakeServer(Options{}) {}

  explicit FakeServer(const Options& options);
  ~FakeServer();

  /// What set-up hands to the client. Once.
  EstablishedSession establish();

  Request take();                      ///< the next request; throws after 5 s
  Request take(MessageType type);      ///< the next of this type; others stay
  bool has_request(MessageType type);  ///< has one come and not been taken?
  std::size_t waiting();               ///< requests that have come and not been taken

  void reply(const Request& to, const Bytes& body, std::uint16_t more_flags = 0);
  void reply_error(const Request& to, ErrorCode code);

  template <class Message>
  void answer(const Request& to, const Message& message, std::uint16_t more_flags = 0) {
    Bytes body;
    encode(body, message);
    reply(to, body, more_flags);
  }

  /// Any frame, on any connection.
  void send(unsigned connection, const FrameHeader& header, const Bytes& body);

  /// One version per path; reads of a handle give fake_byte().
  void serve(std::map<std::string, Attributes> files);
  void pause_reads();                   ///< from now on the test answers reads
  void answer_read(const Request& to);  ///< honestly, as serve() would

  void wait_connected(unsigned connection);
  bool is_connected(unsigned connection);
  void cut(unsigned connection);
  void cut_all();
  void die();  ///< refuses new connections and cuts all, also those that are just being made
  void mute(bool muted);  ///< pings are not answered
  void stop_listening();  ///< new connections are refused
  void listen_again();    ///< on the same port

  std::uint16_t port() const { return port_; }

  std::vector<Preamble> preambles();  ///< of all connections that came

 private:
  struct Peer {
    std::unique_ptr<Channel> channel;
    std::mutex sending;
    std::thread receiver;
  };

  void listen();
  void accept_loop(int listener);
  void greet(UniqueFd socket);
  void receive_loop(unsigned connection, const std::shared_ptr<Peer>& peer);
  bool answer_by_itself(const Request& request);
  ReadFile open_file(std::uint64_t handle);
  void add_peer(unsigned connection, std::unique_ptr<Channel> channel);
  std::shared_ptr<Peer> peer(unsigned connection);

  Options options_;
  SessionTicket ticket_;
  std::uint16_t port_ = 0;
  UniqueFd listener_;
  std::thread acceptor_;
  std::vector<std::thread> greeters_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Request> requests_;
  std::map<unsigned, std::shared_ptr<Peer>> peers_;
  std::vector<std::shared_ptr<Peer>> past_;
  std::vector<Preamble> preambles_;
  std::map<std::string, Attributes> files_;
  std::map<std::uint64_t, Attributes> open_;
  bool serving_ = false;
  bool reads_paused_ = false;
  bool muted_ = false;
};

/// Byte `offset` of every fake file.
std::byte fake_byte(std::uint64_t offset);

/// A regular file with plausible values.
Attributes fake_file(std::uint64_t inode, std::uint64_t size);

/// Hands out what the test gives it; each attempt calls `next`.
class FakeConnector final : public SessionConnector {
 public:
  using Next = std::function<Result<EstablishedSession>(unsigned attempt)>;

  explicit FakeConnector(
      Next next, std::function<void()> on_interrupt = [] {})
      : next_(std::move(next)), on_interrupt_(std::move(on_interrupt)) {}

  Result<EstablishedSession> establish(const MountIdentity&, bool, TimePoint) override {
    return next_(attempt_++);
  }

  void interrupt() noexcept override { on_interrupt_(); }

 private:
  Next next_;
  std::function<void()> on_interrupt_;
  unsigned attempt_ = 0;
};

}  // namespace slipway
