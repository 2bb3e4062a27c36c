#include "commands/lease_control.h"

#include <nlohmann/json.hpp>

#include <functional>
#include <utility>

namespace slipway {

namespace {

using Json = nlohmann::json;

constexpr std::size_t kQuestionsKept = 16;
constexpr std::size_t kListedMax = 256;  ///< leases in one answer: it fits the control protocol

std::string text_of(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json to_json(const LeaseEntry& entry) {
  return {{"group", entry.group},
          {"epoch", entry.epoch},
          {"mine", entry.mine},
          {"ours", entry.ours},
          {"host", entry.host},
          {"user", entry.user},
          {"uid", entry.uid},
          {"age_s", entry.age_ms / 1000},
          {"expires_in_s", entry.expires_in_ms / 1000},
          {"unsent_bytes", entry.unsent_bytes},
          {"wanted_by", entry.wanted_by}};
}

std::string_view name_of(LeaseState state) {
  switch (state) {
    case LeaseState::kWaiting:
      return "waiting";
    case LeaseState::kHeld:
      return "held";
    case LeaseState::kLost:
      return "lost";
  }
  return "unknown";
}

std::string failure(const Error& error) {
  return text_of({{"done", true}, {"failed", error.message}});
}

/// Page after page; owned by the call under way.
struct Listing : std::enable_shared_from_this<Listing> {
  explicit Listing(RemoteSession& over) : remote(over) {}

  void ask(const std::string& after) {
    LeaseRequest request;
    request.action = LeaseAction::kList;
    request.group = after;
    remote.lease(request, [self = shared_from_this()](Result<LeaseReply> reply) {
      self->take(std::move(reply));
    });
  }

  void take(Result<LeaseReply> reply) {
    if (!reply)
      return done(failure(reply.error()));
    for (const LeaseEntry& entry : reply->leases)
      leases.push_back(to_json(entry));
    const bool goes_on = reply->more && !reply->leases.empty() && leases.size() < kListedMax;
    if (goes_on)
      return ask(reply->leases.back().group);
    done(text_of({{"done", true}, {"failed", ""}, {"leases", leases}, {"more", reply->more}}));
  }

  RemoteSession& remote;
  Json leases = Json::array();
  std::function<void(std::string)> done;
};

}  // namespace

std::uint64_t LeaseControl::begin() {
  auto questions = questions_->lock();
  while (questions->over.size() >= kQuestionsKept)
    questions->over.erase(questions->over.begin());
  return ++questions->last;
}

std::string LeaseControl::begin_list() {
  const std::uint64_t question = begin();
  const auto listing = std::make_shared<Listing>(remote_);
  listing->done = [shared = questions_, question](std::string answer) {
    shared->lock()->over[question] = std::move(answer);
  };
  listing->ask("");
  return text_of({{"question", question}});
}

std::string LeaseControl::begin_break(const std::string& group, std::uint64_t epoch) {
  const std::uint64_t question = begin();
  LeaseRequest request;
  request.action = LeaseAction::kBreak;
  request.group = group;
  request.epoch = epoch;
  const bool is_sound = epoch != 0 && (group.empty() || is_valid_name(group));
  const auto done = [shared = questions_, question, epoch](const Result<LeaseReply>& reply) {
    std::string answer;
    if (!reply) {
      answer = failure(reply.error());
    } else {
      // Asked twice, over two connections, it was broken by the first.
      const bool is_broken = reply->outcome == LeaseOutcome::kDone ||
                             (!reply->leases.front().held &&
                              reply->leases.front().epoch == epoch + 1);
      answer = text_of({{"done", true}, {"failed", ""}, {"broken", is_broken}});
    }
    shared->lock()->over[question] = std::move(answer);
  };
  if (is_sound)
    remote_.lease(request, done);
  else
    done(fail(ErrorCode::kInvalid, "not a group and an epoch"));
  return text_of({{"question", question}});
}

std::string LeaseControl::tell(std::uint64_t question) const {
  auto questions = questions_->lock();
  const auto over = questions->over.find(question);
  return over == questions->over.end() ? text_of({{"done", false}}) : over->second;
}

std::string lease_status_json(const LeaseKeeper& keeper) {
  Json all = Json::array();
  for (const LeaseStatus& lease : keeper.status())
    all.push_back({{"group", lease.group},
                   {"state", name_of(lease.state)},
                   {"epoch", lease.epoch},
                   {"expires_in_s", lease.expires_in_s},
                   {"holder", lease.holder}});
  return text_of(all);
}

}  // namespace slipway
