#include "server/session_setup.h"

#include "base/log.h"
#include "server/addresses.h"
#include "server/directory_store.h"
#include "server/export_root.h"
#include "server/recovery.h"
#include "wire/setup.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <sys/stat.h>
#include <unistd.h>

namespace slipway {

namespace {

std::string environment(const char* name) {
  const char* const value = std::getenv(name);
  return value != nullptr ? value : "";
}

// SLIPWAYD_LEASE_SECONDS is for tests, which can't wait for a minute.
std::chrono::milliseconds lease_length() {
  const long seconds = std::strtol(environment("SLIPWAYD_LEASE_SECONDS").c_str(), nullptr, 10);
  return seconds > 0 && seconds < 3600 ? std::chrono::seconds(seconds) : kLeaseLength;
}

// The first of the client's suites that this machine does well.
Result<CipherSuite> choose_suite(const ClientSetup& client) {
  for (const CipherSuite suite : client.suites) {
    if (suite != CipherSuite::kAes256Gcm || aes_in_hardware())
      return suite;
  }
  return fail(ErrorCode::kNotSupported,
              "the server's processor has no AES instructions; use cipher=chacha20-poly1305");
}

// Without TCP the session stays inside SSH, which always works.
std::unique_ptr<Listener> try_to_listen(const ClientSetup& client, const ListenOptions& options) {
  if (client.connections == 0)
    return nullptr;
  Result<std::unique_ptr<Listener>> listener = Listener::bind(options);
  if (listener)
    return std::move(*listener);
  log_warning("no TCP connections: {}", listener.error().message);
  return nullptr;
}

std::vector<std::string> addresses_of(const ListenOptions& options) {
  std::vector<std::string> named;
  for (const std::string& address : options.addresses) {
    if (address != "::" && address != "0.0.0.0" && named.size() < kAddressesMax)
      named.push_back(address);
  }
  return named.empty() ? data_addresses(environment("SSH_CONNECTION")) : named;
}

// Without it the images are served all the same.
std::unique_ptr<Publications> try_to_open_publications(const std::string& state_root) {
  if (state_root.empty())
    return nullptr;
  Result<std::unique_ptr<Publications>> publications = Publications::open(state_root);
  if (publications)
    return std::move(*publications);
  log_warning("no manifests: {}", publications.error().message);
  return nullptr;
}

struct SetupAnswer {
  ServerSetup setup;
  SetUpSession session;
};

// Opens what changes need beside the export, and finishes what earlier sessions committed. Where
// there is no place for it the session is read-only; where there is one that can't be used, some
// group may stand between two states, so there is no session.
Status allow_changes(SetUpSession& session, DirectoryStore& store, const ExportRoot& root,
                     const ClientSetup& client) {
  if (root.journal_directory.empty()) {
    log_warning("read only: there is no place for a journal");
    return {};
  }
  Result<std::unique_ptr<Checkpoints>> checkpoints =
      Checkpoints::open(root.journal_directory, client.client_id, store);

  struct stat info {};

  if (!checkpoints && ::lstat(root.journal_directory.c_str(), &info) != 0) {
    log_warning("read only: {}", checkpoints.error().message);
    return {};
  }
  if (!checkpoints)
    return fail(std::move(checkpoints).error());
  SLIPWAY_TRY_ASSIGN(session.operations,
                     OperationLog::open(root.journal_directory + "/" + to_hex(client.client_id)));
  session.checkpoints = std::move(*checkpoints);
  return {};
}

// Only together with changes. Without a place for them the session goes on as with an older server:
// versions decide.
void allow_leases(SetUpSession& session, const ExportRoot& root, const ClientSetup& client) {
  LeaseStore::Options leases;
  leases.directory = root.lease_directory;
  leases.top = root.lease_top;
  if (root.path != root.lease_top)
    leases.prefix = root.path.substr(root.lease_top == "/" ? 1 : root.lease_top.size() + 1);
  leases.holder = {client.client_id, client.mount_id, client.client_name, user_name(::geteuid())};
  leases.length = lease_length();
  Result<std::unique_ptr<LeaseStore>> opened = LeaseStore::open(std::move(leases));
  if (opened)
    session.leases = std::move(*opened);
  else
    log_warning("no leases: {}", opened.error().message);
}

Result<SetupAnswer> answer_client(const ClientSetup& client, const SessionOptions& options) {
  if (client.version_min > kProtocolVersion || client.version_max < kProtocolVersion)
    return fail(ErrorCode::kVersionMismatch,
                "the client speaks protocol versions {} to {}, this server {}", client.version_min,
                client.version_max, kProtocolVersion);
  SetupAnswer answer;
  ServerSetup& setup = answer.setup;
  SLIPWAY_TRY_ASSIGN(setup.suite, choose_suite(client));
  SLIPWAY_TRY_ASSIGN(ExportRoot root, open_export(client.export_path, options.restrict_to));
  // Who only reads shall not see a group between two states either.
  SLIPWAY_TRY(finish_commits(root, RecoveryScope::kVisible));
  SLIPWAY_TRY_ASSIGN(std::unique_ptr<DirectoryStore> store,
                     DirectoryStore::open(std::move(root.fd), root.state_file,
                                          try_to_open_publications(root.state_root)));
  DirectoryStore& directory_store = *store;
  answer.session.store = std::move(store);
  setup.features = client.features & kFeaturesSupported;
  if (!options.read_only && (setup.features & kFeatureWrites) != 0)
    SLIPWAY_TRY(allow_changes(answer.session, directory_store, root, client));
  if (answer.session.checkpoints != nullptr && (setup.features & kFeatureLeases) != 0)
    allow_leases(answer.session, root, client);
  if (answer.session.leases == nullptr)
    setup.features &= ~(kFeatureLeases | kFeatureLeaseAwait | kFeaturePrepare);
  SLIPWAY_TRY_ASSIGN(setup.root, answer.session.store->getattr({}));
  answer.session.listener = try_to_listen(client, options.listen);

  fill_random(setup.secret);
  fill_random(setup.session_id);
  if (answer.session.listener != nullptr) {
    setup.data_port = answer.session.listener->port();
    setup.addresses = addresses_of(options.listen);
  }
  setup.requests_in_flight_max = kRequestsInFlightMax;
  setup.bytes_in_flight_max = kBytesInFlightMax;
  setup.export_id = root.id;
  setup.initialised = root.initialised;
  setup.read_only = !answer.session.write_side().allowed;
  setup.uid = ::geteuid();
  setup.gid = ::getegid();
  setup.machine_id = machine_id();
  setup.export_root = root.path;
  answer.session.connections = std::min<unsigned>(client.connections, kConnectionsMax);
  answer.session.profiles = {root.profile_directory, client.mount_id};
  answer.session.description = fmt::format(
      "export '{}' for '{}', {}{}", escape(root.path), escape(client.client_name),
      setup.data_port != 0 ? fmt::format("port {}", setup.data_port) : std::string("SSH only"),
      setup.read_only ? ", read only" : "");
  return answer;
}

Status send_refusal(Transport& transport, const Error& error, TimePoint deadline) {
  ServerSetup refusal;
  refusal.error = static_cast<std::uint32_t>(error.code);
  refusal.error_message = error.message;
  Bytes message;
  encode(message, refusal);
  return send_setup(transport, message, deadline);
}

}  // namespace

Result<SetUpSession> set_up_session(Transport& transport, const SessionOptions& options,
                                    TimePoint deadline) {
  const std::array<ByteView, 1> magic = {std::as_bytes(std::span(kServerMagic))};
  SLIPWAY_TRY(transport.write_all(magic, deadline));
  SLIPWAY_TRY_ASSIGN(Bytes client_message, receive_setup(transport, deadline));
  Result<ClientSetup> client = decode_client_setup(client_message);
  Result<SetupAnswer> answer = client ? answer_client(*client, options) : fail(client.error());
  if (!answer) {
    if (const Status told = send_refusal(transport, answer.error(), deadline); !told)
      log_debug("the refusal did not arrive: {}", told.error().message);
    return fail(std::move(answer).error());
  }
  Bytes server_message;
  server_message.reserve(kSetupMax);  // growing would leave copies of the secret behind
  encode(server_message, answer->setup);
  SLIPWAY_TRY(send_setup(transport, server_message, deadline));

  SessionTicket& ticket = answer->session.ticket;
  ticket.session_id = answer->setup.session_id;
  ticket.suite = answer->setup.suite;
  ticket.root = derive_root(client->secret, answer->setup.secret, client_message, server_message);
  wipe(client->secret);
  wipe(answer->setup.secret);
  wipe(client_message);
  wipe(server_message);
  return std::move(answer->session);
}

}  // namespace slipway
