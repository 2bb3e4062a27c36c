#include "server/checkpoint_format.h"

#include "base/checksum.h"
#include "wire/codec.h"
#include "wire/fields.h"

#include <algorithm>
#include <string_view>

namespace slipway {

namespace {

constexpr std::string_view kJournalMagic = "SLIPJRNL";
constexpr std::string_view kAppliedMagic = "SLIPDONE";
constexpr std::string_view kSmallMagic = "SLIPSMAL";
constexpr std::uint16_t kFormat = 1;
constexpr std::uint64_t kHeadSeed = 0x6a6f75726e616c31;
constexpr std::uint64_t kAppliedSeed = 0x6170706c69656431;
constexpr std::uint64_t kSmallSeed = 0x736d616c6c313131;
constexpr std::size_t kSlotStartSize = 4;  // bytes: the record's length
constexpr std::size_t kOutcomeSizeMin = 4 + 2;

void put_checksum(Bytes& to, std::size_t from, std::uint64_t seed) {
  const std::uint64_t checksum = checksum64(ByteView(to).subspan(from), seed);
  WireWriter(to).u64(checksum);
}

bool is_intact(ByteView bytes, std::uint64_t seed) noexcept {
  if (bytes.size() < kRecordEndSize)
    return false;
  WireReader end(bytes.last(kRecordEndSize));
  return end.u64() == checksum64(bytes.first(bytes.size() - kRecordEndSize), seed);
}

void put_magic(Bytes& to, std::string_view magic) {
  WireWriter writer(to);
  writer.raw(as_bytes(magic));
  writer.u16(kFormat);
  writer.u16(0);
}

void take_magic(WireReader& from, std::string_view magic) {
  if (as_text(from.raw(magic.size())) != magic || from.u16() != kFormat || from.u16() != 0)
    from.set_bad();
}

// Behind everything else, and only when there are some: plans of before have none.
void put_taken(WireWriter& to, const std::vector<PlannedOutcome>& outcomes) {
  const auto count = std::count_if(outcomes.begin(), outcomes.end(),
                                   [](const PlannedOutcome& outcome) { return outcome.is_taken; });
  if (count == 0)
    return;
  to.u32(static_cast<std::uint32_t>(count));
  for (std::size_t i = 0; i < outcomes.size(); ++i)
    if (outcomes[i].is_taken)
      to.u32(static_cast<std::uint32_t>(i));
}

void get_taken(WireReader& from, CommitPlan& plan) {
  if (from.left() == 0)
    return;
  const std::size_t count = get_count(from, plan.outcomes.size(), 4);
  if (count == 0)
    from.set_bad();
  for (std::size_t i = 0, next = 0; i < count && !from.bad(); ++i) {
    const std::size_t index = from.u32();
    const bool is_good = index >= next && index < plan.outcomes.size() &&
                         index < plan.request.files.size() &&
                         plan.outcomes[index].status == 0 &&
                         is_made_directory(plan.request.files[index]);
    if (!is_good)
      return from.set_bad();
    plan.outcomes[index].is_taken = true;
    next = index + 1;
  }
}

// What the decoders of messages call a broken protocol is damage here.
Error as_damage(Error error) {
  error.code = ErrorCode::kCorrupt;
  return error;
}

}  // namespace

void encode(Bytes& to, const JournalHead& head) {
  const std::size_t start = to.size();
  put_magic(to, kJournalMagic);
  WireWriter writer(to);
  writer.raw(head.client);
  writer.raw(head.group);
  writer.u64(head.checkpoint);
  put_checksum(to, start, kHeadSeed);
}

Result<JournalHead> decode_journal_head(ByteView bytes) {
  if (bytes.size() != kJournalHeadSize || !is_intact(bytes, kHeadSeed))
    return fail(ErrorCode::kCorrupt, "not the head of a journal");
  WireReader from(bytes);
  take_magic(from, kJournalMagic);
  JournalHead head;
  head.client = get_array<16>(from);
  head.group = get_array<16>(from);
  head.checkpoint = from.u64();
  if (from.bad() || head.checkpoint == 0)
    return fail(ErrorCode::kCorrupt, "the head of a journal of another format");
  return head;
}

Bytes encode_record(JournalRecordKind kind, std::uint32_t part, ByteView body,
                    std::uint64_t checkpoint) {
  Bytes record;
  record.reserve(kRecordStartSize + body.size() + kRecordEndSize);
  WireWriter writer(record);
  writer.u8(static_cast<std::uint8_t>(kind));
  writer.u8(0);
  writer.u16(0);
  writer.u32(part);
  writer.u64(body.size());
  writer.raw(body);
  put_checksum(record, 0, checkpoint);
  return record;
}

Result<RecordStart> decode_record_start(ByteView bytes) {
  WireReader from(bytes);
  const std::uint8_t kind = from.u8();
  const bool is_padded = from.u8() == 0 && from.u16() == 0;
  RecordStart start;
  start.kind = static_cast<JournalRecordKind>(kind);
  start.part = from.u32();
  start.length = from.u64();
  const bool is_part = start.kind == JournalRecordKind::kPart && start.part < kStagePartsMax;
  const bool is_commit = start.kind == JournalRecordKind::kCommit && start.part == 0;
  if (from.bad() || !is_padded || !(is_part || is_commit) || start.length > kRecordBodyMax)
    return fail(ErrorCode::kCorrupt, "not the start of a record");
  return start;
}

Result<ByteView> decode_record(ByteView bytes, std::uint64_t checkpoint) {
  if (bytes.size() < kRecordStartSize + kRecordEndSize || !is_intact(bytes, checkpoint))
    return fail(ErrorCode::kCorrupt, "a record is damaged");
  SLIPWAY_TRY_ASSIGN(const RecordStart start, decode_record_start(bytes.first(kRecordStartSize)));
  if (bytes.size() != kRecordStartSize + start.length + kRecordEndSize)
    return fail(ErrorCode::kCorrupt, "a record of another length");
  return bytes.subspan(kRecordStartSize, static_cast<std::size_t>(start.length));
}

void encode(Bytes& to, const CommitPlan& plan) {
  Bytes request;
  encode(request, plan.request);
  WireWriter writer(to);
  writer.blob(request);
  writer.u32(static_cast<std::uint32_t>(plan.outcomes.size()));
  for (const PlannedOutcome& outcome : plan.outcomes) {
    writer.u32(outcome.status);
    writer.string(outcome.conflict_name);
  }
  put_taken(writer, plan.outcomes);
}

Result<CommitPlan> decode_commit_plan(ByteView body) {
  WireReader from(body);
  CommitPlan plan;
  Result<CommitRequest> request = decode_commit_request(from.blob(kRecordBodyMax));
  if (!request)
    return fail(as_damage(std::move(request).error()));
  plan.request = std::move(*request);
  const std::size_t count = get_count(from, kCommitFilesMax, kOutcomeSizeMin);
  plan.outcomes.reserve(count);
  for (std::size_t i = 0; i < count && !from.bad(); ++i) {
    PlannedOutcome& outcome = plan.outcomes.emplace_back();
    outcome.status = from.u32();
    outcome.conflict_name = from.string(kNameMax);
    if (!outcome.conflict_name.empty() &&
        (outcome.status == 0 || !is_valid_name(outcome.conflict_name)))
      from.set_bad();
  }
  get_taken(from, plan);
  if (from.bad() || from.left() != 0 || plan.outcomes.size() != plan.request.files.size())
    return fail(ErrorCode::kCorrupt, "a commit record is malformed");
  return plan;
}

Bytes encode_applied(const AppliedRecord& record) {
  Bytes reply;
  encode(reply, record.reply);
  Bytes to;
  put_magic(to, kAppliedMagic);
  WireWriter writer(to);
  writer.u64(record.checkpoint);
  writer.blob(reply);
  put_checksum(to, 0, kAppliedSeed);
  return to;
}

Result<AppliedRecord> decode_applied(ByteView bytes) {
  if (!is_intact(bytes, kAppliedSeed))
    return fail(ErrorCode::kCorrupt, "the record of what was applied is damaged");
  WireReader from(bytes.first(bytes.size() - kRecordEndSize));
  take_magic(from, kAppliedMagic);
  AppliedRecord record;
  record.checkpoint = from.u64();
  const ByteView blob = from.blob(kAppliedMax);
  if (from.bad() || from.left() != 0 || record.checkpoint == 0)
    return fail(ErrorCode::kCorrupt, "the record of what was applied is malformed");
  Result<CommitReply> reply = decode_commit_reply(blob);
  if (!reply)
    return fail(as_damage(std::move(reply).error()));
  record.reply = std::move(*reply);
  return record;
}

Bytes encode_small_commit(ByteView content) {
  Bytes to;
  to.reserve(kSmallStartSize + content.size());
  put_magic(to, kSmallMagic);
  WireWriter writer(to);
  writer.u32(static_cast<std::uint32_t>(content.size()));
  writer.u64(checksum64(content, kSmallSeed));
  writer.raw(content);
  return to;
}

Result<ByteView> decode_small_commit(ByteView bytes) {
  WireReader from(bytes);
  take_magic(from, kSmallMagic);
  const std::uint32_t length = from.u32();
  const std::uint64_t checksum = from.u64();
  const ByteView content = from.raw(length);
  if (from.bad() || checksum64(content, kSmallSeed) != checksum)
    return fail(ErrorCode::kCorrupt, "no whole commit");
  return content;
}

Bytes encode_applied_slot(const AppliedRecord& record) {
  const Bytes applied = encode_applied(record);
  Bytes slot;
  if (applied.size() > kSmallAppliedSlot - kSlotStartSize)
    return slot;
  WireWriter writer(slot);
  writer.u32(static_cast<std::uint32_t>(applied.size()));
  writer.raw(applied);
  slot.resize(kSmallAppliedSlot, std::byte{0});
  return slot;
}

Result<AppliedRecord> decode_applied_slot(ByteView slot) {
  if (std::all_of(slot.begin(), slot.end(), [](std::byte b) { return b == std::byte{0}; }))
    return AppliedRecord{};
  WireReader from(slot);
  const std::uint32_t length = from.u32();
  const ByteView applied = from.raw(length);
  if (from.bad())
    return fail(ErrorCode::kCorrupt, "a record of what was applied is cut off");
  return decode_applied(applied);
}

}  // namespace slipway
