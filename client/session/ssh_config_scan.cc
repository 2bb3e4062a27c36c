#include "session/ssh_config_scan.h"

#include "base/log.h"
#include "base/unique_fd.h"
#include "session/ssh_keywords.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <glob.h>
#include <string_view>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace slipway {

namespace {

constexpr unsigned kDepthMax = 16;                   ///< of Include, as in libssh and OpenSSH
constexpr std::size_t kFileSizeLimit = 1024 * 1024;  ///< bytes
constexpr std::size_t kFilesMax = 256;
/// libssh cuts lines at 1023 bytes and reads the rest as a line of its own.
constexpr std::size_t kLineMax = 1000;

std::string lower_case(std::string_view text) {
  std::string lower(text);
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) {
    return static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  });
  return lower;
}

class Scanner {
 public:
  Status scan(const SshConfigRoot& root, const std::string& path, unsigned depth) {
    if (depth > kDepthMax || ++files_ > kFilesMax)
      return fail(ErrorCode::kInvalid, "{}: too many levels of Include", path);
    auto text = read_small_file(path, kFileSizeLimit);
    if (!text) {
      if (text.error().code == ErrorCode::kNotFound && !(root.required && depth == 0))
        return {};
      // libssh would go on without a file that it can't read, and OpenSSH would not.
      return fail(ErrorCode::kInvalid, "{}", text.error().message);
    }
    if (root.of_user)
      SLIPWAY_TRY(check_owner(path));
    std::size_t number = 0;
    for (std::size_t begin = 0; begin < text->size();) {
      const std::size_t end = std::min(text->find('\n', begin), text->size());
      const std::string_view line(text->data() + begin, end - begin);
      SLIPWAY_TRY(scan_line(root, fmt::format("{} line {}", path, ++number), line, depth));
      begin = end + 1;
    }
    return {};
  }

  SshConfigScan take_result() { return std::move(result_); }

 private:
  static Status check_owner(const std::string& path) {
    struct stat status {};

    if (::stat(path.c_str(), &status) != 0)
      return fail_errno(errno, "stat '{}'", path);
    const bool ours = status.st_uid == 0 || status.st_uid == ::getuid();
    if (!ours || (status.st_mode & (S_IWGRP | S_IWOTH)) != 0)
      return fail(ErrorCode::kInvalid,
                  "{} belongs to somebody else or may be written by others: fix its owner and mode",
                  path);
    return {};
  }

  Status scan_line(const SshConfigRoot& root, const std::string& where, std::string_view line,
                   unsigned depth) {
    if (line.size() > kLineMax)
      return fail(ErrorCode::kInvalid, "{} is longer than libssh reads: {}", where, kSshWayOut);
    if (line.find('\0') != std::string_view::npos)
      return fail(ErrorCode::kInvalid, "{} holds a zero byte", where);
    const std::vector<std::string> words = ssh_config_words(line);
    if (words.empty())
      return {};
    const std::string keyword = lower_case(words[0]);
    const std::vector<std::string> values(words.begin() + 1, words.end());
    if (const std::string why = why_refused(keyword, values); !why.empty())
      return fail(ErrorCode::kInvalid, "{}: '{}' {} over libssh: {}", where, escape(words[0]), why,
                  kSshWayOut);
    if (keyword == "identitiesonly" && !values.empty() && lower_case(values[0]) == "yes")
      result_.identities_only_at = where;
    if (keyword == "identityagent" && !values.empty())
      result_.identity_agent = values[0];
    if (keyword == "include" && !values.empty())
      return scan_included(root, values[0], depth);
    return {};
  }

  Status scan_included(const SshConfigRoot& root, const std::string& value, unsigned depth) {
    const bool rooted = value.front() == '/' || value.front() == '~';
    const std::string pattern = rooted ? value : root.include_directory + "/" + value;
    glob_t found{};
    const int failed = ::glob(pattern.c_str(), GLOB_TILDE, nullptr, &found);
    std::vector<std::string> paths;
    if (failed == 0)
      paths.assign(found.gl_pathv, found.gl_pathv + found.gl_pathc);
    ::globfree(&found);
    if (failed != 0 && failed != GLOB_NOMATCH)
      return fail(ErrorCode::kInvalid, "Include '{}' can't be read", escape(value));
    for (const std::string& path : paths)
      SLIPWAY_TRY(scan(root, path, depth + 1));
    return {};
  }

  SshConfigScan result_;
  std::size_t files_ = 0;
};

}  // namespace

Result<SshConfigScan> scan_ssh_config(const std::vector<SshConfigRoot>& roots) {
  Scanner scanner;
  for (const SshConfigRoot& root : roots)
    SLIPWAY_TRY(scanner.scan(root, root.path, 0));
  return scanner.take_result();
}

std::vector<std::string> ssh_config_words(std::string_view line) {
  static constexpr std::string_view kBlank = " \t\r\f\v";
  std::vector<std::string> words;
  std::size_t at = std::min(line.find_first_not_of(kBlank), line.size());
  if (at == line.size() || line[at] == '#')
    return words;
  while (at < line.size()) {
    const bool quoted = line[at] == '"';
    at += quoted ? 1 : 0;
    const std::string end_of_word = quoted ? "\"" : std::string(kBlank) + "=";
    const std::size_t end = std::min(line.find_first_of(end_of_word, at), line.size());
    words.emplace_back(line.substr(at, end - at));
    at = quoted ? std::min(end + 1, line.size()) : end;
    // One '=' may stand between two words, with blanks on either side.
    at = std::min(line.find_first_not_of(kBlank, at), line.size());
    if (at < line.size() && line[at] == '=')
      at = std::min(line.find_first_not_of(kBlank, at + 1), line.size());
  }
  return words;
}

}  // namespace slipway
