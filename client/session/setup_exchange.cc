#include "session/setup_exchange.h"

#include "base/log.h"
#include "secure/channel.h"
#include "wire/limits.h"

#include <algorithm>
#include <array>
#include <cassert>
#include <utility>

namespace slipway {

namespace {

// The longest proper prefix of the magic that ends its first n bytes, for each n: where matching
// goes on after a mismatch.
std::array<std::size_t, kServerMagic.size()> make_fallback() {
  std::array<std::size_t, kServerMagic.size()> fallback{};
  std::size_t length = 0;
  for (std::size_t i = 1; i < kServerMagic.size(); ++i) {
    while (length > 0 && kServerMagic[i] != kServerMagic[length])
      length = fallback[length - 1];
    if (kServerMagic[i] == kServerMagic[length])
      ++length;
    fallback[i] = length;
  }
  return fallback;
}

/// Wipes a message that holds a secret when it goes out of scope.
class WipedBytes {
 public:
  WipedBytes() { bytes.reserve(kSetupMax); }  // or a reallocation would leave a copy behind

  explicit WipedBytes(Bytes from) : bytes(std::move(from)) {}

  ~WipedBytes() { wipe(bytes); }

  WipedBytes(const WipedBytes&) = delete;
  WipedBytes& operator=(const WipedBytes&) = delete;

  Bytes bytes;
};

class SecretGuard {
 public:
  explicit SecretGuard(SecretBytes& secret) : secret_(secret) {}

  ~SecretGuard() { wipe(secret_); }

  SecretGuard(const SecretGuard&) = delete;
  SecretGuard& operator=(const SecretGuard&) = delete;

