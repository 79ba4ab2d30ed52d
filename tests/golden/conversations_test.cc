// Conversations with the shipped experts and the real encoder: does the expert stay through follow-ups, and
// go where the subject goes? tests/bench/conversations measures the same on more kinds, through a gateway.
#include <yaml-cpp/yaml.h>

#include <filesystem>
#include <iostream>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "model/encoder/encoder.h"
#include "router/conversation.h"
#include "tests/golden/shipped_experts.h"
#include "tests/real_models.h"
#include "tests/source_root.h"

namespace coterie {
namespace {

namespace fs = std::filesystem;

class ConversationsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const fs::path folder = testing::RealModels() / "all-MiniLM-L6-v2";
    if (!fs::exists(folder)) GTEST_SKIP() << folder << " is not there; set COTERIE_MODELS";
    encoder_ = Encoder::Load(folder, {.mode = NumericsMode::kFast, .n_threads = 2}).value();
    index_ = ExpertIndex::Create({}, testing::ShippedExperts()).value();
    policy_ = CreateRoutingPolicy({}).value();
    const auto embed = [&](std::span<const std::string_view> phrases) {
      std::vector<float> all;
      for (const std::string_view phrase : phrases) {
        const std::vector<float>& vector = VectorOf(std::string(phrase));
        all.insert(all.end(), vector.begin(), vector.end());
      }
      return all;
    };
    phrases_ = ConversationPhrases::Create(embed(SmallTalkPhrases()), embed(FollowUpPhrases()),
                                           embed(GeneralQuestions()), index_->dim())
                   .value();
    const YAML::Node questions =
        YAML::LoadFile((testing::SourceRoot() / "tests/golden/questions.yaml").string());
    for (const auto& field : questions) {
      // One that finds its expert when it stands alone: the rest is the experts' matter.
      for (const auto& question : field.second["questions"].as<std::vector<std::string>>()) {
        if (Route({question}) == field.first.as<std::string>())
          questions_[field.first.as<std::string>()] = question;
      }
    }
  }

  const std::vector<float>& VectorOf(const std::string& text) {
    auto it = vectors_.find(text);
    if (it == vectors_.end())
      it = vectors_.emplace(text, encoder_->Embed(std::vector{text}).value()[0]).first;
    return it->second;
  }
  // "base", or the expert of the last message.
  std::string Route(const std::vector<std::string>& messages) {
    ConversationWalk walk(index_.get(), policy_.get(), phrases_ ? &*phrases_ : nullptr, {});
    for (const std::string& message : messages) {
      EXPECT_TRUE(walk.Take(VectorOf(message)).ok());
      if (walk.MustJoin()) walk.TakeJoined(VectorOf(messages[walk.anchor()] + "\n" + message));
    }
    const RoutePlan plan = walk.plan();
    return plan.base ? "base" : plan.experts[0].name;
  }
  // Questions of no expert's field that find the base when they stand alone.
  std::vector<std::string> GeneralQuestionsOfTests() {
    const YAML::Node questions =
        YAML::LoadFile((testing::SourceRoot() / "tests/golden/questions.yaml").string());
    std::vector<std::string> general;
    for (const auto& question : questions["none"]["questions"].as<std::vector<std::string>>()) {
      if (Route({question}) == "base" && question != "Hello, how are you?") general.push_back(question);
    }
    return general;
  }
  static YAML::Node Phrases() {
    return YAML::LoadFile((testing::SourceRoot() / "tests/bench/conversations/phrases.yaml").string());
  }

  std::unique_ptr<Encoder> encoder_;
  std::shared_ptr<const ExpertIndex> index_;
  std::unique_ptr<const RoutingPolicy> policy_;
  std::optional<ConversationPhrases> phrases_;
  std::map<std::string, std::string> questions_;  // by field
  std::map<std::string, std::vector<float>> vectors_;
};

TEST_F(ConversationsTest, FollowUpsKeepSwitchesFollowAndSmallTalkDoesNeither) {
  ASSERT_EQ(questions_.size(), index_->size());
  size_t kept = 0, follow_ups = 0, followed = 0, switches = 0, quiet = 0, small_talk = 0;
  const YAML::Node phrases = Phrases();
  for (const auto& [field, question] : questions_) {
    for (const auto& phrase : phrases["follow_ups"].as<std::vector<std::string>>()) {
      ++follow_ups;
      kept += Route({question, phrase}) == field ? 1 : 0;
    }
    for (const auto& phrase : phrases["small_talk"].as<std::vector<std::string>>()) {
      ++small_talk;
      quiet += Route({question, phrase}) == field ? 1 : 0;
    }
    for (const auto& [other, another] : questions_) {
      ++switches;
      const std::string reached = Route({question, another});
      followed += reached == other ? 1 : 0;
      if (reached != other) std::cout << question << " / " << another << " -> " << reached << "\n";
    }
  }
  std::cout << kept << " of " << follow_ups << " follow-ups keep, " << followed << " of " << switches
            << " switches follow, " << quiet << " of " << small_talk
            << " bits of small talk change nothing\n";
  EXPECT_GE(kept * 100, follow_ups * 95);
  EXPECT_GE(followed * 100, switches * 95);
  EXPECT_GE(quiet * 100, small_talk * 95);
}

TEST_F(ConversationsTest, GeneralQuestionsMostlyLeaveAnExpert) {
  size_t left = 0, all = 0;
  for (const std::string& general : GeneralQuestionsOfTests()) {
    for (const auto& [field, question] : questions_) {
      ++all;
      const std::string reached = Route({question, general});
      left += reached == "base" ? 1 : 0;
      if (reached != "base") std::cout << question << " / " << general << " -> " << reached << "\n";
    }
  }
  std::cout << left << " of " << all << " general questions leave the expert\n";
  EXPECT_GT(all, 50u);
  EXPECT_GE(left * 100, all * 70);
}

}  // namespace
}  // namespace coterie
