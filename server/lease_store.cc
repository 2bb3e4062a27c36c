#include "server/lease_store.h"

#include "base/log.h"

#include <algorithm>
#include <limits>
#include <pwd.h>
#include <unistd.h>

namespace slipway {

namespace {

std::int64_t system_now() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::string cut(std::string name) {
  name.resize(std::min(name.size(), kLeaseNameMax));
  return name;
}

std::string first_component(const std::string& path) {
  return path.substr(0, path.find('/'));
}

// Numbers grow over mounts and users of a group whose files have all gone: none comes twice.
std::uint64_t first_epoch(std::int64_t now_ms) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(now_ms, 1));
}

std::string describe(const LeaseRecord& record) {
  return fmt::format("'{}' on '{}'", escape(record.user), escape(record.host));
}

}  // namespace

std::string user_name(uid_t uid) {
  struct passwd entry {};
  struct passwd* found = nullptr;
  std::string buffer(16 * 1024, '\0');
  if (::getpwuid_r(uid, &entry, buffer.data(), buffer.size(), &found) == 0 && found != nullptr)
    return found->pw_name;
  return fmt::format("{}", uid);
}

LeaseStore::LeaseStore(Options options, LeaseDirectory directory)
    : options_(std::move(options)), directory_(std::move(directory)) {}

Result<std::unique_ptr<LeaseStore>> LeaseStore::open(Options options) {
  SLIPWAY_TRY_ASSIGN(LeaseDirectory directory,
                     LeaseDirectory::open(options.directory, options.top));
  options.holder.host = cut(std::move(options.holder.host));
  options.holder.user = cut(std::move(options.holder.user));
  if (!options.now)
    options.now = system_now;
  return std::unique_ptr<LeaseStore>(new LeaseStore(std::move(options), std::move(directory)));
}

std::string LeaseStore::group_of(const std::string& path) const {
  return first_component(options_.prefix.empty() ? path : options_.prefix);
}

std::string LeaseStore::export_path() const {
  if (options_.prefix.empty())
    return options_.top;
  return (options_.top == "/" ? "" : options_.top) + "/" + options_.prefix;
}

Result<LeaseReply> LeaseStore::answer(const LeaseRequest& request) {
  switch (request.action) {
    case LeaseAction::kAcquire:
      return acquire(group_of(request.path), request.unsent_bytes);
    case LeaseAction::kRenew:
      return renew(group_of(request.path), request.epoch, request.unsent_bytes);
    case LeaseAction::kRelease:
      return release(group_of(request.path), request.epoch);
    case LeaseAction::kList:
      return list(request.group);
    case LeaseAction::kBreak:
      return break_lease(request.group, request.epoch);
    case LeaseAction::kAwait:
      return fail(ErrorCode::kNotSupported, "leases are not watched");
  }
  return fail(ErrorCode::kInvalid, "no such action");
}

bool LeaseStore::is_mine(const LeaseRecord& record) const noexcept {
  return record.held && record.client_id == options_.holder.client_id &&
         record.mount_id == options_.holder.mount_id;
}

// Expiry alone takes nothing from a holder that has something to send.
bool LeaseStore::is_live(const LeaseRecord& record) const {
  return record.held && (record.unsent_bytes != 0 || options_.now() < record.expires_ms);
}

// Of what this export does not lie in, a mount can neither renew nor release anything.
bool LeaseStore::is_ours(const std::string& group, const LeaseRecord& record) const {
  return is_mine(record) ||
         (record.held && record.client_id == options_.holder.client_id &&
          (options_.prefix.empty() || group == group_of("")));
}

std::optional<LeaseStore::Known> LeaseStore::known(const std::string& group) const {
  auto known = known_.lock();
  const auto found = known->groups.find(group);
  return found == known->groups.end() ? std::nullopt : std::optional(found->second);
}

// The client says that it had the lease. Names that stand for nothing are not kept in mind.
void LeaseStore::note_lost(const std::string& group, const Known& lost,
                           const LeaseDirectory::Found& found) {
  auto known = known_.lock();
  const auto had = known->groups.find(group);
  if (had != known->groups.end())
    had->second = lost;
  else if (known->groups.size() < kLeasesKnownMax && (found.any || directory_.exists(group)))
    known->groups.emplace(group, lost);
}

Result<LeaseStore::Locked> LeaseStore::lock(const std::string& group, LeaseLock::Mode mode) const {
  SLIPWAY_TRY_ASSIGN(LeaseLock lock, directory_.lock(group, mode));
  SLIPWAY_TRY_ASSIGN(LeaseDirectory::Found found, directory_.read(group));
  lock.set_unused(!found.any);
  return Locked{std::move(lock), std::move(found)};
}

