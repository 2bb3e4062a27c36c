#include "publish/text_report.h"

#include <nlohmann/json.hpp>

#include <cstdio>

namespace slipway {

namespace {

constexpr std::chrono::seconds kTellEvery{1};

using Json = nlohmann::ordered_json;

// Names are bytes; what is no UTF-8 in them is replaced.
void print_line(const Json& line) {
  fmt::print("{}\n", line.dump(-1, ' ', false, Json::error_handler_t::replace));
  std::fflush(stdout);
}

}  // namespace

void JsonReport::planned(std::uint64_t files, std::uint64_t bytes) {
  files_ += files;
  bytes_ += bytes;
}

void JsonReport::progress(const std::string& path, std::uint64_t bytes) {
  bytes_done_ += bytes;
  if (SteadyClock::instance().now() - told_ < kTellEvery)
    return;
  told_ = SteadyClock::instance().now();
  print_line({{"event", "progress"},
              {"path", path},
              {"files", files_},
              {"bytes", bytes_},
              {"bytes_done", bytes_done_}});
}

void JsonReport::published(const PublishedImage& image) {
  Json line = {{"event", "published"},           {"path", image.path},
               {"root", to_text(image.root)},    {"class", name_of(image.image_class)},
               {"plan", name_of(image.plan)},    {"size", image.size},
               {"zero_bytes", image.zero_bytes}, {"rebound", image.is_rebound}};
  line["frame_bytes"] = image.has_frames ? Json(image.frame_bytes) : Json(nullptr);
  print_line(line);
}

void JsonReport::skipped(const std::string& path, std::uint64_t size) {
  bytes_done_ += size;
  print_line({{"event", "skipped"}, {"path", path}, {"size", size}});
}

void JsonReport::failed(const std::string& path, const Error& error) {
  print_line({{"event", "failed"},
              {"path", path},
              {"error", name_of(error.code)},
              {"message", error.message}});
}

void JsonReport::note(const std::string& path, const std::string& text) {
  print_line({{"event", "note"}, {"path", path}, {"message", text}});
}

void JsonReport::finished(const PublishSummary& summary) {
  const double seconds =
      std::chrono::duration<double>(SteadyClock::instance().now() - start_).count();
  print_line({{"event", "summary"},
              {"published", summary.published},
              {"skipped", summary.skipped},
              {"failed", summary.failed},
              {"bytes", summary.bytes},
              {"frame_bytes", summary.frame_bytes},
              {"seconds", seconds},
              {"interrupted", summary.interrupted}});
}

}  // namespace slipway
