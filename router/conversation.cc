#include "router/conversation.h"

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "router/policies.h"

namespace coterie {
namespace {

using router_internal::TwoDecimals;

float Cosine(std::span<const float> a, std::span<const float> b) {
  float dot = 0;
  for (size_t i = 0; i < a.size(); ++i) dot += a[i] * b[i];
  return dot;
}

}  // namespace

// The policy has looked already, unless it compares something else than cosines.
StatusOr<RouteCandidate> ConversationWalk::NearestTo(std::span<const float> message) const {
  const RoutePlan& plan = next_.plan;
  if (!plan.candidates.empty() && plan.policy != "classifier" && plan.policy != "rules") {
    return plan.candidates[0];
  }
  ASSIGN_OR_RETURN(const auto hits, index_->Search(message, 1, query_.allowed));
  if (hits.empty()) return RouteCandidate{"no expert", -1.0f};
  return RouteCandidate{std::string(index_->expert(hits[0].expert).name), hits[0].score};
}

bool ConversationWalk::IsPhrase(float near) const {
  return near >= options_.phrase_score && near - nearest_.score >= options_.phrase_lead;
}

Status ConversationWalk::Take(std::span<const float> message) {
  must_join_ = kept_ = false;
  left_.clear();
  query_.embedding = message;
  next_.number = n_++;
  next_.vector.assign(message.begin(), message.end());
  ASSIGN_OR_RETURN(next_.plan, policy_->Route(*index_, query_));
  query_.embedding = {};
  ASSIGN_OR_RETURN(nearest_, NearestTo(message));
  // A declared domain decides whatever is said.
  const bool by_rule = next_.plan.policy == "rules";
  if (!by_rule && phrases_ != nullptr && IsPhrase(phrases_->NearSmallTalk(message))) {
    Keep(Relation::kSmallTalk);
    return absl::OkStatus();
  }
  if (!current_.has_value() || by_rule) {
    MoveTo(Relation::kFirst);
    return absl::OkStatus();
  }
  if (phrases_ != nullptr && IsPhrase(phrases_->NearFollowUp(message))) {
    Keep(Relation::kFollowUp);
    return absl::OkStatus();
  }
  if (!next_.plan.base && !current_->plan.base &&
      next_.plan.experts[0].name == current_->plan.experts[0].name) {
    MoveTo(Relation::kSameField);
    return absl::OkStatus();
  }
  must_join_ = true;
  return absl::OkStatus();
}

float ConversationWalk::Lead() const {
  const std::string& expert = next_.plan.experts[0].name;
  const auto found = index_->Find(expert);
  const float score = found ? index_->Score(next_.vector, *found).value_or(nearest_.score) : nearest_.score;
  if (current_->plan.base) {
    return score -
           (found ? index_->expert(*found).min_score.value_or(options_.min_score) : options_.min_score);
  }
  const auto kept = index_->Find(current_->plan.experts[0].name);
  return score - (kept ? index_->Score(next_.vector, *kept).value_or(0.0f) : 0.0f);
}

float ConversationWalk::Generality() const {
  if (phrases_ == nullptr) return options_.general_unknown;
  const float near = phrases_->NearGeneralQuestion(next_.vector);
  const float else_near =
      std::max({nearest_.score, phrases_->NearFollowUp(next_.vector), phrases_->NearSmallTalk(next_.vector)});
  return near - else_near >= options_.general_lead ? near : options_.general_unknown;
}

void ConversationWalk::TakeJoined(std::span<const float> joined) {
  COTERIE_CHECK(must_join_) << "no two messages are to be joined";
  must_join_ = false;
  const float own_weight = Cosine(joined, next_.vector) - Cosine(joined, current_->vector);
  if (next_.plan.base) {
    if (own_weight + Generality() >= options_.leave_sum) return MoveTo(Relation::kLeave);
    return Keep(Relation::kFollowUp);
  }
  const float lead = current_->plan.base ? options_.begin_lead : options_.switch_lead;
  if (Lead() + options_.own_weight_share * own_weight >= lead) return MoveTo(Relation::kSwitch);
  Keep(Relation::kFollowUp);
}

void ConversationWalk::Keep(Relation relation) {
  kept_ = true;
  relation_ = relation;
  if (current_.has_value()) return;
  // Small talk with nothing before it: routed by itself, to the base.
  anchor_ = next_.number;
}

void ConversationWalk::MoveTo(Relation relation) {
  relation_ = relation;
  if (current_.has_value()) left_ = NameOfConversation();
  anchor_ = next_.number;
  current_ = std::move(next_);
}

std::string ConversationWalk::NearestInWords() const {
  return nearest_.score < -0.99f ? nearest_.name
                                 : absl::StrCat(nearest_.name, " ", TwoDecimals(nearest_.score));
}

std::string ConversationWalk::NameOfConversation() const {
  return current_->plan.base ? "the base" : current_->plan.experts[0].name;
}

RoutePlan ConversationWalk::plan() const {
  if (!current_.has_value()) {
    RoutePlan plan = next_.plan;
    plan.base = true;
    plan.experts.clear();
    plan.reason = absl::StrCat("small talk: left to the base (nearest: ", NearestInWords(), ")");
    return plan;
  }
  RoutePlan plan = current_->plan;
  switch (relation_) {
    case Relation::kFirst:
    case Relation::kSameField:
      break;
    case Relation::kSmallTalk:
      plan.reason = absl::StrCat("kept ", NameOfConversation(), ": small talk; ", plan.reason);
      break;
    case Relation::kFollowUp:
      plan.reason = absl::StrCat("kept ", NameOfConversation(), ": follow-up (alone: ", NearestInWords(),
                                 "); ", plan.reason);
      break;
    case Relation::kSwitch:
    case Relation::kLeave:
      if (left_ != NameOfConversation()) plan.reason = absl::StrCat("left ", left_, "; ", plan.reason);
      break;
  }
  return plan;
}

}  // namespace coterie
