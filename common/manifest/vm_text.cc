#include "manifest/vm_text.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <map>

namespace slipway {

namespace {

constexpr std::string_view kSpaces = " \t\r\v\f";

char lower(char c) noexcept {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

std::string_view trim(std::string_view text) noexcept {
  const std::size_t first = text.find_first_not_of(kSpaces);
  if (first == text.npos)
    return {};
  return text.substr(first, text.find_last_not_of(kSpaces) - first + 1);
}

/// Values write a quote, a bar and what is not printable as a bar and two hexadecimal digits.
std::string unescape(std::string_view value) {
  std::string text;
  for (std::size_t i = 0; i < value.size(); ++i) {
    unsigned char code = 0;
    const char* digits = value.data() + i + 1;
    if (value[i] == '|' && value.size() - i > 2 &&
        std::from_chars(digits, digits + 2, code, 16).ptr == digits + 2) {
      text += static_cast<char>(code);
      i += 2;
    } else {
      text += value[i];
    }
  }
  return text;
}

Result<std::string> read_dictionary(ImageReader& image) {
  SLIPWAY_TRY_ASSIGN(std::string text, image.read_text({0, image.size()}));
  if (text.size() != image.size())
    return fail(ErrorCode::kInvalid, "it should be text and holds a NUL byte");
  return text;
}

/// A drive of a machine, put together from its lines.
struct Drive {
  std::string file;
  bool is_present = true;
  bool is_host_device = false;

  bool is_file() const {
    // What stands for "no file" in drives whose medium is the host's or none.
    return is_present && !is_host_device && !file.empty() &&
           !equal_ignoring_case(file, "auto detect") &&
           !equal_ignoring_case(file, "emptyBackingString");
  }
};

bool is_drive(std::string_view device) noexcept {
  static constexpr std::array<std::string_view, 5> kBuses = {"scsi", "sata", "ide", "nvme",
                                                             "floppy"};
  return std::any_of(kBuses.begin(), kBuses.end(),
                     [&](std::string_view bus) { return device.starts_with(bus); });
}

void set_property(Drive& drive, std::string_view property, std::string_view value) {
  if (property == "filename")
    drive.file = unescape(value);
  else if (property == "present")
    drive.is_present = !equal_ignoring_case(value, "false");
  else if (property == "devicetype")
    drive.is_host_device = equal_ignoring_case(value, "cdrom-raw") ||
                           equal_ignoring_case(value, "atapi-cdrom") ||
                           starts_with_ignoring_case(value, "scsi-passthru");
  else if (property == "filetype" && equal_ignoring_case(value, "device"))
    drive.is_host_device = true;
}

bool names_a_file(std::string_view lower_key) noexcept {
  return lower_key == "nvram" || lower_key == "extendedconfigfile" ||
         lower_key == "checkpoint.vmstate";
}

}  // namespace

std::string_view take_line(std::string_view& text) noexcept {
  const std::size_t end = std::min(text.find('\n'), text.size());
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(std::min(end + 1, text.size()));
  return trim(line);
}

std::optional<TextSetting> parse_setting(std::string_view line) noexcept {
  const std::size_t equals = line.find('=');
  if (line.starts_with('#') || equals == line.npos)
    return std::nullopt;
  TextSetting setting{trim(line.substr(0, equals)), trim(line.substr(equals + 1))};
  if (setting.key.empty())
    return std::nullopt;
  if (setting.value.starts_with('"')) {
    setting.value.remove_prefix(1);
    setting.value = setting.value.substr(0, setting.value.find('"'));
  }
  return setting;
}

std::string to_lower(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(), lower);
  return result;
}

bool equal_ignoring_case(std::string_view a, std::string_view b) noexcept {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return lower(x) == lower(y); });
}

bool starts_with_ignoring_case(std::string_view text, std::string_view start) noexcept {
  return equal_ignoring_case(text.substr(0, start.size()), start);
}

bool ends_with_ignoring_case(std::string_view text, std::string_view end) noexcept {
  return text.size() >= end.size() &&
         equal_ignoring_case(text.substr(text.size() - end.size()), end);
}

Status read_vmx(ImageReader& image, FactsBuilder& facts) {
  SLIPWAY_TRY_ASSIGN(const std::string text, read_dictionary(image));
  facts.recognise(ImageClass::kConfig, "vmx");
  std::map<std::string, Drive> drives;  // by device, such as "scsi0:0"
  for (std::string_view rest = text; !rest.empty();) {
    const auto setting = parse_setting(take_line(rest));
    if (!setting.has_value())
      continue;
    const std::string key = to_lower(setting->key);
    const std::size_t dot = key.rfind('.');
    if (names_a_file(key) && !setting->value.empty())
      facts.add_name(unescape(setting->value));
    else if (dot != key.npos && is_drive(key))
      set_property(drives[key.substr(0, dot)], std::string_view(key).substr(dot + 1),
                   setting->value);
  }
  for (const auto& [device, drive] : drives)
    if (drive.is_file())
      facts.add_name(drive.file);
  return {};
}

Status read_vmsd(ImageReader& image, FactsBuilder& facts) {
  SLIPWAY_TRY_ASSIGN(const std::string text, read_dictionary(image));
  facts.recognise(ImageClass::kConfig, "vmsd");
  for (std::string_view rest = text; !rest.empty();) {
    const auto setting = parse_setting(take_line(rest));
    if (setting.has_value() && !setting->value.empty() &&
        starts_with_ignoring_case(setting->key, "snapshot") &&
        ends_with_ignoring_case(setting->key, ".filename"))
      facts.add_name(unescape(setting->value));
  }
  return {};
}

}  // namespace slipway
