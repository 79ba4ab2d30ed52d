#include "router/conversation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "tests/router/router_testing.h"

namespace coterie {
namespace {

using ::testing::HasSubstr;

// Three axes: rust, cooking, and what belongs to nobody.
std::vector<float> Towards(float rust, float cooking, float nobody) {
  const float norm = std::sqrt(rust * rust + cooking * cooking + nobody * nobody);
  return {rust / norm, cooking / norm, nobody / norm};
}

class ConversationWalkTest : public ::testing::Test {
 protected:
  ConversationWalkTest()
      : index_(MakeIndex({MakeExpert("rust", {1, 0, 0}), MakeExpert("cooking", {0, 1, 0}, {"food"})})),
        policy_(CreateRoutingPolicy({.min_score = 0.3f}).value()) {
    options_.min_score = 0.3f;
  }
  ConversationWalk Walk(const ConversationPhrases* phrases = nullptr) {
    return ConversationWalk(index_.get(), policy_.get(), phrases, query_, options_);
  }
  static void Take(ConversationWalk* walk, const std::vector<float>& message) {
    ASSERT_TRUE(walk->Take(message).ok());
  }
  // Takes a message whose own weight is about `weight`: the joined text lies between it and the anchor.
  static void TakeWeighing(ConversationWalk* walk, const std::vector<float>& message,
                           const std::vector<float>& joined) {
    Take(walk, message);
    ASSERT_TRUE(walk->MustJoin());
    walk->TakeJoined(joined);
  }
  static std::string NameOf(const ConversationWalk& walk) {
    const RoutePlan plan = walk.plan();
    return plan.base ? "base" : plan.experts[0].name;
  }

