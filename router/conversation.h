#ifndef COTERIE_ROUTER_CONVERSATION_H_
#define COTERIE_ROUTER_CONVERSATION_H_

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/route_plan.h"
#include "common/status.h"
#include "router/expert_index.h"
#include "router/routing_policy.h"

namespace coterie {

// What people say in a conversation whatever it is about: small talk (which means nothing for routing, first
// in a conversation or later), follow-ups that name nothing, both in several languages, and questions that
// are of no expert's field unless an expert is nearer to them. A message is held against their vectors, so a
// phrase covers what is said like it.
std::span<const std::string_view> SmallTalkPhrases();
std::span<const std::string_view> FollowUpPhrases();
std::span<const std::string_view> GeneralQuestions();

// The vectors of those phrases, by the embedder that routes. Immutable; thread-safe.
class ConversationPhrases {
 public:
  // Each [n, dim], unit norm; InvalidArgument for another size.
  static StatusOr<ConversationPhrases> Create(std::vector<float> small_talk, std::vector<float> follow_ups,
                                              std::vector<float> general, size_t dim);
  // The largest cosine of `text` [dim] with any of them.
  float NearSmallTalk(std::span<const float> text) const { return Nearest(text, small_talk_); }
  float NearFollowUp(std::span<const float> text) const { return Nearest(text, follow_ups_); }
  float NearGeneralQuestion(std::span<const float> text) const { return Nearest(text, general_); }

 private:
  static float Nearest(std::span<const float> text, const std::vector<float>& phrases);
  std::vector<float> small_talk_;
  std::vector<float> follow_ups_;
  std::vector<float> general_;
};

// When a message goes on with what came before. Chosen on two of the three sets of conversations that
// tests/bench/conversations makes; docs/benchmarks.md has what they reach on the third. Cosines of
// all-MiniLM-L6-v2.
struct ConversationOptions {
  // The user's messages that are read at most, the last one included; earlier ones are forgotten. Reading
  // five lost the expert of 7 in 10 conversations with six to ten follow-ups; each costs an embedding or two
  // where the gateway has not seen the conversation yet.
  size_t max_turns = 16;
  // At or above this cosine with a phrase, and so much more than with any expert, a message is that phrase.
  float phrase_score = 0.5f;
  float phrase_lead = 0.2f;
  // Another expert takes over when it is nearer than the conversation's by this, weighed by how much the
  // message says of its own (ConversationWalk).
  float switch_lead = 0.06f;
  float own_weight_share = 0.2f;
  // The same to begin with an expert after a question that was left to the base, counted from the expert's
  // least score.
  float begin_lead = -0.05f;
  // The least score of an expert that has none of its own: the policy's.
  float min_score = 0.2f;
  // A question of no expert's field ends the conversation's expert when its own weight and its cosine with a
  // general question sum up to this. That cosine counts where it exceeds those with any expert and any other
  // phrase by general_lead, and as general_unknown otherwise.
  float leave_sum = 0.0f;
  float general_lead = 0.15f;
  float general_unknown = 0.25f;
};

// Walks through the user's messages of a conversation, the oldest first, and finds the one by which the last
// is routed: itself, or the question that it goes on with. Reads vectors only; the messages' words stay with
// the caller, who joins the two that MustJoin names ("anchor\nlast") where their weight is to be known.
//
//   for each message: walk.Take(vector);
//     if (walk.MustJoin()) walk.TakeJoined(vector of the anchor's text, a line break, this text);
//
// Own weight: the cosine of the joined text with the new message minus that with the anchor. Near 0 the
// message says as much as the question before it, near -1 it adds nothing to it.
//
// A conversation of one message is routed as the policy does, but for small talk, which goes to the base.
// Pure; not thread-safe. What is pointed at must outlive this.
class ConversationWalk {
 public:
  // `query`: its embedding is taken from each message. `phrases` may be null: no message is known by them.
  ConversationWalk(const ExpertIndex* index, const RoutingPolicy* policy, const ConversationPhrases* phrases,
                   const RouteQuery& query, const ConversationOptions& options = {})
      : index_(index), policy_(policy), phrases_(phrases), query_(query), options_(options) {}

  // The next message's vector [dim]. Errors are the policy's.
  Status Take(std::span<const float> message);
  // Whether the last message's own weight decides: TakeJoined comes next then.
  bool MustJoin() const { return must_join_; }
  void TakeJoined(std::span<const float> joined);

  // Which message the last one is routed by, counted from 0: the anchor.
  size_t anchor() const { return anchor_; }
  // The plan of that message, with a reason that says what the last one is to the conversation: "kept
  // postgres: follow-up (alone: linux-kernel 0.17); nearest: postgres 0.40, …".
  RoutePlan plan() const;
  // True where the last message does not route itself.
  bool kept() const { return kept_; }

 private:
  struct Turn {
    size_t number = 0;
    std::vector<float> vector;
    RoutePlan plan;
  };
  enum class Relation { kFirst, kSmallTalk, kFollowUp, kSameField, kSwitch, kLeave };

  StatusOr<RouteCandidate> NearestTo(std::span<const float> message) const;
  std::string NearestInWords() const;
  bool IsPhrase(float near) const;
  // How much the last message is like a question of no field.
  float Generality() const;
  void Keep(Relation relation);
  void MoveTo(Relation relation);
  // How much nearer the new message's expert is than the conversation's.
  float Lead() const;
  std::string NameOfConversation() const;

  const ExpertIndex* const index_;
  const RoutingPolicy* const policy_;
  const ConversationPhrases* const phrases_;
  RouteQuery query_;
  const ConversationOptions options_;

  size_t n_ = 0;                 // messages so far
  std::optional<Turn> current_;  // by which the conversation is routed; none: small talk so far
  Turn next_;                    // the last message
  RouteCandidate nearest_;       // to it, by cosine
  size_t anchor_ = 0;
  bool must_join_ = false;
  bool kept_ = false;
  Relation relation_ = Relation::kFirst;
  std::string left_;  // the expert before a switch
};

}  // namespace coterie

#endif  // COTERIE_ROUTER_CONVERSATION_H_
