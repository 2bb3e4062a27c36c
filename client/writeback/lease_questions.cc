#include "writeback/lease_questions.h"

#include <algorithm>
#include <utility>

namespace slipway {
namespace {

bool is_of(const LeaseQuestions::Question& question, const std::string& group) {
  return std::find(question.groups.begin(), question.groups.end(), group) != question.groups.end();
}

}  // namespace

Done<LeaseGate::Hold> LeaseQuestions::take(std::uint64_t number) {
  std::vector<Question> taken =
      take_if([number](const Question& question) { return question.number == number; });
  return taken.empty() ? nullptr : std::move(taken.front().done);
}

std::vector<LeaseQuestions::Question> LeaseQuestions::take_of(const std::string& group) {
  return take_if([&group](const Question& question) { return is_of(question, group); });
}

std::vector<LeaseQuestions::Question> LeaseQuestions::take_all() {
  return std::exchange(all_, {});
}

bool LeaseQuestions::concern(const std::string& group) const {
  return std::any_of(all_.begin(), all_.end(),
                     [&group](const Question& question) { return is_of(question, group); });
}

void LeaseQuestions::delay(const std::string& group, TimePoint deadline) {
  for (Question& question : all_)
    if (question.deadline == TimePoint::max() && is_of(question, group))
      question.deadline = deadline;
}

void LeaseQuestions::merge() {
  for (Question& question : all_)
    question.groups = {""};
}

}  // namespace slipway
