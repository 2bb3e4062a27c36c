#include "session/ssh_pump.h"

#include "base/bytes.h"
#include "base/log.h"
#include "session/interruption.h"

#include <libssh/server.h>  // ssh_send_keepalive

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <utility>

namespace slipway {

namespace {

constexpr std::size_t kBufferSize = 256 * 1024;
/// libssh reads 4 KiB at a time; so many times before the socket gets its turn.
constexpr int kReadsPerTurn = 64;
constexpr std::chrono::milliseconds kFarewell{500};  ///< for what is still to be sent at the end
constexpr std::chrono::seconds kExitWait{1};         ///< between the channel's end and exit status

/// Bytes on their way in one direction.
class Buffer {
 public:
  Buffer() : bytes_(kBufferSize) {}

  bool empty() const noexcept { return begin_ == end_; }

  ByteView content() const noexcept { return ByteView(bytes_).subspan(begin_, end_ - begin_); }

  /// REQUIRES: empty().
  MutableBytes space() noexcept { return bytes_; }

  void filled(std::size_t size) noexcept {
    begin_ = 0;
    end_ = size;
  }

  void taken(std::size_t size) noexcept { begin_ += size; }

 private:
  Bytes bytes_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
};

}  // namespace

/// The thread's own state. Lives in the thread's function.
class SshPump::Loop {
 public:
  Loop(std::unique_ptr<SshLink> link, ssh_channel channel, UniqueFd local, int stop_fd,
       std::string name, const SshKeepalive& keepalive)
      : link_(std::move(link)),
        channel_(channel),
        local_(std::move(local)),
        stop_fd_(stop_fd),
        name_(std::move(name)),
        keepalive_(keepalive),
        event_(ssh_event_new()) {}

  /// Returns when the channel has ended (then its socket's stream is ended, too) or at the stop.
  End run() {
    if (!event_ || ssh_event_add_session(event_.get(), session()) != SSH_OK)
      return {.reason = "no memory"};
    watch_exit_status();
    heard_at_ = asked_at_ = std::chrono::steady_clock::now();
    while (!stopping_ && !ended_) {
      bool progress = step();
      check_life();
      wait(progress);
    }
    if (ended_)
      await_exit_status();
    show(errors_.finish());
    end_.error_line = errors_.last_line();
    // Whoever reads the other end learns that it is over, before the SSH connection is torn down.
    ::shutdown(local_.get(), SHUT_RDWR);
    return end_;
  }

  /// Gives what the socket still holds a moment to leave.
  void say_farewell() {
    if (!ended_) {
      const auto until = std::chrono::steady_clock::now() + kFarewell;
      while (!ended_ && std::chrono::steady_clock::now() < until) {
        const bool moved = step();
        const bool unsent = (ssh_get_poll_flags(session()) & SSH_WRITE_PENDING) != 0;
        if (!moved && !unsent && to_remote_.empty())
          break;
        if (!moved)
          wait_for_network(until);
      }
      ssh_channel_send_eof(channel_);
      ssh_channel_close(channel_);
      process_session();
    }
    ssh_event_remove_session(event_.get(), session());
    ssh_channel_free(channel_);
  }

 private:
  ssh_session session() const noexcept { return link_->session.get(); }

  /// One round over everything that can move; true when something did.
  bool step() {
    process_session();
    bool progress = move_to_local();
    progress = move_to_remote() || progress;
    progress = read_errors() || progress;
    if (ssh_is_connected(session()) == 0)
      end_with(link_->last_error());
    else if (ssh_channel_is_closed(channel_) != 0 && to_local_.empty() && !progress)
      ended_ = true;
    return progress;
  }

  void process_session() {
    for (int i = 0; i < kReadsPerTurn; ++i) {
      const auto before = link_->received.in_bytes;
      if (ssh_event_dopoll(event_.get(), 0) == SSH_ERROR)
        break;
      if (link_->received.in_bytes == before)
        break;
      heard_at_ = std::chrono::steady_clock::now();
    }
  }

