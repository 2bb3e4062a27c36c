#include "writelog/log_recovery.h"

#include "base/log.h"
#include "writelog/segment_walk.h"

#include <algorithm>
#include <fcntl.h>
#include <limits>
#include <optional>
#include <sys/random.h>
#include <sys/stat.h>

namespace slipway {
namespace {

/// A file with a segment's name. Without `segment` its header is damaged.
struct Candidate {
  std::string name;
  std::uint64_t number = 0;
  std::uint64_t bytes = 0;
  std::shared_ptr<LogSegment> segment;
};

/// One recovery, step by step.
class Recovery {
 public:
  Recovery(SegmentSet& set, LogVisitor& visitor) : set_(set), visitor_(visitor) {}

  Result<RecoveredLog> run() {
    SLIPWAY_TRY(look());
    SLIPWAY_TRY(clean_up());
    find_synced();
    replay_segments();
    SLIPWAY_TRY(end_prefix());
    log_.synced = std::min(proven_, log_.next_sequence - 1);
    report();
    return std::move(log_);
  }

 private:
  Status look();
  Status look_at(const std::string& name, std::uint64_t number);
  Status clean_up();
  void find_synced();
  void replay_segments();
  bool replay(const std::shared_ptr<LogSegment>& segment, std::uint64_t end_sequence);
  bool hand_over(const SegmentWalk::Step& step, const Bytes& data, const LogPlace& place);
  Status end_prefix();
  Status set_aside(const Candidate& candidate, bool whole, bool damaged);
  void report() const;

