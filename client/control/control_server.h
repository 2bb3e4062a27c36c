#pragma once

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "base/result.h"
#include "base/unique_fd.h"

namespace slipway {

/// Answers control requests (control_client.h) of this mount's user and of root, one at a time, on a
/// thread of its own. A client that is slow or says nothing is dropped after kControlTimeout. The
/// socket is removed at the end.
class ControlServer {
 public:
  /// Called on the server's thread with one line; returns one line. Must not wait for the network.
  using Handler = std::function<std::string(const std::string& line)>;

  static Result<std::unique_ptr<ControlServer>> start(const std::string& socket_path,
                                                      Handler handler);
  ~ControlServer();
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;

 private:
  ControlServer(std::string path, UniqueFd listener, UniqueFd wake, Handler handler);
  void run();
  void answer(UniqueFd client);

  const std::string path_;
  const UniqueFd listener_;
  const UniqueFd wake_;  ///< eventfd: readable when the server must end
  const Handler handler_;
  std::thread thread_;  ///< last: starts when all else is there
};

}  // namespace slipway
