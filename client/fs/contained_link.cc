#include "fs/contained_link.h"

#include "base/log.h"
#include "wire/limits.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

namespace slipway {
namespace {

/// Components without empty ones and ".".
std::vector<std::string_view> components(std::string_view path) {
  std::vector<std::string_view> parts;
  while (!path.empty()) {
    const std::size_t slash = std::min(path.find('/'), path.size());
    const std::string_view part = path.substr(0, slash);
    if (!part.empty() && part != ".")
      parts.push_back(part);
    path.remove_prefix(std::min(slash + 1, path.size()));
  }
  return parts;
}

tl::unexpected<Error> refused(std::string_view link_path, std::string_view target,
                              std::string_view why) {
  return fail(ErrorCode::kAccessDenied, "symbolic link '{}' to '{}' refused: {}", escape(link_path),
              escape(target), why);
}

Result<std::string> rewrite_absolute(std::string_view link_path, std::string_view target,
                                     std::string_view export_root, std::size_t depth) {
  const auto parts = components(target);
  const auto root = components(export_root);
  if (std::find(parts.begin(), parts.end(), "..") != parts.end())
    return refused(link_path, target, "it is absolute and goes up");
  if (export_root.empty() || parts.size() < root.size() ||
      !std::equal(root.begin(), root.end(), parts.begin()))
    return refused(link_path, target, "it leads out of what is mounted");

  std::vector<std::string_view> relative(depth, "..");
  relative.insert(relative.end(), parts.begin() + static_cast<std::ptrdiff_t>(root.size()),
                  parts.end());
  std::string rewritten = relative.empty() ? "." : fmt::format("{}", fmt::join(relative, "/"));
  if (rewritten.size() > kLinkTargetMax)
    return fail(ErrorCode::kNameTooLong, "symbolic link '{}' is too long when made relative",
                escape(link_path));
  return rewritten;
}

}  // namespace

Result<std::string> contained_link(std::string_view link_path, std::string_view target,
                                   std::string_view export_root) {
  const std::size_t depth = std::max<std::size_t>(components(link_path).size(), 1) - 1;
  if (target.empty() || target.find('\0') != std::string_view::npos)
    return refused(link_path, target, "it is empty or holds a zero byte");
  if (target.front() == '/')
    return rewrite_absolute(link_path, target, export_root, depth);

  std::size_t up = 0;
  bool down = false;
  for (const std::string_view part : components(target)) {
    if (part != "..") {
      down = true;
      continue;
    }
    if (down)
      return refused(link_path, target, "it goes up again after it went down");
    if (++up > depth)
      return refused(link_path, target, "it leads out of what is mounted");
  }
  return std::string(target);
}

}  // namespace slipway