  SegmentSet& set_;
  LogVisitor& visitor_;
  RecoveredLog log_;
  std::vector<Candidate> found_;
  std::vector<std::string> worthless_;  ///< names: spares
  std::vector<std::string> stale_;      ///< names: what an earlier recovery put aside without need
  std::uint64_t proven_ = 0;            ///< records up to this one had been synced
  std::size_t replayed_ = 0;            ///< segments; the last one perhaps not to its end
};

Status Recovery::look() {
  SLIPWAY_TRY_ASSIGN(const std::vector<std::string> names, set_.list());
  for (const std::string& name : names) {
    const LogFileName parsed = parse_log_file_name(name);
    log_.next_number = std::max(log_.next_number, parsed.number + 1);
    switch (parsed.kind) {
      case LogFileName::Kind::kSegment:
        SLIPWAY_TRY(look_at(name, parsed.number));
        break;
      case LogFileName::Kind::kSpare:
        worthless_.push_back(name);
        break;
      case LogFileName::Kind::kUnsynced:
        stale_.push_back(name);
        break;
      case LogFileName::Kind::kDamaged:
        log_.report.set_aside.push_back(name);
        break;
      case LogFileName::Kind::kOther:
        break;
    }
  }
  return {};
}

Status Recovery::look_at(const std::string& name, std::uint64_t number) {
  UniqueFd fd(::openat(set_.directory_fd(), name.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
  struct stat st{};
  if (!fd || ::fstat(fd.get(), &st) != 0)
    return fail_errno(errno, "open '{}'", set_.path_of(name));
  Bytes start(kLogHeaderSize);
  const auto n = pread_full(fd.get(), start, 0);
  start.resize(n.value_or(0));
  const auto header = decode_log_header(start);
  if (!header.has_value() && header.error().code == ErrorCode::kVersionMismatch)
    return fail(header.error());
  Candidate candidate{name, number, static_cast<std::uint64_t>(st.st_size), nullptr};
  // A name can be older than what is in the file: that number is taken too.
  if (header.has_value())
    log_.next_number = std::max(log_.next_number, header->number + 1);
  // Made or recycled, but a power cut came before the header (or the new name) was on the disk: no
  // record in it can have been synced.
  const bool is_unborn = n.has_value() && !header.has_value() && is_all_zero(start);
  if (is_unborn || (header.has_value() && header->number != number)) {
    worthless_.push_back(name);
    return {};
  }
  const bool is_first = std::none_of(found_.begin(), found_.end(),
                                     [](const Candidate& c) { return c.segment != nullptr; });
  if (header.has_value() && is_first)
    log_.id = header->id;
  if (header.has_value() && header->id == log_.id) {
    constexpr auto kNothing = std::numeric_limits<std::uint64_t>::max();
    candidate.segment =
        std::make_shared<LogSegment>(std::move(fd), set_.path_of(name), *header, kNothing);
  }
  found_.push_back(std::move(candidate));
  return {};
}

Status Recovery::clean_up() {
  for (const Candidate& candidate : found_)
    set_.add_bytes(candidate.bytes);
  for (const std::string& name : stale_)
    SLIPWAY_TRY(set_.remove(name));
  for (const std::string& name : worthless_)
    SLIPWAY_TRY(set_.add_spare(name));
  const bool has_id = std::any_of(found_.begin(), found_.end(),
                                  [](const Candidate& c) { return c.segment != nullptr; });
  if (!has_id && ::getrandom(log_.id.data(), log_.id.size(), 0) !=
                     static_cast<ssize_t>(log_.id.size()))
    return fail(ErrorCode::kIo, "no random numbers");
  return {};
}

/// The newest segment knows best: each record says what had been synced when it was written.
void Recovery::find_synced() {
  const Candidate* newest = nullptr;
  for (const Candidate& candidate : found_) {
    if (candidate.segment == nullptr)
      continue;
    newest = &candidate;
    proven_ = std::max(proven_, candidate.segment->header().synced);
    log_.next_file = std::max(log_.next_file, candidate.segment->header().next_file);
  }
  if (newest == nullptr)
    return;
  SegmentWalk walk(*newest->segment);
  std::uint64_t sequence = newest->segment->header().first_sequence;
  while (const auto step = walk.peek(sequence)) {
    walk.take(*step);
    sequence++;
  }
  proven_ = std::max({proven_, walk.synced(), walk.scan_tail(sequence).synced});
}

void Recovery::replay_segments() {
  for (replayed_ = 0; replayed_ < found_.size(); replayed_++) {
    const std::shared_ptr<LogSegment>& segment = found_[replayed_].segment;
    if (segment == nullptr)
      return;
    if (replayed_ == 0)
      log_.next_sequence = segment->header().first_sequence;
    else if (segment->header().first_sequence != log_.next_sequence)
      return;
    // Where the next segment begins this one ended, whatever lies there: what could not be written
    // or was not recovered.
    std::uint64_t end_sequence = std::numeric_limits<std::uint64_t>::max();
    if (replayed_ + 1 < found_.size() && found_[replayed_ + 1].segment != nullptr)
      end_sequence = found_[replayed_ + 1].segment->header().first_sequence;
    log_.segments.push_back(segment);
    if (!replay(segment, end_sequence)) {
      replayed_++;
      return;
    }
  }
}

/// False when the log can't go on behind this segment.
bool Recovery::replay(const std::shared_ptr<LogSegment>& segment, std::uint64_t end_sequence) {
  SegmentWalk walk(*segment);
  while (log_.next_sequence < end_sequence) {
    const auto step = walk.peek(log_.next_sequence);
    if (!step)
      break;
    const LogRecord& record = step->record;
    const LogPlace place{{segment, step->data_position(), record.data_length, record.data_checksum},
                         record.sequence};
    const bool is_write = record.kind == LogKind::kWrite;
    Bytes data;
    // What had been synced is whole or was damaged later; that shows when it is used.
    if (!is_write || record.sequence > proven_) {
      auto read = walk.data(*step);
      if (!read)
        break;
      data = std::move(*read);
      segment->set_verified(place.data.position);
    }
    if (!hand_over(*step, data, place))
      break;
    walk.take(*step);
    log_.next_sequence++;
    log_.report.records++;
  }
  log_.tail = walk.position();
  return end_sequence == std::numeric_limits<std::uint64_t>::max() ||
         log_.next_sequence == end_sequence;
}

bool Recovery::hand_over(const SegmentWalk::Step& step, const Bytes& data, const LogPlace& place) {
  const LogRecord& record = step.record;
  const auto known = log_.files.find(record.file);
  switch (record.kind) {
    case LogKind::kFile: {
      const auto file = decode_log_file(data);
      if (!file.has_value())
        return false;
      log_.files[record.file] = *file;
      log_.next_file = std::max(log_.next_file, record.file + 1);
      visitor_.on_file(record.file, *file);
      return true;
    }
    case LogKind::kCheckpoint: {
      const auto checkpoint = decode_log_checkpoint(data);
      if (checkpoint.has_value())
        visitor_.on_checkpoint(*checkpoint, place);
      return checkpoint.has_value();
    }
    case LogKind::kApplied: {
      const auto applied = decode_log_applied(data);
      if (!applied.has_value())
        return false;
      for (const LogApplied::File& file : applied->files) {
        if (const auto found = log_.files.find(file.file); found != log_.files.end())
          found->second.base = file.version;
      }
      visitor_.on_applied(*applied, place);
      return true;
    }
    case LogKind::kRename: {
      const std::string path(as_text(data));
      if (known == log_.files.end() || !is_valid_path(path))
        return false;
      known->second.path = path;
      visitor_.on_rename(record.file, path, place);
      return true;
    }
    case LogKind::kForget:
      visitor_.on_forget(record.file, place);
      return true;
    case LogKind::kMake: {
      const auto make = decode_log_make(data, record.mtime);
      if (!make.has_value() || known == log_.files.end())
        return false;
      visitor_.on_make(record.file, *make, place);
      return true;
    }
    case LogKind::kWrite:
    case LogKind::kZero:
    case LogKind::kHole:
    case LogKind::kAllocate:
    case LogKind::kTruncate:
      if (known == log_.files.end())
        return false;
      visitor_.on_change({record.kind, record.file, record.offset, record.length, record.mtime},
                         place);
      return true;
    case LogKind::kMark:
      break;
  }
  return false;
}

/// What lies behind the prefix: nothing, a torn record, what a power cut left in no order, or
/// records that a damage cut off.
Status Recovery::end_prefix() {
  SegmentWalk::Tail tail;
  bool is_cut = false;
  if (!log_.segments.empty()) {
    SegmentWalk walk(*log_.segments.back());
    walk.skip_to(log_.tail);
    tail = walk.scan_tail(log_.next_sequence);
    is_cut = walk.is_cut();
    proven_ = std::max(proven_, tail.synced);
  }
  bool damaged = proven_ >= log_.next_sequence || tail.unreadable || is_cut;
  std::uint64_t lost = tail.records;
  std::uint64_t newest = 0;
  for (std::size_t i = replayed_; i < found_.size(); i++) {
    if (found_[i].segment == nullptr) {
      damaged = true;
      continue;
    }
    SegmentWalk walk(*found_[i].segment);
    const auto rest = walk.scan_tail(log_.next_sequence);
    lost += rest.records;
    proven_ = std::max(proven_, rest.synced);
    newest = std::max(newest, rest.newest);
  }
  damaged = damaged || proven_ >= log_.next_sequence;
  log_.report.damaged = damaged;
  log_.report.unsynced_lost = damaged ? 0 : lost;
  if (log_.segments.empty())  // numbers that were in use are not used again
    log_.next_sequence = std::max(log_.next_sequence, newest + 1);
  log_.can_continue = !log_.segments.empty() && replayed_ == found_.size() && !damaged &&
                      tail.records == 0 &&
                      log_.segments.back()->header().format == kLogFormat;
  if (log_.can_continue)
    log_.segments.back()->set_verified_from(log_.tail);
  if (!log_.segments.empty() && (tail.later > 0 || damaged))
    SLIPWAY_TRY(set_aside(found_[log_.segments.size() - 1], false, damaged));
  for (std::size_t i = replayed_; i < found_.size(); i++)
    SLIPWAY_TRY(set_aside(found_[i], true, damaged));
  return {};
}

/// Moves a segment out of the log; or, if the log still needs its first part, gives it a second
/// name, under which it outlives the log's use of it.
Status Recovery::set_aside(const Candidate& candidate, bool whole, bool damaged) {
  const std::string name =
      fmt::format("{}-{:016x}", damaged ? "damaged" : "unsynced", candidate.number);
  if (whole)
    SLIPWAY_TRY(set_.rename(candidate.name, name));
  else
    SLIPWAY_TRY(set_.link(candidate.name, name));
  if (whole)
    set_.subtract_bytes(candidate.bytes);
  auto& names = log_.report.set_aside;
  if (damaged && std::find(names.begin(), names.end(), name) == names.end())
    names.push_back(name);
  return {};
}

void Recovery::report() const {
  const LogRecovery& r = log_.report;
  if (r.damaged) {
    log_error(
        "write log: DAMAGED after record {}: unsent changes that came later were not recovered and "
        "are kept in {}",
        log_.next_sequence - 1,
        r.set_aside.empty() ? "no file" : set_.path_of(r.set_aside.front()));
  }
  if (r.unsynced_lost > 0) {
    log_warning("write log: {} records that were never synced were lost after record {}",
                r.unsynced_lost, log_.next_sequence - 1);
  }
  if (r.records > 0)
    log_info("write log: {} records recovered", r.records);
}

}  // namespace

Result<RecoveredLog> recover_log(SegmentSet& set, LogVisitor& visitor) {
  return Recovery(set, visitor).run();
}

}  // namespace slipway
