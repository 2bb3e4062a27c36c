#include "server/operation_log.h"

#include "base/log.h"
#include "server/checkpoint_journal.h"

#include <cerrno>
#include <chrono>
#include <fcntl.h>
#include <sys/stat.h>
#include <thread>
#include <unistd.h>

namespace slipway {

namespace {

constexpr std::size_t kBootTextMax = 4096;  // bytes

// Sessions are processes, and each of them has one descriptor of the lock file: so these locks,
// which belong to the descriptor, are between sessions. Byte 0 is the file's, the others stand for
// operations (that two share one costs a wait).
constexpr off_t kFileByte = 0;

off_t byte_of(OperationId operation) noexcept {
  static constexpr OperationId kBytes = OperationId{1} << 62;
  return static_cast<off_t>(1 + operation % kBytes);
}

bool try_lock(int fd, off_t byte, short type) noexcept {
  struct flock lock {};

  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = byte;
  lock.l_len = 1;
  return ::fcntl(fd, F_OFD_SETLK, &lock) == 0;
}

// Not for ever: a session that was stopped in the middle must not stop the next one.
Status lock_byte(int fd, off_t byte, unsigned wait_ms_max) {
  static constexpr unsigned kPauseMs = 5;
  for (unsigned waited = 0; !try_lock(fd, byte, F_WRLCK); waited += kPauseMs) {
    if (errno != EAGAIN && errno != EACCES)
      return fail_errno(errno, "locking the log of operations");
    if (waited >= wait_ms_max)
      return fail(ErrorCode::kBusy, "an earlier session of this client is still at it");
    std::this_thread::sleep_for(std::chrono::milliseconds(kPauseMs));
  }
  return {};
}

class ByteLock {
 public:
  static Result<ByteLock> take(int fd, off_t byte, unsigned wait_ms_max) {
    SLIPWAY_TRY(lock_byte(fd, byte, wait_ms_max));
    return ByteLock(fd, byte);
  }

  ByteLock(ByteLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)), byte_(other.byte_) {}

  ByteLock& operator=(ByteLock&&) = delete;

  ~ByteLock() {
    if (fd_ >= 0)
      try_lock(fd_, byte_, F_UNLCK);
  }

 private:
  ByteLock(int fd, off_t byte) noexcept : fd_(fd), byte_(byte) {}

  int fd_;
  const off_t byte_;
};

}  // namespace

Result<std::unique_ptr<OperationLog>> OperationLog::open(const std::string& directory) {
  Result<std::string> boot = read_small_file("/proc/sys/kernel/random/boot_id", kBootTextMax);
  return open(directory, boot ? *boot : "", Limits());
}

Result<std::unique_ptr<OperationLog>> OperationLog::open(const std::string& directory,
                                                         const std::string& boot,
                                                         const Limits& limits) {
  if (::mkdir(directory.c_str(), 0700) != 0 && errno != EEXIST)
    return fail_errno(errno, "'{}'", escape(directory));
  SLIPWAY_TRY_ASSIGN(UniqueFd opened, open_own(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY));
  SLIPWAY_TRY_ASSIGN(UniqueFd locks, open_own(opened.get(), "ops.lock", O_RDWR | O_CREAT));
  SLIPWAY_TRY_ASSIGN(OperationFile file, OperationFile::open(std::move(opened), boot));
  return std::unique_ptr<OperationLog>(new OperationLog(std::move(locks), std::move(file), limits));
}

Result<OperationLog::Turn> OperationLog::begin(OperationId operation, MessageType type) {
  {
    auto state = state_.lock();
    if (!state->running.insert(operation).second)
      return fail(ErrorCode::kBusy, "operation {} is running", operation);
  }
  Turn turn(*this, operation, type, {});  // gives back what was taken, from here on
  SLIPWAY_TRY(lock_byte(locks_.get(), byte_of(operation), limits_.wait_ms_max));
  auto state = state_.lock();
  SLIPWAY_TRY_ASSIGN(const ByteLock lock,
                     ByteLock::take(locks_.get(), kFileByte, limits_.wait_ms_max));
  SLIPWAY_TRY(state->file.refresh());
  if (const OperationEntry* const known = state->file.find(operation)) {
    if (known->type != type)
      return fail(ErrorCode::kInvalid, "operation {} was another one", operation);
    turn.known_ = *known;
  } else if (operation <= state->file.floor()) {
    return fail(ErrorCode::kStale, "operation {} was answered long ago", operation);
  }
  return turn;
}

Status OperationLog::append(const OperationRecord& record) {
  auto state = state_.lock();
  SLIPWAY_TRY_ASSIGN(const ByteLock lock,
                     ByteLock::take(locks_.get(), kFileByte, limits_.wait_ms_max));
  OperationFile& file = state->file;
  SLIPWAY_TRY(file.refresh());
  SLIPWAY_TRY(file.append(record));
  // Twice what had to stay last time, so that it does not happen again at once.
  if (file.size() > std::max(limits_.bytes_max, 2 * file.size_kept())) {
    if (const Status done = file.compact(limits_.kept_max); !done)
      log_warning("the log of operations grows: {}", done.error().message);
  }
  return {};
}

void OperationLog::end(OperationId operation) {
  try_lock(locks_.get(), byte_of(operation), F_UNLCK);
  state_.lock()->running.erase(operation);
}

OperationLog::Turn::Turn(Turn&& other) noexcept
    : log_(std::exchange(other.log_, nullptr)),
      operation_(other.operation_),
      type_(other.type_),
      known_(std::move(other.known_)) {}

OperationLog::Turn::~Turn() {
  if (log_ != nullptr)
    log_->end(operation_);
}

Status OperationLog::Turn::intend(Bytes intent) {
  return log_->append({OperationRecord::Kind::kIntent, operation_, type_, 0, std::move(intent)});
}

void OperationLog::Turn::finish(const OperationResult& result) {
  const Status done =
      log_->append({OperationRecord::Kind::kResult, operation_, type_, result.status, result.body});
  if (!done)
    log_warning("operation {} is done and not recorded: {}", operation_, done.error().message);
}

void OperationLog::Turn::withdraw() {
  const Status done = log_->append({OperationRecord::Kind::kWithdrawn, operation_, type_, 0, {}});
  if (!done)
    log_warning("operation {} failed, unrecorded: {}", operation_, done.error().message);
}

}  // namespace slipway