  const std::shared_ptr<const ExpertIndex> index_;
  const std::unique_ptr<const RoutingPolicy> policy_;
  RouteQuery query_;
  ConversationOptions options_;
  const std::vector<float> rust_ = Towards(0.6f, 0, 0.8f);
  const std::vector<float> cooking_ = Towards(0, 0.6f, 0.8f);
  // Of nobody's field, a little nearer to the one or the other.
  const std::vector<float> nothing_ = Towards(0.04f, 0.05f, -1);
  const std::vector<float> nothing_by_rust_ = Towards(0.05f, 0.04f, -1);
};

TEST_F(ConversationWalkTest, ASingleQuestionIsRoutedAsThePolicyDoes) {
  for (const std::vector<float>& question : {rust_, cooking_, nothing_}) {
    ConversationWalk walk = Walk();
    Take(&walk, question);
    EXPECT_FALSE(walk.MustJoin());
    EXPECT_FALSE(walk.kept());
    RouteQuery alone;
    alone.embedding = question;
    EXPECT_EQ(walk.plan().reason, policy_->Route(*index_, alone)->reason);
  }
}

TEST_F(ConversationWalkTest, AFollowUpThatAddsNothingOfItsOwnKeepsTheExpert) {
  ConversationWalk walk = Walk();
  Take(&walk, rust_);
  // "and how do I make it faster?": the joined text is the question's.
  TakeWeighing(&walk, nothing_, rust_);
  EXPECT_EQ(NameOf(walk), "rust");
  EXPECT_TRUE(walk.kept());
  EXPECT_EQ(walk.anchor(), 0u);
  EXPECT_THAT(walk.plan().reason, HasSubstr("kept rust: follow-up (alone: "));
  EXPECT_THAT(walk.plan().reason, HasSubstr("nearest: rust 0.60"));
  // A little nearer to another expert, but saying little: still the same.
  TakeWeighing(&walk, Towards(0, 0.35f, -1), rust_);
  EXPECT_EQ(NameOf(walk), "rust");
}

TEST_F(ConversationWalkTest, AQuestionOfAnotherFieldSwitchesAndSaysSo) {
  ConversationWalk walk = Walk();
  Take(&walk, rust_);
  TakeWeighing(&walk, cooking_, cooking_);
  EXPECT_EQ(NameOf(walk), "cooking");
  EXPECT_FALSE(walk.kept());
  EXPECT_EQ(walk.anchor(), 1u);
  EXPECT_THAT(walk.plan().reason, ::testing::StartsWith("left rust; nearest: cooking"));
  // And what follows goes on with that.
  TakeWeighing(&walk, nothing_by_rust_, cooking_);
  EXPECT_EQ(NameOf(walk), "cooking");
  Take(&walk, cooking_);
  EXPECT_FALSE(walk.MustJoin());
  EXPECT_EQ(walk.anchor(), 3u);
}

TEST_F(ConversationWalkTest, AQuestionOfNoFieldThatSaysMuchOfItsOwnGoesToTheBase) {
  ConversationWalk walk = Walk();
  Take(&walk, rust_);
  TakeWeighing(&walk, nothing_, nothing_);
  EXPECT_EQ(NameOf(walk), "base");
  EXPECT_THAT(walk.plan().reason, ::testing::StartsWith("left rust; abstained"));
  // A follow-up then begins no expert, a question does.
  TakeWeighing(&walk, Towards(0.4f, 0, 0.9f), nothing_);
  EXPECT_EQ(NameOf(walk), "base");
  EXPECT_THAT(walk.plan().reason, HasSubstr("kept the base: follow-up"));
  TakeWeighing(&walk, rust_, rust_);
  EXPECT_EQ(NameOf(walk), "rust");
}

// What is of no field and adds a little to the question before it is a follow-up, unless it is like the
// questions that people bring to any assistant.
TEST_F(ConversationWalkTest, AGeneralQuestionLeavesTheExpertWhereAFollowUpOfTheSameWeightStays) {
  std::vector<float> joined(3);
  float norm = 0;
  for (size_t i = 0; i < 3; ++i) joined[i] = rust_[i] + 0.85f * nothing_[i];
  for (const float x : joined) norm += x * x;
  for (float& x : joined) x /= std::sqrt(norm);
  const auto general = ConversationPhrases::Create({}, {}, nothing_, 3);
  const auto others = ConversationPhrases::Create({}, {}, Towards(0, 0, 1), 3);
  for (const ConversationPhrases* phrases :
       {&*general, &*others, static_cast<const ConversationPhrases*>(nullptr)}) {
    ConversationWalk walk = Walk(phrases);
    Take(&walk, rust_);
    TakeWeighing(&walk, nothing_, joined);
    EXPECT_EQ(NameOf(walk), phrases == &*general ? "base" : "rust");
  }
}

TEST_F(ConversationWalkTest, SmallTalkNeitherBeginsNorEndsAnExpert) {
  const std::vector<float> thanks = Towards(0.31f, 0, -0.9f);  // near enough to rust to be sent there
  const auto phrases = ConversationPhrases::Create(thanks, Towards(-0.9f, 0, -0.31f), {}, 3);
  ASSERT_TRUE(phrases.ok());
  ConversationWalk walk = Walk(&*phrases);
  Take(&walk, thanks);
  EXPECT_EQ(NameOf(walk), "base");
  EXPECT_THAT(walk.plan().reason, HasSubstr("small talk: left to the base"));
  EXPECT_TRUE(walk.plan().experts.empty());
  Take(&walk, cooking_);
  EXPECT_EQ(NameOf(walk), "cooking");
  Take(&walk, thanks);
  EXPECT_FALSE(walk.MustJoin());
  EXPECT_EQ(NameOf(walk), "cooking");
  EXPECT_THAT(walk.plan().reason, HasSubstr("kept cooking: small talk"));
  // A phrase of those that name nothing needs no joining.
  Take(&walk, Towards(-0.9f, 0, -0.31f));
  EXPECT_FALSE(walk.MustJoin());
  EXPECT_THAT(walk.plan().reason, HasSubstr("kept cooking: follow-up"));
  EXPECT_FALSE(ConversationPhrases::Create({1, 0}, {}, {}, 3).ok());
  EXPECT_FALSE(ConversationPhrases::Create({}, {}, {1, 0}, 3).ok());
}

TEST_F(ConversationWalkTest, APhraseThatAnExpertIsNearToIsAQuestion) {
  // Where all vectors lie close together, everything is near the phrases: they say nothing then.
  const auto phrases = ConversationPhrases::Create(Towards(0.7f, 0, 0.7f), {}, {}, 3);
  ConversationWalk walk = Walk(&*phrases);
  Take(&walk, Towards(0.9f, 0, 0.5f));
  EXPECT_EQ(NameOf(walk), "rust");
}

TEST_F(ConversationWalkTest, ADeclaredDomainDecidesWhateverIsSaid) {
  const std::vector<std::string> domains = {"food"};
  query_.domains = domains;
  ConversationWalk walk = Walk();
  Take(&walk, rust_);
  Take(&walk, nothing_);
  EXPECT_FALSE(walk.MustJoin());
  EXPECT_EQ(NameOf(walk), "cooking");
  EXPECT_EQ(walk.plan().policy, "rules");
  EXPECT_FALSE(walk.kept());
}

TEST_F(ConversationWalkTest, AMalformedVectorIsRefused) {
  ConversationWalk walk = Walk();
  Take(&walk, rust_);
  EXPECT_FALSE(walk.Take(std::vector<float>{1, 0}).ok());
  EXPECT_FALSE(walk.Take(std::vector<float>{NAN, 0, 0}).ok());
}

TEST(ConversationPhrasesTest, AreWellFormedAndNoneStandsInTwoLists) {
  std::vector<std::string_view> all(SmallTalkPhrases().begin(), SmallTalkPhrases().end());
  all.insert(all.end(), FollowUpPhrases().begin(), FollowUpPhrases().end());
  all.insert(all.end(), GeneralQuestions().begin(), GeneralQuestions().end());
  std::sort(all.begin(), all.end());
  EXPECT_EQ(std::adjacent_find(all.begin(), all.end()), all.end());
  for (const std::string_view phrase : all) EXPECT_FALSE(phrase.empty());
}

}  // namespace
}  // namespace coterie
