#include "source/remote_source.h"
#include "stack_rig.h"

#include <atomic>
#include <random>
#include <thread>

namespace slipway {

namespace {

/// The whole stack with every party on a thread of its own: readers, the server, the cache's store.
struct BusyStack {
  explicit BusyStack(std::uint64_t seed) : content(2 * kRegionSize + 12345, seed), remote(content) {
    remote_source = make_remote_source(remote, {8 * kUnitSize});
    cached = make_cached_source(cache, remote, *remote_source);
    ReadaheadOptions options;
    options.bytes_max = 1024 * 1024;
    readahead = make_readahead_source(*cached, link_estimate_of(remote), options);
    cache.set_stores(FakeBlockCache::Stores::kHeld);
    file = cache.open(content.version());
    image = std::make_shared<const Image>(Image{3, content.version(), file});
  }

  /// Answers in random order, with lost connections and errors, until told to stop.
  void serve(std::uint64_t seed, const std::atomic<bool>& stop) {
    std::mt19937_64 random(seed);
    while (!stop || !remote.waiting().empty()) {
      const auto waiting = remote.waiting();
      if (waiting.empty()) {
        std::this_thread::yield();
        continue;
      }
      const CallId call = waiting[random() % waiting.size()];
      const std::uint64_t luck = random() % 100;
      if (luck < 3)
        remote.fail_call(call, Error{ErrorCode::kIo, "unlucky"});
      else if (luck < 20)
        remote.answer(call, random() % 3);
      else
        remote.answer(call);
    }
  }

  void keep_storing(std::uint64_t seed, const std::atomic<bool>& stop) {
    std::mt19937_64 random(seed);
    while (!stop || cache.held() > 0) {
      cache.let_stores_go(random() % 10 != 0);
      cache.set_stores(random() % 8 == 0 ? FakeBlockCache::Stores::kRefused
                                         : FakeBlockCache::Stores::kHeld);
      if (random() % 4 == 0)
        file->drop_region(random() % 3);
      if (random() % 4 == 0)
        file->corrupt(random() % (2 * kUnitsPerRegion));
      std::this_thread::yield();
    }
  }

  PatternedImage content;
  FakeRemoteSession remote;
  FakeBlockCache cache;
  std::unique_ptr<BlockSource> remote_source;
  std::unique_ptr<CachedSource> cached;
  std::unique_ptr<BlockSource> readahead;
  std::shared_ptr<FakeCachedFile> file;
  std::shared_ptr<const Image> image;
};

/// Random and sequential reads, some cancelled. Returns what went wrong, and counts successes.
std::string read_a_lot(BusyStack& stack, std::uint64_t seed, int reads,
                       std::atomic<int>& successes) {
  std::mt19937_64 random(seed);
  std::uint64_t front = random() % stack.content.size();
  std::vector<std::pair<ReadId, std::shared_ptr<ReadResult>>> flying;
  const auto check = [&](const ReadResult& result) -> std::string {
    if (!result.wait())
      return "a read never ended";
    if (result.succeeded() && !result.equals(stack.content))
      return "wrong content";
    if (result.succeeded())
      successes++;
    return result.faults();
  };
  for (int i = 0; i < reads; i++) {
    const bool sequential = random() % 2 == 0;
    const std::uint64_t offset = sequential ? front : random() % stack.content.size();
    const std::uint64_t length = 1 + random() % 60'000;
    front = sequential ? (front + length) % stack.content.size() : front;
    ReadId id = 0;
    auto result =
        start_read(*stack.readahead, stack.image, {{offset, length}}, &id, Priority::kDemand, seed);
    flying.emplace_back(id, std::move(result));
    if (random() % 8 == 0)
      stack.readahead->cancel(flying[random() % flying.size()].first);
    if (flying.size() > 6) {
      if (const std::string fault = check(*flying.front().second); !fault.empty())
        return fault;
      flying.erase(flying.begin());
    }
  }
  for (const auto& [id, result] : flying) {
    if (const std::string fault = check(*result); !fault.empty())
      return fault;
  }
  return "";
}

}  // namespace

TEST_CASE("whatever the order of answers, stores, losses and cancellations, reads are right") {
  const std::uint64_t seed = GENERATE(1U, 2U, 3U, 4U);
  CAPTURE(seed);
  BusyStack stack(seed);
  std::atomic<bool> stop{false};
  std::atomic<int> successes{0};
  std::array<std::string, 4> faults;
  {
    std::vector<std::jthread> servants;
    servants.emplace_back([&] { stack.serve(seed * 10, stop); });
    servants.emplace_back([&] { stack.serve(seed * 10 + 1, stop); });
    servants.emplace_back([&] { stack.keep_storing(seed * 10 + 2, stop); });
    {
      std::vector<std::jthread> readers;
      for (std::size_t i = 0; i < faults.size(); i++)
        readers.emplace_back(
            [&, i] { faults[i] = read_a_lot(stack, seed * 100 + i, 250, successes); });
    }
    stop = true;
  }
  for (const std::string& fault : faults)
    CHECK(fault == "");
  CHECK(successes > 500);
  // What was read ahead may have come when nobody was storing any more.
  for (int i = 0; i < 5000 && stack.cached->stats().waiting_reads != 0; ++i) {
    stack.cache.let_stores_go(true);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  const CachedSourceStats stats = stack.cached->stats();
  CHECK(stats.waiting_reads == 0);
  CHECK(stats.fetches_in_flight == 0);
}

}  // namespace slipway
