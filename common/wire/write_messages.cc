#include "wire/write_messages.h"

#include "wire/codec.h"
#include "wire/fields.h"

#include <algorithm>

namespace slipway {
namespace {

constexpr std::uint32_t kModeMask = 07777;
constexpr std::uint8_t kMakeExclusive = 1;
constexpr std::uint8_t kMakePublished = 2;
constexpr std::uint32_t kCommitPublished = 1;
constexpr std::uint32_t kCommitMakes = 2;
constexpr std::size_t kExtentSize = 4 + 1 + 8 + 8 + 4;
constexpr std::size_t kCommitFileSizeMin = 2 + 12 + 8 + kVersionSize + 8 + 8 + 12;
constexpr std::size_t kResultSizeMin = 4 + 2;
constexpr std::size_t kCommitMakeSize = 4 + 1 + 4;
constexpr std::size_t kFileIdSize = 12;

OperationId get_operation(WireReader& from) noexcept {
  const OperationId operation = from.u64();
  if (operation == 0)
    from.set_bad();
  return operation;
}

std::uint32_t get_bits(WireReader& from, std::uint32_t allowed) noexcept {
  const std::uint32_t bits = from.u32();
  if ((bits & ~allowed) != 0)
    from.set_bad();
  return bits;
}

std::uint64_t get_size(WireReader& from) noexcept {
  const std::uint64_t size = from.u64();
  if (size > kFileSizeMax)
    from.set_bad();
  return size;
}

ByteRange get_range(WireReader& from) noexcept {
  ByteRange range;
  range.offset = from.u64();
  range.length = from.u64();
  if (range.empty() || !is_valid(range))
    from.set_bad();
  return range;
}

bool is_good(const StageExtent& extent) noexcept {
  if (extent.file >= kCommitFilesMax)
    return false;
  switch (extent.kind) {
    case StageKind::kData:
      return extent.length <= kStageExtentMax && extent.stored == extent.length;
    case StageKind::kZstd:
      return extent.length <= kStageExtentMax && extent.stored > 0 &&
             extent.stored < extent.length;
    case StageKind::kZero:
    case StageKind::kHole:
    case StageKind::kAllocate:
      return extent.stored == 0;
  }
  return false;
}

bool has_makes(const std::vector<CommitFile>& files) noexcept {
  return std::any_of(files.begin(), files.end(),
                     [](const CommitFile& file) { return file.make.has_value(); });
}

// Behind everything else, and only when there is one: so a commit without is what it was before there
// were any, in journals too.
void put_makes(WireWriter& to, const std::vector<CommitFile>& files) {
  const auto count = std::count_if(files.begin(), files.end(),
                                   [](const CommitFile& file) { return file.make.has_value(); });
  to.u32(static_cast<std::uint32_t>(count));
  for (std::size_t i = 0; i < files.size(); ++i) {
    if (!files[i].make)
      continue;
    to.u32(static_cast<std::uint32_t>(i));
    to.u8(static_cast<std::uint8_t>(files[i].make->kind));
    to.u32(files[i].make->mode);
  }
}

void get_makes(WireReader& from, std::vector<CommitFile>& files) {
  const std::size_t count = get_count(from, files.size(), kCommitMakeSize);
  if (count == 0)
    from.set_bad();
  for (std::size_t i = 0, next = 0; i < count && !from.bad(); ++i) {
    const std::uint32_t index = from.u32();
    const std::uint8_t kind = from.u8();
    const std::uint32_t mode = get_bits(from, kModeMask);
    const bool is_kind = kind == static_cast<std::uint8_t>(MakeKind::kFile) ||
                         kind == static_cast<std::uint8_t>(MakeKind::kDirectory);
    if (index < next || index >= files.size() || !is_kind || files[index].node.path.empty())
      return from.set_bad();
    files[index].make = CommitMake{static_cast<MakeKind>(kind), mode};
    next = std::size_t{index} + 1;
  }
}

void put_all(WireWriter& to, const std::vector<Attributes>& all) {
  to.u32(static_cast<std::uint32_t>(all.size()));
  for (const Attributes& attributes : all)
    put(to, attributes);
}

std::vector<Attributes> get_all(WireReader& from, FileType type) {
  std::vector<Attributes> all;
  const std::size_t count = get_count(from, kPrepareMax, kAttributesSize);
  all.reserve(count);
  for (std::size_t i = 0; i < count && !from.bad(); ++i)
    if (all.emplace_back(get_attributes(from)).type != type)
      from.set_bad();
  return all;
}

}  // namespace

void encode(Bytes& to, const MakeRequest& m) {
  WireWriter writer(to);
  writer.u64(m.operation);
  writer.u8(static_cast<std::uint8_t>(m.kind));
  put(writer, m.directory);
  writer.string(m.name);
  writer.u32(m.mode);
  writer.string(m.target);
  writer.u64(m.handle);
  writer.u8(static_cast<std::uint8_t>((m.exclusive ? kMakeExclusive : 0) |
                                      (m.even_published ? kMakePublished : 0)));
}

void encode(Bytes& to, const MakeReply& m) {
  WireWriter writer(to);
  put_bool(writer, m.made);
  put(writer, m.attributes);
}

void encode(Bytes& to, const LinkRequest& m) {
  WireWriter writer(to);
  writer.u64(m.operation);
  put(writer, m.file);
  put(writer, m.directory);
  writer.string(m.name);
}

void encode(Bytes& to, const RemoveRequest& m) {
  WireWriter writer(to);
  writer.u64(m.operation);
  put(writer, m.directory);
  writer.string(m.name);
  put_bool(writer, m.is_directory);
}

void encode(Bytes& to, const RenameRequest& m) {
  WireWriter writer(to);
  writer.u64(m.operation);
  put(writer, m.from);
  writer.string(m.from_name);
  put(writer, m.to);
  writer.string(m.to_name);
  writer.u32(m.flags);
}

void encode(Bytes& to, const SetattrRequest& m) {
  WireWriter writer(to);
  writer.u64(m.operation);
  writer.u64(m.handle);
  put(writer, m.node);
  writer.u32(m.mask);
  writer.u32(m.mode);
  writer.u32(m.uid);
  writer.u32(m.gid);
  put(writer, m.atime);
  put(writer, m.mtime);
}

void encode(Bytes& to, const CopyRequest& m) {
  WireWriter writer(to);
  writer.u64(m.operation);
  writer.u64(m.from);
  writer.u64(m.from_offset);
  writer.u64(m.to);
  writer.u64(m.to_offset);
  writer.u64(m.length);
}

void encode(Bytes& to, const ChangeReply& m) {
  WireWriter writer(to);
  put(writer, m.before);
  put(writer, m.after);
  writer.u64(m.bytes);
}

void encode(Bytes& to, const SyncRequest& m) {
  WireWriter writer(to);
  put(writer, m.node);
}

void encode(Bytes& to, const StageRequest& m) {
  WireWriter writer(to);
  writer.raw(m.group);
  writer.u64(m.checkpoint);
  writer.u32(m.part);
  writer.u32(static_cast<std::uint32_t>(m.extents.size()));
  for (const StageExtent& extent : m.extents) {
    writer.u32(extent.file);
    writer.u8(static_cast<std::uint8_t>(extent.kind));
    writer.u64(extent.offset);
    writer.u64(extent.length);
    writer.u32(extent.stored);
  }
  writer.raw(m.data);
}

void encode(Bytes& to, const CommitRequest& m) {
  WireWriter writer(to);
  writer.raw(m.group);
  writer.u64(m.checkpoint);
  writer.u32(m.parts);
  writer.u32(static_cast<std::uint32_t>(m.files.size()));
  for (const CommitFile& file : m.files) {
    put(writer, file.node);
    writer.u64(file.handle);
    put(writer, file.base);
    writer.u64(file.keep);
    writer.u64(file.size);
    put(writer, file.mtime);
  }
  const bool makes = has_makes(m.files);
  writer.u32((m.even_published ? kCommitPublished : 0) | (makes ? kCommitMakes : 0));
  if (makes)
    put_makes(writer, m.files);
}

void encode(Bytes& to, const PrepareRequest& m) {
  WireWriter writer(to);
  put(writer, m.directory);
  writer.string(m.name);
  writer.u32(m.files);
  writer.u32(m.directories);
  put_bool(writer, m.tidy);
  writer.u32(static_cast<std::uint32_t>(m.kept.size()));
  for (const FileId& id : m.kept)
    put(writer, id);
}

void encode(Bytes& to, const PrepareReply& m) {
  WireWriter writer(to);
  put_bool(writer, m.may_make);
  put_bool(writer, m.exists);
  put_all(writer, m.files);
  put_all(writer, m.directories);
}

void encode(Bytes& to, const CommitReply& m) {
  WireWriter writer(to);
  writer.u32(static_cast<std::uint32_t>(m.files.size()));
  for (const CommitResult& result : m.files) {
    writer.u32(result.status);
    writer.string(result.conflict_name);
    if (result.status == 0)
      put(writer, result.attributes);
  }
}

Result<MakeRequest> decode_make_request(ByteView body) {
  WireReader from(body);
  MakeRequest m;
  m.operation = get_operation(from);
  const std::uint8_t kind = from.u8();
  if (kind < static_cast<std::uint8_t>(MakeKind::kFile) ||
      kind > static_cast<std::uint8_t>(MakeKind::kSymlink))
    from.set_bad();
  m.kind = static_cast<MakeKind>(kind);
  m.directory = get_node(from);
  m.name = get_name(from);
  m.mode = get_bits(from, kModeMask);
  m.target = from.string(kLinkTargetMax);
  m.handle = from.u64();
  const std::uint8_t flags = from.u8();
  m.exclusive = (flags & kMakeExclusive) != 0;
  m.even_published = (flags & kMakePublished) != 0;
  if (m.target.empty() == (m.kind == MakeKind::kSymlink) ||
      (m.handle != 0 && m.kind != MakeKind::kFile) || m.target.find('\0') != std::string::npos ||
      (flags & ~(kMakeExclusive | kMakePublished)) != 0)
    from.set_bad();
  return finished(from, "make request", std::move(m));
}

Result<MakeReply> decode_make_reply(ByteView body) {
  WireReader from(body);
  MakeReply m;
  m.made = get_bool(from);
  m.attributes = get_attributes(from);
  return finished(from, "make reply", std::move(m));
}

Result<LinkRequest> decode_link_request(ByteView body) {
  WireReader from(body);
  LinkRequest m;
  m.operation = get_operation(from);
  m.file = get_node(from);
  m.directory = get_node(from);
  m.name = get_name(from);
  return finished(from, "link request", std::move(m));
}

Result<RemoveRequest> decode_remove_request(ByteView body) {
  WireReader from(body);
  RemoveRequest m;
  m.operation = get_operation(from);
  m.directory = get_node(from);
  m.name = get_name(from);
  m.is_directory = get_bool(from);
  return finished(from, "remove request", std::move(m));
}

Result<RenameRequest> decode_rename_request(ByteView body) {
  WireReader from(body);
  RenameRequest m;
  m.operation = get_operation(from);
  m.from = get_node(from);
  m.from_name = get_name(from);
  m.to = get_node(from);
  m.to_name = get_name(from);
  m.flags = get_bits(from, kRenameNoReplace | kRenameExchange);
  if (m.flags == (kRenameNoReplace | kRenameExchange))
    from.set_bad();
  return finished(from, "rename request", std::move(m));
}

Result<SetattrRequest> decode_setattr_request(ByteView body) {
  WireReader from(body);
  SetattrRequest m;
  m.operation = get_operation(from);
  m.handle = from.u64();
  m.node = get_node(from);
  m.mask = get_bits(from, kSetMode | kSetUid | kSetGid | kSetAtime | kSetMtime | kSetPublished);
  m.mode = get_bits(from, kModeMask);
  m.uid = from.u32();
  m.gid = from.u32();
  m.atime = get_timestamp(from);
  m.mtime = get_timestamp(from);
  return finished(from, "setattr request", std::move(m));
}

Result<CopyRequest> decode_copy_request(ByteView body) {
  WireReader from(body);
  CopyRequest m;
  m.operation = get_operation(from);
  m.from = get_handle(from);
  m.from_offset = get_size(from);
  m.to = get_handle(from);
  m.to_offset = get_size(from);
  m.length = get_size(from);
  if (!is_valid({m.from_offset, m.length}) || !is_valid({m.to_offset, m.length}))
    from.set_bad();
  return finished(from, "copy request", std::move(m));
}

Result<ChangeReply> decode_change_reply(ByteView body) {
  WireReader from(body);
  ChangeReply m;
  m.before = get_version(from);
  m.after = get_attributes(from);
  m.bytes = get_size(from);
  return finished(from, "change reply", std::move(m));
}

Result<SyncRequest> decode_sync_request(ByteView body) {
  WireReader from(body);
  SyncRequest m;
  m.node = get_node(from);
  return finished(from, "sync request", std::move(m));
}

Result<StageRequest> decode_stage_request(ByteView body) {
  WireReader from(body);
  StageRequest m;
  m.group = get_array<16>(from);
  m.checkpoint = from.u64();
  m.part = from.u32();
  const std::size_t count = get_count(from, kStageExtentsMax, kExtentSize);
  m.extents.reserve(count);
  std::uint64_t stored = 0;
  for (std::size_t i = 0; i < count && !from.bad(); ++i) {
    StageExtent extent;
    extent.file = from.u32();
    extent.kind = static_cast<StageKind>(from.u8());
    const ByteRange range = get_range(from);
    extent.offset = range.offset;
    extent.length = range.length;
    extent.stored = from.u32();
    if (!is_good(extent))
      from.set_bad();
    stored += extent.stored;
    m.extents.push_back(extent);
  }
  if (m.checkpoint == 0 || m.part >= kStagePartsMax || stored > kFrameDataMax ||
      stored != from.left())
    from.set_bad();
  m.data = from.raw(from.left());
  return finished(from, "stage request", std::move(m));
}

Result<CommitRequest> decode_commit_request(ByteView body) {
  WireReader from(body);
  CommitRequest m;
  m.group = get_array<16>(from);
  m.checkpoint = from.u64();
  m.parts = from.u32();
  const std::size_t count = get_count(from, kCommitFilesMax, kCommitFileSizeMin);
  m.files.reserve(count);
  for (std::size_t i = 0; i < count && !from.bad(); ++i) {
    CommitFile& file = m.files.emplace_back();
    file.node = get_node(from);
    file.handle = from.u64();
    file.base = get_version(from);
    file.keep = get_size(from);
    file.size = get_size(from);
    file.mtime = get_timestamp(from);
    if (file.keep > file.base.size)
      from.set_bad();
  }
  const std::uint32_t flags = get_bits(from, kCommitPublished | kCommitMakes);
  m.even_published = (flags & kCommitPublished) != 0;
  if ((flags & kCommitMakes) != 0)
    get_makes(from, m.files);
  if (m.checkpoint == 0 || m.parts > kStagePartsMax)
    from.set_bad();
  return finished(from, "commit request", std::move(m));
}

Result<CommitReply> decode_commit_reply(ByteView body) {
  WireReader from(body);
  CommitReply m;
  const std::size_t count = get_count(from, kCommitFilesMax, kResultSizeMin);
  m.files.reserve(count);
  for (std::size_t i = 0; i < count && !from.bad(); ++i) {
    CommitResult& result = m.files.emplace_back();
    result.status = from.u32();
    result.conflict_name = from.string(kNameMax);
    if (result.status == 0)
      result.attributes = get_attributes(from);
  }
  return finished(from, "commit reply", std::move(m));
}

Result<PrepareRequest> decode_prepare_request(ByteView body) {
  WireReader from(body);
  PrepareRequest m;
  m.directory = get_node(from);
  m.name = from.string(kNameMax);
  m.files = from.u32();
  m.directories = from.u32();
  m.tidy = get_bool(from);
  const std::size_t count = get_count(from, kPrepareKeptMax, kFileIdSize);
  m.kept.reserve(count);
  for (std::size_t i = 0; i < count && !from.bad(); ++i)
    m.kept.push_back(get_file_id(from));
  const bool is_name = m.name.empty() || is_valid_name(m.name);
  if (!is_name || m.files > kPrepareMax || m.directories > kPrepareMax)
    from.set_bad();
  return finished(from, "prepare request", std::move(m));
}

Result<PrepareReply> decode_prepare_reply(ByteView body) {
  WireReader from(body);
  PrepareReply m;
  m.may_make = get_bool(from);
  m.exists = get_bool(from);
  m.files = get_all(from, FileType::kRegular);
  m.directories = get_all(from, FileType::kDirectory);
  return finished(from, "prepare reply", std::move(m));
}

}  // namespace slipway
