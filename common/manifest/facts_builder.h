#pragma once

#include "base/units.h"
#include "manifest/image_facts.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace slipway {

/// The plan that follows from class and size: memory in bulk, disks on demand, small text and other
/// small files whole.
TransferPlan plan_for(ImageClass image_class, std::uint64_t size) noexcept;

/// Collects what a format's reader finds, within the limits of image_facts.h, whatever it is told.
/// One thread. Never fails: what is outside the limits is left out, names with a complaint.
class FactsBuilder {
 public:
  explicit FactsBuilder(std::uint64_t file_size) noexcept : file_size_(file_size) {}

  /// The content is of this format, whatever the name says.
  void recognise(ImageClass image_class, std::string_view format);

  bool is_recognised() const noexcept { return !facts_.format.empty(); }

  /// A file of the set. Left out, with a complaint, when no file can have this name.
  void add_name(std::string_view name);

  /// Cut off at the end of the file.
  void add_metadata(const ByteRange& range);

  /// Keeps the first complaint only: the others tend to follow from it.
  void complain(std::string_view what);

  /// REQUIRES: is_recognised().
  ImageFacts finish() &&;

 private:
  void join_metadata();

  std::uint64_t file_size_;
  ImageFacts facts_{.image_class = ImageClass::kOther, .plan = TransferPlan::kDemand, .format = ""};
};

}  // namespace slipway
