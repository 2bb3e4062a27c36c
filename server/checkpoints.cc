#include "server/checkpoints.h"

#include "base/guarded.h"
#include "base/log.h"
#include "server/checkpoint_apply.h"
#include "server/checkpoint_group.h"
#include "server/prepared_inodes.h"
#include "wire/compression.h"

#include <algorithm>
#include <cerrno>
#include <dirent.h>
#include <fcntl.h>
#include <filesystem>
#include <list>
#include <optional>
#include <sys/stat.h>
#include <unistd.h>

namespace slipway {

namespace {

constexpr std::size_t kGroupsOpenMax = 256;  // of one session; others are opened again
constexpr std::size_t kIdDigits = 32;        // of a client and of a group

Result<UniqueFd> open_journals(const std::string& path) {
  std::error_code error;
  const std::string parent = std::filesystem::path(path).parent_path();
  if (std::filesystem::create_directories(parent, error))
    ::chmod(parent.c_str(), 0700);
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST)
    return fail_errno(errno, "the journals '{}'", escape(path));
  return open_own(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);
}

std::optional<std::array<std::byte, 16>> parse_id(std::string_view digits) {
  std::array<std::byte, 16> id{};
  for (std::size_t i = 0; i < digits.size(); ++i) {
    const char c = digits[i];
    if ((c < '0' || c > '9') && (c < 'a' || c > 'f'))
      return std::nullopt;
    const auto digit = static_cast<unsigned>(c <= '9' ? c - '0' : c - 'a' + 10);
    id[i / 2] = id[i / 2] << 4 | std::byte{static_cast<unsigned char>(digit)};
  }
  return id;
}

struct GroupName {
  ClientId client{};
  GroupId group{};
};

std::optional<GroupName> parse_group_name(std::string_view name) {
  if (name.size() != 2 * kIdDigits + 1 || name[kIdDigits] != '-')
    return std::nullopt;
  const auto client = parse_id(name.substr(0, kIdDigits));
  const auto group = parse_id(name.substr(kIdDigits + 1));
  if (!client || !group)
    return std::nullopt;
  return GroupName{*client, *group};
}

/// What lies in the journals of a user, as the names say.
struct JournalNames {
  std::vector<GroupName> groups;
  std::vector<ClientId> clients;
};

Result<JournalNames> list_all(int journals) {
  const int fd = ::openat(journals, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(fd >= 0 ? ::fdopendir(fd) : nullptr, &::closedir);
  if (dir == nullptr)
    return fail_errno(errno, "the journals");
  JournalNames names;
  for (;;) {
    errno = 0;
    const struct dirent* const entry = ::readdir(dir.get());
    if (entry == nullptr && errno != 0)
      return fail_errno(errno, "readdir of the journals");
    if (entry == nullptr)
      return names;
    const std::string_view name = entry->d_name;
    if (const auto group = parse_group_name(name))
      names.groups.push_back(*group);
    else if (const auto client = name.size() == kIdDigits ? parse_id(name) : std::nullopt)
      names.clients.push_back(*client);
  }
}

Result<std::vector<GroupName>> list_groups(int journals) {
  SLIPWAY_TRY_ASSIGN(JournalNames names, list_all(journals));
  return std::move(names.groups);
}

// A journal that can't be believed is left alone: null.
Result<std::shared_ptr<CheckpointGroup>> open_believed(int journals, const GroupName& name,
                                                       DirectoryStore& store) {
  auto group = CheckpointGroup::open(journals, name.client, name.group, store);
  if (group || group.error().code != ErrorCode::kNotPermitted)
    return group;
  log_warning("a journal is left alone: {}", group.error().message);
  return std::shared_ptr<CheckpointGroup>();
}

bool has_commits(int journals, const GroupName& name) {
  Result<UniqueFd> directory =
      open_own(journals, CheckpointGroup::directory_name(name.client, name.group),
               O_RDONLY | O_DIRECTORY);
  if (!directory)
    return false;
  const JournalDirectory journal(std::move(*directory));
  const auto committed = journal.list(kCommitPrefix);
  const auto small = journal.small().open_commit(name.client, name.group);
  return !committed || !committed->empty() || !small || small->has_value();
}

// A frame that can't be applied must not get into a commit.
Status check_frames(const StageRequest& request) {
  Bytes content;
  return for_each_extent(request, [&](const StageExtent& extent, ByteView stored) -> Status {
    if (extent.kind != StageKind::kZstd)
      return {};
    content.resize(static_cast<std::size_t>(extent.length));
    if (!decompress_unit(stored, content))
      return fail(ErrorCode::kInvalid, "an extent is not a zstd frame of {} bytes", extent.length);
    return {};
  });
}

class CheckpointJournals final : public Checkpoints {
 public:
  CheckpointJournals(UniqueFd journals, const ClientId& client, DirectoryStore& store)
      : journals_(std::move(journals)), client_(client), store_(store) {}

  Status recover() {
    SLIPWAY_TRY_ASSIGN(const JournalNames names, list_all(journals_.get()));
    for (const GroupName& name : names.groups) {
      SLIPWAY_TRY_ASSIGN(const std::shared_ptr<CheckpointGroup> group,
                         open_believed(journals_.get(), name, store_));
      if (group == nullptr)
        continue;
      SLIPWAY_TRY(group->recover());
      if (name.client != client_)
        group->remove_old();
    }
    for (const ClientId& client : names.clients)
      if (client != client_)
        remove_old_prepared(client);
    return {};
  }

  Status stage(const StageRequest& request) override {
    SLIPWAY_TRY(check_frames(request));
    Bytes body;
    encode(body, request);
    SLIPWAY_TRY_ASSIGN(const std::shared_ptr<CheckpointGroup> group, find(request.group));
    return group->stage(request, body);
  }

  using Checkpoints::commit;

  Result<CommitReply> commit(const CommitRequest& request, HandleTable& handles,
                             LeaseStore* leases) override {
    SLIPWAY_TRY_ASSIGN(const std::shared_ptr<CheckpointGroup> group, find(request.group));
    return group->commit(request, handles, leases);
  }

  Result<PrepareReply> prepare(const PrepareRequest& request) override {
    SLIPWAY_TRY_ASSIGN(PreparedDirectory prepared,
                       PreparedDirectory::make(journals_.get(), client_));
    if (const Status tidied = request.tidy ? tidy(request.kept, prepared) : Status(); !tidied)
      log_warning("prepared inodes stay: {}", tidied.error().message);  // kPreparedMax at most
    return prepare_inodes(request, prepared, store_);
  }

 private:
  Result<bool> has_commits_of(const ClientId& client) const {
    SLIPWAY_TRY_ASSIGN(const std::vector<GroupName> names, list_groups(journals_.get()));
    return std::any_of(names.begin(), names.end(), [&](const GroupName& name) {
      return name.client == client && has_commits(journals_.get(), name);
    });
  }

  // Nothing that a commit under way names is removed.
  Status tidy(const std::vector<FileId>& kept, PreparedDirectory& prepared) {
    SLIPWAY_TRY(finish_pending());
    SLIPWAY_TRY(prepared.lock_alone());
    SLIPWAY_TRY_ASSIGN(const bool has_pending, has_commits_of(client_));
    if (has_pending)
      return fail(ErrorCode::kBusy, "a commit of this client is not applied yet");
    return tidy_inodes(kept, prepared, store_);
  }

  // What this client committed names inodes that must be there until it is applied.
  Status finish_pending() {
    SLIPWAY_TRY_ASSIGN(const std::vector<GroupName> names, list_groups(journals_.get()));
    for (const GroupName& name : names) {
      if (name.client != client_ || !has_commits(journals_.get(), name))
        continue;
      SLIPWAY_TRY_ASSIGN(const std::shared_ptr<CheckpointGroup> group, find(name.group));
      SLIPWAY_TRY(group->recover());
    }
    return {};
  }

  // Best effort.
  void remove_old_prepared(const ClientId& client) const {
    Result<PreparedDirectory> prepared = PreparedDirectory::open(journals_.get(), client);
    if (!prepared || !prepared->try_lock_alone())
      return;
    if (const Result<bool> has_pending = has_commits_of(client); has_pending && !*has_pending)
      prepared->remove_older_than(kPreparedKept);
  }

  struct OpenGroup {
    GroupId id{};
    std::shared_ptr<CheckpointGroup> group;
  };

  // The last one used stands first. One that falls off is opened again when it is needed.
  Result<std::shared_ptr<CheckpointGroup>> find(const GroupId& id) {
    auto groups = groups_.lock();
    for (auto at = groups->begin(); at != groups->end(); ++at) {
      if (at->id != id)
        continue;
      groups->splice(groups->begin(), *groups, at);
      return at->group;
    }
    SLIPWAY_TRY_ASSIGN(std::shared_ptr<CheckpointGroup> group,
                       CheckpointGroup::open(journals_.get(), client_, id, store_));
    groups->push_front({id, group});
    if (groups->size() > kGroupsOpenMax)
      groups->pop_back();
    return group;
  }

  const UniqueFd journals_;
  const ClientId client_;
  DirectoryStore& store_;
  Guarded<std::list<OpenGroup>> groups_;
};

// Nothing when there are none.
Result<UniqueFd> open_existing_journals(const std::string& directory) {
  Result<UniqueFd> journals = open_own(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY);
  if (!journals && journals.error().code == ErrorCode::kNotFound)
    return UniqueFd();
  return journals;
}

}  // namespace

Result<bool> Checkpoints::has_unfinished(const std::string& directory) {
  SLIPWAY_TRY_ASSIGN(const UniqueFd journals, open_existing_journals(directory));
  if (!journals)
    return false;
  SLIPWAY_TRY_ASSIGN(const std::vector<GroupName> names, list_groups(journals.get()));
  return std::any_of(names.begin(), names.end(), [&](const GroupName& name) {
    return has_commits(journals.get(), name);
  });
}

Result<std::size_t> Checkpoints::finish(const std::string& directory, DirectoryStore& store) {
  SLIPWAY_TRY_ASSIGN(const UniqueFd journals, open_existing_journals(directory));
  if (!journals)
    return 0;
  SLIPWAY_TRY_ASSIGN(const std::vector<GroupName> names, list_groups(journals.get()));
  std::size_t finished = 0;
  for (const GroupName& name : names) {
    if (!has_commits(journals.get(), name))
      continue;
    SLIPWAY_TRY_ASSIGN(const std::shared_ptr<CheckpointGroup> group,
                       open_believed(journals.get(), name, store));
    if (group != nullptr) {
      SLIPWAY_TRY_ASSIGN(const std::size_t applied, group->finish());
      finished += applied;
    }
  }
  return finished;
}

Result<std::unique_ptr<Checkpoints>> Checkpoints::open(const std::string& directory,
                                                       const std::array<std::byte, 16>& client_id,
                                                       DirectoryStore& store) {
  if (directory.empty())
    return fail(ErrorCode::kNotSupported, "there is nowhere to keep a journal");
  SLIPWAY_TRY_ASSIGN(UniqueFd journals, open_journals(directory));
  auto made = std::make_unique<CheckpointJournals>(std::move(journals), client_id, store);
  SLIPWAY_TRY(made->recover());
  return made;
}

}  // namespace slipway
