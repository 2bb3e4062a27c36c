#include "session/ssh_names.h"

#include "base/log.h"

#include <algorithm>

namespace slipway {

namespace {

bool is_control(char c) noexcept {
  return static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) == 0x7f;
}

Status check_name(std::string_view kind, std::string_view name, std::string_view forbidden) {
  if (name.front() == '-')
    return fail(ErrorCode::kInvalid, "{} name '{}' begins with '-'", kind, escape(name));
  if (std::any_of(name.begin(), name.end(), is_control) ||
      name.find_first_of(forbidden) != std::string_view::npos)
    return fail(ErrorCode::kInvalid, "{} name '{}' holds a character that is not allowed", kind,
                escape(name));
  return {};
}

}  // namespace

Status check_ssh_names(const ConnectOptions& options) {
  if (options.host.empty())
    return fail(ErrorCode::kInvalid, "no host is named");
  // A backslash is allowed in a user's name: DOMAIN\user.
  SLIPWAY_TRY(check_name("host", options.host, " '`\"\\$;&<>|(){}*?!/,@"));
  if (!options.user.empty())
    SLIPWAY_TRY(check_name("user", options.user, " '`\"$;&<>|(){}"));
  for (const auto& [keyword, value] : options.ssh_options) {
    const bool several = keyword == "identityfile";  // separated by newlines
    if (keyword.empty() ||
        keyword.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789") != std::string::npos)
      return fail(ErrorCode::kInvalid, "'{}' is not the name of an ssh option", escape(keyword));
    if (value.empty() || std::any_of(value.begin(), value.end(), [&](char c) {
          return is_control(c) && !(several && c == '\n');
        }))
      return fail(ErrorCode::kInvalid, "the value of {} is empty or holds a control character",
                  keyword);
  }
  const auto proxy_jump = ssh_option(options, "proxyjump");
  if (!proxy_jump.empty())
    SLIPWAY_TRY(check_name("ProxyJump", proxy_jump, " '`\"\\$;&<>|(){}*?!"));
  return {};
}

std::string_view ssh_option(const ConnectOptions& options, std::string_view keyword) {
  const auto found = options.ssh_options.find(std::string(keyword));
  return found == options.ssh_options.end() ? std::string_view() : found->second;
}

}  // namespace slipway