  bool move_to_local() {
    bool progress = false;
    if (to_local_.empty() && !remote_eof_) {
      const MutableBytes space = to_local_.space();
      const int got = ssh_channel_read_nonblocking(channel_, space.data(),
                                                   static_cast<std::uint32_t>(space.size()), 0);
      if (got > 0) {
        to_local_.filled(static_cast<std::size_t>(got));
        progress = true;
      } else if (got < 0 || ssh_channel_is_eof(channel_) != 0) {
        remote_eof_ = true;
      }
    }
    while (!to_local_.empty()) {
      const ByteView content = to_local_.content();
      const ssize_t sent =
          ::send(local_.get(), content.data(), content.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR)
        continue;
      if (sent < 0 && errno == EAGAIN)
        break;
      // Nobody reads any more: SSH stays up, its bytes go nowhere.
      to_local_.taken(sent < 0 ? content.size() : static_cast<std::size_t>(sent));
      progress = true;
    }
    if (remote_eof_ && to_local_.empty())
      ended_ = true;
    return progress;
  }

  bool move_to_remote() {
    bool progress = false;
    const std::size_t window = ssh_channel_window_size(channel_);
    if (to_remote_.empty() && !local_eof_ && window > 0) {
      const MutableBytes space = to_remote_.space();
      const ssize_t got =
          ::recv(local_.get(), space.data(), std::min(space.size(), window), MSG_DONTWAIT);
      if (got > 0) {
        to_remote_.filled(static_cast<std::size_t>(got));
        progress = true;
      } else if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        local_eof_ = true;
        ssh_channel_send_eof(channel_);
      }
    }
    if (!to_remote_.empty() && window > 0) {
      const ByteView content = to_remote_.content();
      const int sent =
          ssh_channel_write(channel_, content.data(), static_cast<std::uint32_t>(content.size()));
      if (sent < 0)
        end_with(link_->last_error());
      else
        to_remote_.taken(static_cast<std::size_t>(sent));
      progress = progress || sent > 0;
    }
    return progress;
  }

  /// True when there may be more: a server that never stops writing must not keep us from the rest.
  bool read_errors() {
    std::array<std::byte, 4096> buffer;
    for (int i = 0; i < kReadsPerTurn; ++i) {
      const int got = ssh_channel_read_nonblocking(channel_, buffer.data(), buffer.size(), 1);
      if (got <= 0)
        return false;
      show(errors_.add(ByteView(buffer).first(static_cast<std::size_t>(got))));
    }
    return true;
  }

  void show(const std::vector<std::string>& lines) const {
    for (const std::string& line : lines)
      log_info("{}: {}", name_, line);
  }

  void check_life() {
    const auto now = std::chrono::steady_clock::now();
    if (now - heard_at_ >= keepalive_.dead_after) {
      end_with(fmt::format("no sign of life for {} s", keepalive_.dead_after.count()));
    } else if (now - std::max(heard_at_, asked_at_) >= keepalive_.interval) {
      asked_at_ = now;
      ssh_send_keepalive(session());
    }
  }

  void wait(bool progress) {
    if (stopping_ || ended_)
      return;
    const bool unsent = (ssh_get_poll_flags(session()) & SSH_WRITE_PENDING) != 0;
    const bool can_send =
        to_remote_.empty() && !local_eof_ && ssh_channel_window_size(channel_) > 0;
    const int events = (can_send ? POLLIN : 0) | (to_local_.empty() ? 0 : POLLOUT);
    std::array<pollfd, 3> waits = {{
        {ssh_get_fd(session()), static_cast<short>(POLLIN | (unsent ? POLLOUT : 0)), 0},
        {stop_fd_, POLLIN, 0},
        // With no event asked for, poll would still report a hang-up, again and again.
        {events != 0 ? local_.get() : -1, static_cast<short>(events), 0},
    }};
    const auto next = std::min(std::max(heard_at_, asked_at_) + keepalive_.interval,
                               heard_at_ + keepalive_.dead_after);
    ::poll(waits.data(), waits.size(), progress ? 0 : poll_timeout(next));
    stopping_ = waits[1].revents != 0;
  }

