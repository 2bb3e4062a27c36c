#include "server/lease_awaits.h"

#include "base/log.h"
#include "server/answer.h"
#include "server/lease_files.h"

#include <exception>
#include <utility>

namespace slipway {

namespace {

constexpr std::size_t kLookedAtMax = 64;         // groups in one go
constexpr std::chrono::milliseconds kPause{10};  // between two goes: files may change fast
constexpr std::chrono::seconds kKept{60};        // the watch, without a question

void answer(const LeaseAwaits::Question& question, const LeaseReply& reply) {
  Bytes frame;
  begin_frame(frame, reply_header(question.header, false));
  encode(frame, reply);
  question.to->push(SendClass::kControl, {{std::move(frame), {}}, question.hold});
}

void refuse(const LeaseAwaits::Question& question, const Error& why) {
  question.to->push(SendClass::kControl,
                    {{encode_error_reply(question.header, why), {}}, question.hold});
}

}  // namespace

void LeaseAwaits::ask(Question question) {
  std::optional<Question> before;
  {
    const std::lock_guard lock(mutex_);
    if (stopping_)
      return;
    if (!thread_.joinable())
      thread_ = std::thread([this] { run(); });
    before = std::exchange(question_, std::move(question));
    deadline_ = SteadyClock::instance().now() + longest_;
    wake_locked();
  }
  if (before)
    answer(*before, {});
}

void LeaseAwaits::cancel(std::uint64_t cookie) {
  std::optional<Question> cancelled;
  {
    const std::lock_guard lock(mutex_);
    if (question_ && question_->header.cookie == cookie)
      cancelled = std::exchange(question_, std::nullopt);
  }
  if (cancelled)
    refuse(*cancelled, {ErrorCode::kCancelled, "cancelled"});
}

void LeaseAwaits::drop(const SendQueue& queue) {
  std::optional<Question> dropped;  // destroyed without the lock
  const std::lock_guard lock(mutex_);
  if (question_ && question_->to.get() == &queue)
    dropped = std::exchange(question_, std::nullopt);
}

void LeaseAwaits::stop() {
  std::optional<Question> dropped;
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    dropped = std::exchange(question_, std::nullopt);
    wake_locked();
  }
  if (thread_.joinable())
    thread_.join();
}

void LeaseAwaits::wake_locked() {
  changed_.notify_all();
  if (watch_ != nullptr)
    watch_->wake();
}

void LeaseAwaits::run() noexcept {
  for (;;) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return stopping_ || question_; });
      if (stopping_)
        return;
    }
    Result<LeaseWatch> watch = LeaseWatch::open(store_.directory());
    Error why{ErrorCode::kNotSupported, "leases are not watched"};
    if (watch) {
      try {
        serve(*watch);
        continue;
      } catch (const std::exception& error) {
        why = {ErrorCode::kOutOfMemory, error.what()};
      }
    } else {
      log_info("leases are not watched: {}", watch.error().message);
    }
    if (const std::optional<Question> question = take())
      refuse(*question, why);
  }
}

std::optional<LeaseAwaits::Question> LeaseAwaits::take() {
  const std::lock_guard lock(mutex_);
  watch_ = nullptr;
  return std::exchange(question_, std::nullopt);
}

/// Until the end, or until nobody has asked for long.
void LeaseAwaits::serve(LeaseWatch& watch) {
  news_.clear();
  note({{}, true});  // whatever came before the watch
  TimePoint until{};
  for (;;) {
    bool asked = false;
    {
      const std::lock_guard lock(mutex_);
      watch_ = stopping_ ? nullptr : &watch;
      if (stopping_)
        return;
      asked = question_.has_value();
      if (asked)
        until = deadline_;
    }
    if (asked && tell(until)) {
      until = SteadyClock::instance().now() + kKept;
      continue;
    }
    if (!asked && SteadyClock::instance().now() >= until)
      break;
    const LeaseWatch::Seen seen = watch.wait(asked && !news_.empty() ? TimePoint{} : until);
    note(seen);
    if (!seen.hashes.empty() || !news_.empty())
      pause();
  }
  const std::lock_guard lock(mutex_);
  watch_ = nullptr;
}

void LeaseAwaits::pause() {
  std::unique_lock lock(mutex_);
  changed_.wait_for(lock, kPause, [this] { return stopping_; });
}

void LeaseAwaits::note(const LeaseWatch::Seen& seen) {
  if (seen.hashes.empty() && !seen.overlooked)
    return;
  for (std::string& group : store_.awaited())
    if (seen.overlooked || seen.hashes.contains(lease_hash(group)))
      news_.insert(std::move(group));
}

/// Whether there was an answer to the question, or none is needed any more.
bool LeaseAwaits::tell(TimePoint deadline) {
  LeaseReply reply;
  reply.whole_export = store_.is_one_group();
  // A new session knows of nothing yet: the client is to say what it has.
  reply.more = store_.awaited().empty();
  auto next = news_.begin();
  for (std::size_t looked_at = 0; next != news_.end() && looked_at < kLookedAtMax;
       ++next, ++looked_at)
    if (std::optional<LeaseEntry> entry = store_.news(*next))
      reply.leases.push_back(std::move(*entry));
  const bool is_news = reply.more || !reply.leases.empty();
  if (!is_news) {
    news_.erase(news_.begin(), next);
    if (!news_.empty() || SteadyClock::instance().now() < deadline)
      return false;
  }
  std::optional<Question> question;
  {
    const std::lock_guard lock(mutex_);
    question = std::exchange(question_, std::nullopt);
  }
  if (!question)
    return true;  // and the next one gets the news
  if (is_news)
    news_.erase(news_.begin(), next);
  answer(*question, reply);
  return true;
}

}  // namespace slipway
