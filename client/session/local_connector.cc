#include "session/local_connector.h"

#include "base/log.h"
#include "session/process_setup.h"

#include <filesystem>
#include <string>
#include <unistd.h>
#include <utility>
#include <vector>

namespace slipway {

namespace {

/// slipwayd as it is installed (the same directory) or built (a sibling directory), if it is there.
std::string server_beside_us() {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  if (error)
    return {};
  for (const char* relative : {"slipwayd", "../server/slipwayd"}) {
    const std::string candidate = (self.parent_path() / relative).lexically_normal().string();
    if (::access(candidate.c_str(), X_OK) == 0)
      return candidate;
  }
  return {};
}

std::string hex(ByteView bytes) {
  std::string text;
  for (const std::byte byte : bytes)
    text += fmt::format("{:02x}", static_cast<unsigned>(byte));
  return text;
}

class LocalConnector final : public SessionConnector {
 public:
  LocalConnector(std::vector<std::string> command, std::string data_address)
      : command_(std::move(command)), data_address_(std::move(data_address)) {}

  Result<EstablishedSession> establish(const MountIdentity& identity, bool interactive,
                                       TimePoint deadline) override {
    interruption_.begin();
    SLIPWAY_TRY_ASSIGN(const std::string program, find_server());
    ProcessSetup setup;
    setup.process.arguments = command_;
    setup.process.arguments[0] = program;
    setup.process.interactive = interactive;
    setup.process.name = "slipwayd";
    setup.where = "local";
    setup.transport_name = "local";
    setup.explain_exit = [&](const ChildProcess& process, int status, const std::string& noise) {
      const std::string line = process.last_error_line();
      return Error{ErrorCode::kDisconnected,
                   fmt::format("'{}' ended ({}) instead of serving: {}", escape(program),
                               describe_wait_status(status),
                               !line.empty()    ? line
                               : !noise.empty() ? noise
                                                : "it said nothing")};
    };
    SLIPWAY_TRY_ASSIGN(EstablishedSession session,
                       set_up_over_process(setup, identity, interruption_, deadline));
    session.anchor = "local " + hex(session.server.machine_id);
    session.addresses =
        merge_addresses({data_address_, "127.0.0.1", "::1"}, session.server.addresses);
    return session;
  }

  void interrupt() noexcept override { interruption_.interrupt(); }

 private:
  Result<std::string> find_server() const {
    const std::string& name = command_[0];
    std::string program = name == "slipwayd" ? server_beside_us() : std::string();
    if (program.empty())
      program = find_program(name);
    if (program.empty())
      return fail(ErrorCode::kInvalid,
                  "no '{}' on this machine: install it, or name it with -o "
                  "server_command='/path/slipwayd session'",
                  escape(name));
    return program;
  }

  const std::vector<std::string> command_;
  const std::string data_address_;
  Interruption interruption_;
};

}  // namespace

Result<std::unique_ptr<SessionConnector>> make_local_connector(const ConnectOptions& options) {
  std::vector<std::string> command = split_words(options.server_command);
  if (command.empty())
    return fail(ErrorCode::kInvalid, "server_command is empty");
  if (!options.ssh_command.empty() || !options.subsystem.empty() || !options.ssh_config.empty() ||
      !options.ssh_options.empty())
    return fail(ErrorCode::kInvalid, "options of ssh have no meaning for local:");
  return std::unique_ptr<SessionConnector>(
      std::make_unique<LocalConnector>(std::move(command), options.data_address));
}

}  // namespace slipway