Result<LeaseReply> LeaseStore::acquire(const std::string& group, std::uint64_t unsent) {
  SLIPWAY_TRY_ASSIGN(Locked locked, lock(group, LeaseLock::Mode::kAlone));
  const LeaseDirectory::Found& found = locked.found;
  const std::int64_t now = options_.now();
  // A client has one mount at a time: its earlier one is gone, whatever the record says.
  const bool is_ours = found.record && found.record->held &&
                       found.record->client_id == options_.holder.client_id;
  if (found.record && !is_ours && is_live(*found.record)) {
    note_waited(group, found.record->epoch);
    directory_.write_wish(group, {now, options_.holder.host});
    return reply_of(LeaseOutcome::kHeld, group, found.record);
  }
  LeaseRecord record;
  record.group = group;
  {
    auto known = known_.lock();
    if (known->groups.size() >= kLeasesKnownMax && !known->groups.contains(group))
      return fail(ErrorCode::kTooManyOpen, "this mount has {} leases", kLeasesKnownMax);
    record.epoch = std::max(first_epoch(now), known->last_epoch + 1);
  }
  if (is_ours)
    record.epoch = found.record->epoch;
  else if (found.record)
    record.epoch = std::max(found.record->epoch + 1, record.epoch);
  if (record.epoch > LeaseRecord::kEpochMax)
    return fail(ErrorCode::kInvalid, "the lease on '{}' has no epochs left", escape(group));
  record.held = true;
  record.client_id = options_.holder.client_id;
  record.mount_id = options_.holder.mount_id;
  record.acquired_ms = is_ours ? found.record->acquired_ms : now;
  record.expires_ms = now + options_.length.count();
  record.unsent_bytes = unsent;
  record.host = options_.holder.host;
  record.user = options_.holder.user;
  record.uid = ::geteuid();
  // The record of another user with the same number would go on counting.
  if (is_ours && found.record->uid != record.uid)
    ++record.epoch;
  if (found.record && found.record->held && !is_ours)
    log_info("the lease on '{}' of {} has expired and passes on", escape(group),
             describe(*found.record));
  SLIPWAY_TRY(directory_.write(record));
  locked.lock.set_unused(false);
  directory_.remove_wish(group);
  {
    auto known = known_.lock();
    known->groups[group] = {record.epoch, false};
    known->waited.erase(group);
    known->last_epoch = std::max(known->last_epoch, record.epoch);
  }
  return reply_of(LeaseOutcome::kDone, group, record);
}

Result<LeaseReply> LeaseStore::renew(const std::string& group, std::uint64_t epoch,
                                     std::uint64_t unsent) {
  SLIPWAY_TRY_ASSIGN(Locked locked, lock(group, LeaseLock::Mode::kAlone));
  LeaseDirectory::Found& found = locked.found;
  if (!found.record || !is_mine(*found.record) || found.record->epoch != epoch) {
    const bool knows = known(group).value_or(Known{}).lost;
    note_lost(group, {epoch, knows}, found);
    return reply_of(LeaseOutcome::kLost, group, found.record);
  }
  known_.lock()->groups[group] = {epoch, false};
  // A question in between, for who may be waiting, costs no write.
  const std::int64_t left = found.record->expires_ms - options_.now();
  const bool is_news = (unsent == 0) != (found.record->unsent_bytes == 0);
  if (is_news || left <= options_.length.count() * 2 / 3 || left > options_.length.count()) {
    found.record->expires_ms = options_.now() + options_.length.count();
    found.record->unsent_bytes = unsent;
    SLIPWAY_TRY(directory_.write(*found.record));
  }
  return reply_of(LeaseOutcome::kDone, group, found.record);
}

Result<LeaseReply> LeaseStore::release(const std::string& group, std::uint64_t epoch) {
  SLIPWAY_TRY_ASSIGN(Locked locked, lock(group, LeaseLock::Mode::kAlone));
  LeaseDirectory::Found& found = locked.found;
  if (!found.record || !is_mine(*found.record) || found.record->epoch != epoch) {
    // The client knows now: what it still sends is not meant for the files themselves.
    note_lost(group, {epoch, true}, found);
    return reply_of(LeaseOutcome::kLost, group, found.record);
  }
  LeaseRecord& record = *found.record;
  record.held = false;
  record.unsent_bytes = 0;
  if (found.others)
    SLIPWAY_TRY(directory_.write(record));
  else
    directory_.remove(group);
  locked.lock.set_unused(!found.others);
  known_.lock()->groups.erase(group);
  return reply_of(LeaseOutcome::kDone, group, record);
}