  void wait_for_network(TimePoint deadline) {
    pollfd wait{ssh_get_fd(session()), POLLIN, 0};
    if ((ssh_get_poll_flags(session()) & SSH_WRITE_PENDING) != 0)
      wait.events |= POLLOUT;
    ::poll(&wait, 1, poll_timeout(deadline));
  }

  void watch_exit_status() {
    callbacks_.userdata = this;
    callbacks_.channel_exit_status_function = [](ssh_session, ssh_channel, int status, void* self) {
      static_cast<Loop*>(self)->end_.exit_status = status;
    };
    ssh_callbacks_init(&callbacks_);
    ssh_set_channel_callbacks(channel_, &callbacks_);
  }

  /// The exit status comes after the end of the output.
  void await_exit_status() {
    const auto until = std::chrono::steady_clock::now() + kExitWait;
    while (!end_.exit_status && end_.reason.empty() && ssh_is_connected(session()) != 0 &&
           ssh_channel_is_closed(channel_) == 0 && std::chrono::steady_clock::now() < until) {
      wait_for_network(until);
      process_session();
      read_errors();
    }
    read_errors();
  }

  void end_with(std::string reason) {
    if (end_.reason.empty())
      end_.reason = std::move(reason);
    ended_ = true;
  }

  std::unique_ptr<SshLink> link_;
  ssh_channel channel_;
  UniqueFd local_;
  const int stop_fd_;
  const std::string name_;
  const SshKeepalive keepalive_;
  SshEventPtr event_;
  ssh_channel_callbacks_struct callbacks_{};
  Buffer to_local_;
  Buffer to_remote_;
  LineTail errors_;
  End end_;
  TimePoint heard_at_;
  TimePoint asked_at_;
  bool local_eof_ = false;
  bool remote_eof_ = false;
  bool ended_ = false;
  bool stopping_ = false;
};

Result<std::shared_ptr<SshPump>> SshPump::start(std::unique_ptr<SshLink> link, ssh_channel channel,
                                                std::string name, const SshKeepalive& keepalive,
                                                UniqueFd& socket) {
  std::array<int, 2> pair{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) != 0)
    return fail_errno(errno, "socketpair");
  socket.reset(pair[0]);
  UniqueFd local(pair[1]);
  UniqueFd stop(::eventfd(0, EFD_CLOEXEC));
  UniqueFd ended(::eventfd(0, EFD_CLOEXEC));
  if (!stop || !ended)
    return fail_errno(errno, "eventfd");
  const int stop_fd = stop.get();
  std::shared_ptr<SshPump> pump(new SshPump(std::move(stop), std::move(ended)));
  pump->thread_ =
      std::thread([self = pump.get(), stop_fd, name = std::move(name), keepalive,
                   link = std::move(link), channel, local = std::move(local)]() mutable {
        const SshLogScope log_scope;
        Loop loop(std::move(link), channel, std::move(local), stop_fd, std::move(name), keepalive);
        *self->end_.lock() = loop.run();
        const std::uint64_t one = 1;
        [[maybe_unused]] const auto written = ::write(self->ended_.get(), &one, sizeof one);
        loop.say_farewell();
      });
  return pump;
}

SshPump::~SshPump() {
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto written = ::write(stop_.get(), &one, sizeof one);
  if (thread_.joinable())
    thread_.join();
}

std::optional<SshPump::End> SshPump::wait_for_end(TimePoint deadline) const {
  pollfd wait{ended_.get(), POLLIN, 0};
  while (::poll(&wait, 1, poll_timeout(deadline)) < 0 && errno == EINTR) {
  }
  if (wait.revents == 0)
    return std::nullopt;
  return *end_.lock();
}

}  // namespace slipway
