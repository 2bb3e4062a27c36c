// A wide-area link between two network namespaces, for tests and benchmarks.
//
//   link_emulator --a NS --b NS [--rtt-ms N] [--rate-mbit N] [--queue-kb N] [--loss PERCENT]
//
// Makes a TUN device "wan0" in each namespace (10.77.0.1 in A, 10.77.0.2 in B, /24, up) and moves
// packets between them: each direction is a queue of bounded bytes that drains at the rate, and a
// packet arrives half a round trip after it left the queue. Prints "ready", then obeys lines on
// standard input until it ends:
//   cut | restore           drop everything, or no longer
//   rtt MS | rate MBIT | queue KB | loss PERCENT
//   block FIRST LAST        drop TCP packets to or from these ports (dropped, not refused)
//   unblock
//   stats                   prints packets, bytes and drops of both directions
// There is no traffic but between the two namespaces; it ends when standard input ends.

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <utility>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/unique_fd.h"

namespace slipway {

namespace {

constexpr std::size_t kPacketMax = 65536;
constexpr int kBatch = 64;  ///< packets taken from one side before the other is looked at

[[noreturn]] void die(const std::string& what) {
  std::fprintf(stderr, "link_emulator: %s: %s\n", what.c_str(), std::strerror(errno));
  std::exit(1);
}

/// Opens a TUN device inside a named namespace and gives it an address; this thread comes back to
/// its own namespace afterwards.
UniqueFd open_tun(const std::string& netns, const char* address) {
  const UniqueFd home(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC));
  const UniqueFd there(::open(("/run/netns/" + netns).c_str(), O_RDONLY | O_CLOEXEC));
  if (!home || !there || ::setns(there.get(), CLONE_NEWNET) != 0)
    die("namespace " + netns);
  UniqueFd tun(::open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK));
  ifreq request{};
  std::strcpy(request.ifr_name, "wan0");
  request.ifr_flags = static_cast<short>(IFF_TUN | IFF_NO_PI);
  if (!tun || ::ioctl(tun.get(), TUNSETIFF, &request) != 0)
    die("TUN device in " + netns);
  const UniqueFd control(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  auto* in = reinterpret_cast<sockaddr_in*>(&request.ifr_addr);
  in->sin_family = AF_INET;
  ::inet_pton(AF_INET, address, &in->sin_addr);
  if (::ioctl(control.get(), SIOCSIFADDR, &request) != 0)
    die("address");
  ::inet_pton(AF_INET, "255.255.255.0", &in->sin_addr);
  if (::ioctl(control.get(), SIOCSIFNETMASK, &request) != 0)
    die("netmask");
  request.ifr_qlen = 1000;
  ::ioctl(control.get(), SIOCSIFTXQLEN, &request);
  request.ifr_flags = static_cast<short>(IFF_UP | IFF_RUNNING);
  if (::ioctl(control.get(), SIOCSIFFLAGS, &request) != 0 || ::setns(home.get(), CLONE_NEWNET) != 0)
    die("link up");
  return tun;
}

struct Settings {
  double rtt_ms = 32;
  double rate_mbit = 100;
  std::size_t queue_bytes = 1000 * 1024;
  double loss_percent = 0;
  bool cut = false;
  unsigned block_first = 1;  ///< no port is blocked while first > last
  unsigned block_last = 0;
};

bool is_blocked(ByteView packet, const Settings& settings) {
  if (settings.block_first > settings.block_last || packet.size() < 24 ||
      (std::to_integer<unsigned>(packet[0]) >> 4) != 4 || std::to_integer<int>(packet[9]) != 6)
    return false;
  const std::size_t header = (std::to_integer<std::size_t>(packet[0]) & 15) * 4;
  if (packet.size() < header + 4)
    return false;
  const auto port = [&](std::size_t at) {
    return std::to_integer<unsigned>(packet[at]) * 256 + std::to_integer<unsigned>(packet[at + 1]);
  };
  const auto inside = [&](unsigned p) {
    return p >= settings.block_first && p <= settings.block_last;
  };
  return inside(port(header)) || inside(port(header + 2));
}

/// One direction of the link.
class Direction {
 public:
  Direction(int from, int to) : from_(from), to_(to) {}

  void take(const Settings& settings, TimePoint now) {
    for (int i = 0; i < kBatch; ++i) {
      std::byte buffer[kPacketMax];
      const ssize_t n = ::read(from_, buffer, sizeof buffer);
      if (n <= 0)
        return;
      const ByteView packet(buffer, static_cast<std::size_t>(n));
      while (!in_queue_.empty() && in_queue_.front().first <= now) {
        queued_bytes_ -= in_queue_.front().second;
        in_queue_.pop_front();
      }
      if (settings.cut || queued_bytes_ + packet.size() > settings.queue_bytes ||
          is_blocked(packet, settings) ||
          (settings.loss_percent > 0 && random_(engine_) < settings.loss_percent)) {
        ++dropped;
        continue;
      }
      const auto transmit = std::chrono::duration<double, std::micro>(
          static_cast<double>(packet.size()) * 8 / settings.rate_mbit);
      free_at_ = std::max(free_at_, now) + std::chrono::duration_cast<Duration>(transmit);
      in_queue_.emplace_back(free_at_, packet.size());
      queued_bytes_ += packet.size();
      const auto delay = std::chrono::duration<double, std::milli>(settings.rtt_ms / 2);
      flying_.emplace_back(free_at_ + std::chrono::duration_cast<Duration>(delay),
                           Bytes(packet.begin(), packet.end()));
    }
  }