Result<LeaseReply> LeaseStore::list(const std::string& after) const {
  SLIPWAY_TRY_ASSIGN(const std::vector<std::string> groups, directory_.groups());
  LeaseReply reply;
  reply.whole_export = !options_.prefix.empty();
  auto at = groups.begin();
  if (!after.empty())
    at = std::upper_bound(groups.begin(), groups.end(), after);
  for (; at != groups.end(); ++at) {
    SLIPWAY_TRY_ASSIGN(const LeaseDirectory::Found found, directory_.read(*at));
    if (!found.record || !found.record->held)
      continue;
    if (reply.leases.size() == kLeaseEntriesMax) {
      reply.more = true;
      break;
    }
    reply.leases.push_back(entry_of(*at, found.record));
  }
  return reply;
}

Result<LeaseReply> LeaseStore::break_lease(const std::string& group, std::uint64_t epoch) {
  SLIPWAY_TRY_ASSIGN(Locked locked, lock(group, LeaseLock::Mode::kAlone));
  LeaseDirectory::Found& found = locked.found;
  if (!found.record || !found.record->held || found.record->epoch != epoch)
    return reply_of(LeaseOutcome::kLost, group, found.record);
  LeaseRecord record = *found.record;
  if (record.uid != ::geteuid() && !directory_.is_believed(group))
    return fail(ErrorCode::kAccessDenied,
                "only root and who may write to '{}' can break the lease on it", escape(group));
  log_warning("the lease on '{}' of {} is broken, {} of its writes are not here; should they come, "
              "they go into their files if nobody else has changed those or has the lease, else "
              "into conflict copies",
              escape(group), describe(record), format_size(record.unsent_bytes));
  if (record.epoch == LeaseRecord::kEpochMax)
    return fail(ErrorCode::kInvalid, "the lease on '{}' has no epochs left", escape(group));
  ++record.epoch;
  record.held = false;
  record.unsent_bytes = 0;
  record.uid = ::geteuid();
  SLIPWAY_TRY(directory_.write(record));
  return reply_of(LeaseOutcome::kDone, group, record);
}

Result<LeaseStore::Passage> LeaseStore::enter(const std::vector<std::string>& paths,
                                              Purpose purpose) {
  std::set<std::string> groups;  // in order, so that two who want the same don't wait in a circle
  for (const std::string& path : paths)
    groups.insert(group_of(path));
  Passage passage;
  passage.store_ = this;
  for (const std::string& group : groups) {
    SLIPWAY_TRY_ASSIGN(Locked locked, lock(group, LeaseLock::Mode::kShared));
    passage.locks_.push_back(std::move(locked.lock));
    if (Status good = check(group, locked.found, purpose, passage); !good) {
      if (good.error().code == ErrorCode::kBusy)
        directory_.write_wish(group, {options_.now(), options_.holder.host});
      return fail(std::move(good).error());
    }
  }
  return passage;
}

Status LeaseStore::check(const std::string& group, const LeaseDirectory::Found& found,
                         Purpose purpose, Passage& passage) const {
  const std::optional<Known> had = known(group);
  if (had && !had->lost) {
    if (found.record && is_mine(*found.record) && found.record->epoch == had->epoch)
      return {};
    return fail(ErrorCode::kLeaseLost, "the lease on '{}' is lost", escape(group));
  }
  const bool is_anothers = found.record && is_live(*found.record) &&
                           found.record->client_id != options_.holder.client_id;
  if (!is_anothers)
    return {};
  if (had && purpose == Purpose::kCommit) {
    passage.refused_.insert(group);
    return {};
  }
  return fail(ErrorCode::kBusy, "{} holds the lease on '{}'", describe(*found.record),
              escape(group));
}

LeaseEntry LeaseStore::entry_of(const std::string& group,
                                const std::optional<LeaseRecord>& record) const {
  LeaseEntry entry;
  entry.group = group;
  if (!record)
    return entry;
  const std::int64_t now = options_.now();
  entry.epoch = record->epoch;
  entry.held = record->held;
  entry.mine = is_mine(*record);
  entry.ours = is_ours(group, *record);
  entry.host = record->host;
  entry.user = record->user;
  entry.uid = record->uid;
  entry.age_ms = now - record->acquired_ms;
  entry.expires_in_ms = record->expires_ms - now;
  entry.unsent_bytes = record->unsent_bytes;
  if (record->held)
    entry.wanted_by = directory_.wished_by(group, now);
  return entry;
}

LeaseReply LeaseStore::reply_of(LeaseOutcome outcome, const std::string& group,
                                const std::optional<LeaseRecord>& record) const {
  LeaseReply reply;
  reply.outcome = outcome;
  reply.whole_export = !options_.prefix.empty();
  reply.leases.push_back(entry_of(group, record));
  return reply;
}

}  // namespace slipway
