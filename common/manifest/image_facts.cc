#include "manifest/image_facts.h"

#include "manifest/facts_builder.h"
#include "manifest/image_reader.h"
#include "manifest/memory_formats.h"
#include "manifest/qcow2.h"
#include "manifest/raw_formats.h"
#include "manifest/vm_text.h"
#include "manifest/vmdk.h"

#include <utility>

namespace slipway {

namespace {

ImageFacts facts_by_name(const NameFacts& name, std::uint64_t size) {
  return {.image_class = name.image_class,
          .plan = plan_for(name.image_class, size),
          .format = std::string(name.format)};
}

Status read_disk(ImageReader& image, FactsBuilder& facts) {
  SLIPWAY_TRY(read_qcow2(image, facts));
  if (!facts.is_recognised())
    SLIPWAY_TRY(read_vmdk(image, /*may_be_descriptor=*/false, facts));
  if (!facts.is_recognised())
    read_raw_disk(image, facts);
  return {};
}

Status read_vmdk_by_name(ImageReader& image, FactsBuilder& facts) {
  SLIPWAY_TRY(read_vmdk(image, /*may_be_descriptor=*/true, facts));
  if (!facts.is_recognised())
    facts.recognise(ImageClass::kDisk, "vmdk-flat");
  return {};
}

/// For names that promise a format: a file without it is complained of, unless it is empty.
Status require_recognised(const ImageReader& image, const FactsBuilder& facts) {
  if (!facts.is_recognised() && image.size() > 0)
    return fail(ErrorCode::kInvalid, "it isn't in the format that its name promises");
  return {};
}

/// Leaves `facts` unrecognised when the name says all there is to say.
Status read_content(NameKind kind, std::string_view name, ImageReader& image, FactsBuilder& facts) {
  switch (kind) {
    case NameKind::kUnknown:
      SLIPWAY_TRY(read_memory_format(name, image, facts));
      return facts.is_recognised() ? Status() : read_disk(image, facts);
    case NameKind::kDisk:
      return read_disk(image, facts);
    case NameKind::kQcow2:
      SLIPWAY_TRY(read_qcow2(image, facts));
      return require_recognised(image, facts);
    case NameKind::kVmdk:
      return read_vmdk_by_name(image, facts);
    case NameKind::kMemory:
      return read_memory_format(name, image, facts);
    case NameKind::kSavedState:
      SLIPWAY_TRY(read_memory_format(name, image, facts));
      return require_recognised(image, facts);
    case NameKind::kVmx:
      return read_vmx(image, facts);
    case NameKind::kVmsd:
      return read_vmsd(image, facts);
    case NameKind::kRawDisk:
    case NameKind::kRawMemory:
    case NameKind::kConfig:
    case NameKind::kPlain:
      return {};
  }
  return {};
}

/// Ordinary text has these names, too: other programs' configuration.
bool is_common_text(const NameFacts& name) noexcept {
  return name.kind == NameKind::kConfig && name.format == "text";
}

}  // namespace

std::string_view name_of(ImageClass image_class) noexcept {
  switch (image_class) {
    case ImageClass::kOther:
      return "other";
    case ImageClass::kDisk:
      return "disk";
    case ImageClass::kMemory:
      return "memory";
    case ImageClass::kConfig:
      return "config";
  }
  return "other";
}

std::string_view name_of(TransferPlan plan) noexcept {
  switch (plan) {
    case TransferPlan::kDemand:
      return "demand";
    case TransferPlan::kBulk:
      return "bulk";
    case TransferPlan::kWhole:
      return "whole";
  }
  return "demand";
}

ImageFacts read_image_facts(std::string_view name, ImageBytes& bytes) {
  ImageReader image(bytes);
  const NameFacts of_name = facts_of_name(name, image.size());
  FactsBuilder facts(image.size());
  const Status status = read_content(of_name.kind, name, image, facts);
  if (status.has_value() && facts.is_recognised())
    return std::move(facts).finish();
  ImageFacts by_name = facts_by_name(of_name, image.size());
  if (!status.has_value())
    by_name.complaint = status.error().message;
  return by_name;
}

TransferPlan plan_by_name(std::string_view name, std::uint64_t size) noexcept {
  const NameFacts facts = facts_of_name(name, size);
  const TransferPlan of_class = plan_for(facts.image_class, size);
  return of_class == TransferPlan::kDemand ? plan_for(ImageClass::kOther, size) : of_class;
}

bool names_machine(std::string_view name) noexcept {
  const NameFacts facts = facts_of_name(name, 0);
  return facts.image_class != ImageClass::kOther && !is_common_text(facts);
}

}  // namespace slipway