  void deliver(const Settings& settings, TimePoint now) {
    while (!flying_.empty() && flying_.front().first <= now) {
      const Bytes& packet = flying_.front().second;
      if (!settings.cut && ::write(to_, packet.data(), packet.size()) > 0) {
        ++packets;
        bytes += packet.size();
      } else {
        ++dropped;
      }
      flying_.pop_front();
    }
  }

  TimePoint next() const { return flying_.empty() ? TimePoint::max() : flying_.front().first; }

  std::uint64_t packets = 0;
  std::uint64_t bytes = 0;
  std::uint64_t dropped = 0;

 private:
  const int from_;
  const int to_;
  TimePoint free_at_{};          ///< when the transmitter has sent all that is queued
  std::size_t queued_bytes_ = 0;  ///< of packets that are not yet transmitted
  std::deque<std::pair<TimePoint, std::size_t>> in_queue_;
  std::deque<std::pair<TimePoint, Bytes>> flying_;
  std::mt19937 engine_{1};  // the same losses in every run
  std::uniform_real_distribution<double> random_{0, 100};
};

void obey(const std::string& line, Settings& s, const Direction& ab, const Direction& ba) {
  std::istringstream words(line);
  std::string command;
  double value = 0;
  words >> command;
  if (command == "cut") {
    s.cut = true;
  } else if (command == "restore") {
    s.cut = false;
  } else if (command == "block") {
    words >> s.block_first >> s.block_last;
  } else if (command == "unblock") {
    s.block_first = 1;
    s.block_last = 0;
  } else if (command == "rtt" && words >> value) {
    s.rtt_ms = value;
  } else if (command == "rate" && words >> value) {
    s.rate_mbit = value;
  } else if (command == "queue" && words >> value) {
    s.queue_bytes = static_cast<std::size_t>(value * 1024);
  } else if (command == "loss" && words >> value) {
    s.loss_percent = value;
  } else if (command != "stats") {
    std::printf("what is '%s'?\n", command.c_str());
  }
  std::printf("a->b %llu packets %llu bytes %llu dropped, b->a %llu packets %llu bytes %llu dropped\n",
              static_cast<unsigned long long>(ab.packets), static_cast<unsigned long long>(ab.bytes),
              static_cast<unsigned long long>(ab.dropped),
              static_cast<unsigned long long>(ba.packets), static_cast<unsigned long long>(ba.bytes),
              static_cast<unsigned long long>(ba.dropped));
  std::fflush(stdout);
}

int run(const std::map<std::string, std::string>& options) {
  const auto number = [&](const char* name, double standard) {
    const auto found = options.find(name);
    return found == options.end() ? standard : std::atof(found->second.c_str());
  };
  Settings settings;
  settings.rtt_ms = number("--rtt-ms", settings.rtt_ms);
  settings.rate_mbit = number("--rate-mbit", settings.rate_mbit);
  settings.queue_bytes = static_cast<std::size_t>(number("--queue-kb", 1000) * 1024);
  settings.loss_percent = number("--loss", 0);
  const UniqueFd a = open_tun(options.at("--a"), "10.77.0.1");
  const UniqueFd b = open_tun(options.at("--b"), "10.77.0.2");
  Direction ab(a.get(), b.get());
  Direction ba(b.get(), a.get());
  std::printf("ready\n");
  std::fflush(stdout);
  std::string input;
  for (;;) {
    const TimePoint wake = std::min(ab.next(), ba.next());
    timespec timeout{1, 0};
    if (wake != TimePoint::max()) {
      const auto left = std::max(Duration::zero(), wake - SteadyClock::instance().now());
      const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(left).count();
      timeout = {ns / 1'000'000'000, ns % 1'000'000'000};
    }
    pollfd fds[3] = {{a.get(), POLLIN, 0}, {b.get(), POLLIN, 0}, {STDIN_FILENO, POLLIN, 0}};
    ::ppoll(fds, 3, &timeout, nullptr);
    const TimePoint now = SteadyClock::instance().now();
    ab.take(settings, now);
    ba.take(settings, now);
    ab.deliver(settings, now);
    ba.deliver(settings, now);
    if ((fds[2].revents & (POLLIN | POLLHUP)) != 0) {
      char buffer[512];
      const ssize_t n = ::read(STDIN_FILENO, buffer, sizeof buffer);
      if (n <= 0)
        return 0;
      input.append(buffer, static_cast<std::size_t>(n));
      for (auto end = input.find('\n'); end != std::string::npos; end = input.find('\n')) {
        obey(input.substr(0, end), settings, ab, ba);
        input.erase(0, end + 1);
      }
    }
  }
}

}  // namespace

}  // namespace slipway

int main(int argc, char** argv) {
  std::map<std::string, std::string> options;
  for (int i = 1; i + 1 < argc; i += 2)
    options[argv[i]] = argv[i + 1];
  if (!options.contains("--a") || !options.contains("--b")) {
    std::fprintf(stderr,
                 "usage: link_emulator --a NETNS --b NETNS [--rtt-ms 32] [--rate-mbit 100] "
                 "[--queue-kb 1000] [--loss 0]\n");
    return 2;
  }
  return slipway::run(options);
}