 private:
  SecretBytes& secret_;
};

Error too_much_noise(const std::string& where, const std::string& line) {
  return Error{ErrorCode::kInvalid,
               fmt::format("{} printed more than {} KiB (first '{}') instead of starting slipwayd: "
                           "check the shell start-up files there (.bashrc)",
                           where, kSetupNoiseMax / 1024, line)};
}

Error ended_before_magic(const Error& error, const std::string& where, const std::string& line,
                         const ExplainEnd& explain_end) {
  if (error.code == ErrorCode::kTimedOut) {
    const std::string printed = line.empty() ? "" : fmt::format("; it printed '{}'", line);
    return Error{ErrorCode::kTimedOut,
                 fmt::format("{}: slipwayd did not answer in time{}", where, printed)};
  }
  if (auto explained = explain_end ? explain_end(line) : std::nullopt)
    return *std::move(explained);
  if (!line.empty()) {
    return Error{ErrorCode::kDisconnected,
                 fmt::format("{} printed '{}' instead of starting slipwayd: check the shell "
                             "start-up files there (.bashrc) and server_command",
                             where, line)};
  }
  return Error{ErrorCode::kDisconnected,
               fmt::format("{} closed the connection before slipwayd answered", where)};
}

Status skip_noise(Transport& transport, const std::string& where, const ExplainEnd& explain_end,
                  TimePoint deadline) {
  NoiseSkipper skipper;
  for (;;) {
    std::array<std::byte, kServerMagic.size()> buffer;
    const auto read = transport.read_some(MutableBytes(buffer).first(skipper.wanted()), deadline);
    if (!read)
      return fail(ended_before_magic(read.error(), where, skipper.first_noise_line(), explain_end));
    const bool complete = skipper.feed(ByteView(buffer).first(*read));
    if (skipper.noise_size() > kSetupNoiseMax)
      return fail(too_much_noise(where, skipper.first_noise_line()));
    if (complete)
      break;
  }
  if (skipper.noise_size() > 0)
    log_debug("{}: skipped {} bytes before slipwayd's first, '{}'", where, skipper.noise_size(),
              skipper.first_noise_line());
  return {};
}

ClientSetup client_setup_of(const MountIdentity& identity) {
  ClientSetup setup;
  fill_random(setup.secret);
  setup.client_id = identity.client_id;
  setup.mount_id = identity.mount_id;
  setup.suites = identity.suites;
  setup.connections = identity.connections;
  setup.export_path = identity.export_path;
  setup.client_name = identity.client_name;
  setup.features = identity.features;
  return setup;
}

Status check_answer(const ServerSetup& server, const MountIdentity& identity,
                    const std::string& where) {
  if (server.error != 0) {
    const std::string& text = server.error_message;  // the decoder has escaped and bounded it
    return fail(error_code_from_wire(server.error), "{}: {}", where,
                text.empty() ? "refused without a reason" : text);
  }
  if (server.version != kProtocolVersion)
    return fail(ErrorCode::kVersionMismatch, "{} speaks protocol version {}, this client {}", where,
                server.version, kProtocolVersion);
  if (std::find(identity.suites.begin(), identity.suites.end(), server.suite) ==
      identity.suites.end())
    return fail(ErrorCode::kProtocol, "{} chose a cipher that was not offered", where);
  if (server.root.type != FileType::kDirectory)
    return fail(ErrorCode::kProtocol, "{} says that the export is not a directory", where);
  if (server.export_root.empty() || server.export_root.front() != '/')
    return fail(ErrorCode::kProtocol, "{} names no absolute path of the export", where);
  if (server.requests_in_flight_max == 0 || server.bytes_in_flight_max == 0)
    return fail(ErrorCode::kProtocol, "{} allows no requests", where);
  return {};
}

}  // namespace

bool NoiseSkipper::feed(ByteView bytes) {
  static const auto kFallback = make_fallback();
  assert(bytes.size() <= wanted() && wanted() > 0);
  for (const std::byte byte : bytes) {
    const char c = static_cast<char>(byte);
    if (kept_.size() < kKept)
      kept_.push_back(c);
    ++seen_;
    while (matched_ > 0 && c != kServerMagic[matched_])
      matched_ = kFallback[matched_ - 1];
    if (c == kServerMagic[matched_])
      ++matched_;
  }
  return matched_ == kServerMagic.size();
}

std::string NoiseSkipper::first_noise_line() const {
  std::string_view text(kept_);
  text = text.substr(0, std::min(text.size(), noise_size()));
  const auto begin = text.find_first_not_of(" \t\r\n");
  if (begin == std::string_view::npos)
    return {};
  text = text.substr(begin);
  text = text.substr(0, text.find_first_of("\r\n"));
  return escape(text);
}

Result<SetupOutcome> exchange_setup(Transport& transport, const MountIdentity& identity,
                                    const std::string& where, const ExplainEnd& explain_end,
                                    TimePoint deadline) {
  assert(!identity.suites.empty());
  SLIPWAY_TRY(skip_noise(transport, where, explain_end, deadline));

  ClientSetup client = client_setup_of(identity);
  const SecretGuard client_guard(client.secret);
  WipedBytes sent;
  encode(sent.bytes, client);
  if (auto status = send_setup(transport, sent.bytes, deadline); !status)
    return fail(status.error().code, "{}: {}", where, status.error().message);

  auto message = receive_setup(transport, deadline);
  if (!message)
    return fail(message.error().code, "{}: {}", where, message.error().message);
  WipedBytes received(std::move(*message));
  auto server = decode_server_setup(received.bytes);
  if (!server)
    return fail(server.error().code, "{}: {}", where, server.error().message);
  const SecretGuard server_guard(server->secret);
  SLIPWAY_TRY(check_answer(*server, identity, where));

  SetupOutcome outcome;
  outcome.ticket.session_id = server->session_id;
  outcome.ticket.suite = server->suite;
  outcome.ticket.root = derive_root(client.secret, server->secret, sent.bytes, received.bytes);
  wipe(server->secret);
  outcome.server = *server;
  return outcome;
}

}  // namespace slipway
