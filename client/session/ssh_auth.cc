#include "session/ssh_auth.h"

#include "base/log.h"
#include "base/unique_fd.h"
#include "session/ssh_agent.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <string>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <utility>
#include <vector>

namespace slipway {

namespace {

constexpr int kPasswordTries = 3;
constexpr int kRoundsMax = 16;  ///< of keyboard-interactive, and of partial successes
constexpr std::string_view kTrying = "Trying to authenticate with ";

enum class Outcome { kDone, kPartial, kDenied };

class Authentication {
 public:
  Authentication(SshSetup& setup, SshLink& link, const SshTarget& target)
      : setup_(setup), link_(link), target_(target) {
    link_.callbacks = {};
    link_.callbacks.userdata = this;
    link_.callbacks.auth_function = &Authentication::ask_passphrase;
    ssh_callbacks_init(&link_.callbacks);
    ssh_set_callbacks(link_.session.get(), &link_.callbacks);
  }

  ~Authentication() {
    link_.callbacks.auth_function = nullptr;
    link_.callbacks.userdata = nullptr;
  }

  Authentication(const Authentication&) = delete;
  Authentication& operator=(const Authentication&) = delete;

  Status run() {
    SLIPWAY_TRY_ASSIGN(Outcome outcome,
                       attempt([&] { return ssh_userauth_none(session(), nullptr); }));
    show_banner();
    for (int round = 0; outcome != Outcome::kDone && round < kRoundsMax; ++round) {
      const auto methods = static_cast<unsigned>(ssh_userauth_list(session(), nullptr));
      SLIPWAY_TRY_ASSIGN(outcome, try_methods(methods));
      if (outcome == Outcome::kDenied)
        return fail(denied(methods));
    }
    if (outcome != Outcome::kDone)
      return fail(ErrorCode::kAuthentication, "{}: authentication does not come to an end",
                  target_.name);
    log_debug("{}: logged in as {}; tried {}", target_.name, escape(target_.user), tried());
    return {};
  }

 private:
  ssh_session session() const { return link_.session.get(); }

  Result<Outcome> attempt(const std::function<int()>& call) {
    auto result = setup_.drive(SSH_AUTH_AGAIN, call);
    if (!result)
      return fail(result.error().code, "{}: authentication: {}", target_.name,
                  result.error().message);
    switch (*result) {
      case SSH_AUTH_SUCCESS:
        return Outcome::kDone;
      case SSH_AUTH_PARTIAL:
        return Outcome::kPartial;
      case SSH_AUTH_DENIED:
        return Outcome::kDenied;
      default:
        break;
    }
    if (ssh_is_connected(session()) == 0)
      return fail(ErrorCode::kAuthentication,
                  "{}: the server ended the connection during authentication: {}; tried {}",
                  target_.name, link_.last_error(), tried());
    trouble_ = link_.last_error();
    return Outcome::kDenied;
  }

  Result<Outcome> try_methods(unsigned methods) {
    if ((methods & SSH_AUTH_METHOD_PUBLICKEY) != 0 && !std::exchange(keys_tried_, true)) {
      SLIPWAY_TRY_ASSIGN(const Outcome outcome, try_keys());
      if (outcome != Outcome::kDenied)
        return outcome;
    }
    if (target_.batch_mode || !setup_.can_ask())
      return Outcome::kDenied;
    if ((methods & SSH_AUTH_METHOD_INTERACTIVE) != 0 && !std::exchange(interactive_tried_, true)) {
      SLIPWAY_TRY_ASSIGN(const Outcome outcome, try_keyboard_interactive());
      if (outcome != Outcome::kDenied)
        return outcome;
    }
    if ((methods & SSH_AUTH_METHOD_PASSWORD) != 0 && !std::exchange(password_tried_, true))
      return try_password();
    return Outcome::kDenied;
  }

  Result<Outcome> try_keys() {
    const SshLogScope scope([this](std::string_view message) {
      const auto at = message.find(kTrying);
      if (at == std::string_view::npos)
        return;
      const std::string_view file = message.substr(at + kTrying.size());
      if (!file.starts_with(std::string(kNoSshDirectory) + "/"))
        key_files_.emplace_back(escape(file));
    });
    agent_tried_ = target_.agent_first;
    SLIPWAY_TRY_ASSIGN(Outcome outcome, attempt([&] {
                         return ssh_userauth_publickey_auto(session(), nullptr, nullptr);
                       }));
    if (outcome != Outcome::kDenied || target_.agent_first || !target_.agent_allowed ||
        target_.agent_socket.empty())
      return outcome;
    agent_tried_ = true;
    ssh_options_set(session(), SSH_OPTIONS_IDENTITY_AGENT, target_.agent_socket.c_str());
    return attempt([&] { return ssh_userauth_agent(session(), nullptr); });
  }

