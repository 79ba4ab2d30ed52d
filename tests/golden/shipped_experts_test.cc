// The experts of experts/ against questions that people might ask (questions.yaml): does the router find the
// right one, and leave to the base what is nobody's?
#include "tests/golden/shipped_experts.h"

#include <yaml-cpp/yaml.h>

#include <filesystem>
#include <iostream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "model/encoder/encoder.h"
#include "router/routing_policy.h"
#include "tests/real_models.h"
#include "tests/source_root.h"

namespace coterie {
namespace {

TEST(ShippedExpertsTest, AreFoundByTheirQuestionsAndLeaveOthersToTheBase) {
  const std::filesystem::path folder = testing::RealModels() / "all-MiniLM-L6-v2";
  if (!std::filesystem::exists(folder)) GTEST_SKIP() << folder << " is not there; set COTERIE_MODELS";
  std::vector<IndexedExpert> experts = testing::ShippedExperts();
  const size_t n_experts = experts.size();
  const auto index = ExpertIndex::Create({}, std::move(experts)).value();
  const auto policy = CreateRoutingPolicy({}).value();
  const auto encoder = Encoder::Load(folder, {.mode = NumericsMode::kFast, .n_threads = 2}).value();
  // A gateway refuses prototypes of another embedder: these must be this one's, whatever becomes of its
  // digest.
  for (const auto& entry : std::filesystem::directory_iterator(testing::SourceRoot() / "experts")) {
    const Prototypes prototypes = testing::ReadPrototypes(entry.path()).value();
    EXPECT_TRUE(prototypes.embedder_digest.has_value()) << entry.path();
    const Status fits =
        CheckPrototypesFit(prototypes, static_cast<size_t>(encoder->dim()), encoder->digest());
    EXPECT_TRUE(fits.ok()) << entry.path() << ": " << fits;
  }

  int n_right = 0, n_asked = 0, n_left = 0, n_strange = 0;
  std::vector<std::string> fields;
  for (const auto& field : YAML::LoadFile((testing::SourceRoot() / "tests/golden/questions.yaml").string())) {
    const auto name = field.first.as<std::string>();
    const bool is_strange = name == "none";
    if (!is_strange) fields.push_back(name);
    auto questions = field.second["questions"].as<std::vector<std::string>>();
    questions.push_back(field.second["demo"].as<std::string>());
    const auto embeddings = encoder->Embed(questions).value();
    for (size_t i = 0; i < questions.size(); ++i) {
      const RoutePlan plan = policy->Route(*index, {.embedding = embeddings[i]}).value();
      const std::string chosen = plan.base ? "" : plan.experts[0].name;
      ++(is_strange ? n_strange : n_asked);
      if (chosen == (is_strange ? "" : name)) {
        ++(is_strange ? n_left : n_right);
      } else {
        std::cout << name << ": \"" << questions[i] << "\": " << plan.reason << "\n";
      }
    }
  }
  EXPECT_EQ(fields.size(), n_experts);
  for (const std::string& field : fields) EXPECT_TRUE(index->Find(field).has_value()) << field;
  std::cout << n_right << " of " << n_asked << " questions reach their expert, " << n_left << " of "
            << n_strange << " of no field the base\n";
  EXPECT_GE(n_right * 100, n_asked * 88);
  EXPECT_GE(n_left * 100, n_strange * 80);
}

}  // namespace
}  // namespace coterie