  Result<Outcome> try_keyboard_interactive() {
    for (int round = 0; round < kRoundsMax; ++round) {
      auto result = setup_.drive(SSH_AUTH_AGAIN,
                                 [&] { return ssh_userauth_kbdint(session(), nullptr, nullptr); });
      if (!result)
        return fail(result.error());
      if (*result != SSH_AUTH_INFO)
        return attempt([code = *result] { return code; });
      const int prompts = ssh_userauth_kbdint_getnprompts(session());
      for (int i = 0; i < prompts; ++i) {
        char echo = 0;
        const auto index = static_cast<unsigned>(i);
        const char* prompt = ssh_userauth_kbdint_getprompt(session(), index, &echo);
        SLIPWAY_TRY_ASSIGN(std::string answer,
                           setup_.ask(fmt::format("({}@{}) {}", target_.user, target_.name,
                                                  escape(prompt != nullptr ? prompt : "")),
                                      echo != 0));
        const SecretText secret(std::move(answer));
        if (ssh_userauth_kbdint_setanswer(session(), index, secret.c_str()) < 0)
          return Outcome::kDenied;
      }
    }
    return Outcome::kDenied;
  }

  Result<Outcome> try_password() {
    for (int i = 0; i < kPasswordTries; ++i) {
      SLIPWAY_TRY_ASSIGN(
          std::string answer,
          setup_.ask(fmt::format("{}@{}'s password: ", target_.user, target_.name), false));
      const SecretText secret(std::move(answer));
      SLIPWAY_TRY_ASSIGN(const Outcome outcome, attempt([&] {
                           return ssh_userauth_password(session(), nullptr, secret.c_str());
                         }));
      if (outcome != Outcome::kDenied)
        return outcome;
    }
    return Outcome::kDenied;
  }

  void show_banner() {
    char* banner = ssh_get_issue_banner(session());
    if (banner == nullptr)
      return;
    std::string_view rest(banner);
    while (!rest.empty()) {
      const auto end = std::min(rest.find('\n'), rest.size());
      setup_.say(escape(rest.substr(0, end)) + "\n");
      rest.remove_prefix(std::min(end + 1, rest.size()));
    }
    ssh_string_free_char(banner);
  }

  /// libssh's question for the passphrase of the key file that it is about to use.
  static int ask_passphrase(const char* /*prompt*/, char* buffer, std::size_t size, int /*echo*/,
                            int /*verify*/, void* userdata) {
    auto* self = static_cast<Authentication*>(userdata);
    if (self == nullptr)
      return -1;
    char* name = nullptr;
    std::string file = "the key file";
    if (ssh_userauth_publickey_auto_get_current_identity(self->session(), &name) == SSH_OK) {
      file = escape(name);
      ssh_string_free_char(name);
    }
    if (self->target_.batch_mode || !self->setup_.can_ask()) {
      self->locked_key_ = file;
      return -1;
    }
    auto answer = self->setup_.ask(fmt::format("Enter passphrase for key '{}': ", file), false);
    if (!answer)
      return -1;
    const SecretText secret(std::move(*answer));
    if (secret.size() + 1 > size)
      return -1;
    std::memcpy(buffer, secret.c_str(), secret.size() + 1);
    return 0;
  }

  std::string tried() const {
    std::string text;
    const auto add = [&](const std::string& what) { text += (text.empty() ? "" : ", ") + what; };
    if (agent_tried_) {
      const auto keys = count_agent_keys(target_.agent_socket);
      add(keys ? fmt::format("agent ({} keys)", *keys) : std::string("agent (none running)"));
    } else if (!target_.identities_only_at.empty()) {
      add("no agent because of " + target_.identities_only_at);
    }
    for (const std::string& file : key_files_) {
      add(file);
      if (::access(file.c_str(), F_OK) != 0)
        text += " (missing)";
      else if (file == locked_key_)
        text += " (needs a passphrase)";
    }
    return text.empty() ? "nothing" : text;
  }

  Error denied(unsigned methods) const {
    std::string names;
    for (const auto& [method, name] :
         {std::pair{SSH_AUTH_METHOD_PUBLICKEY, "publickey"},
          std::pair{SSH_AUTH_METHOD_INTERACTIVE, "keyboard-interactive"},
          std::pair{SSH_AUTH_METHOD_PASSWORD, "password"},
          std::pair{SSH_AUTH_METHOD_GSSAPI_MIC, "gssapi-with-mic"},
          std::pair{SSH_AUTH_METHOD_HOSTBASED, "hostbased"}}) {
      if ((methods & method) != 0)
        names += std::string(names.empty() ? "" : ",") + name;
    }
    return Error{
        ErrorCode::kAuthentication,
        fmt::format("{}@{}: permission denied ({}); tried {}{}", target_.user, target_.name, names,
                    tried(), trouble_.empty() ? "" : "; " + trouble_)};
  }

  SshSetup& setup_;
  SshLink& link_;
  const SshTarget& target_;
  bool keys_tried_ = false;
  bool agent_tried_ = false;
  bool interactive_tried_ = false;
  bool password_tried_ = false;
  std::vector<std::string> key_files_;
  std::string locked_key_;
  std::string trouble_;
};

}  // namespace

Status authenticate(SshSetup& setup, SshLink& link, const SshTarget& target) {
  return Authentication(setup, link, target).run();
}

}  // namespace slipway
