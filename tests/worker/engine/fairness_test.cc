// Neither a busy client nor a busy expert starves the others.
#include <map>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/engine_harness.h"
#include "worker/engine/fair_shares.h"

namespace coterie {
namespace {

GenerateRequest Request(const std::string& tenant, int prompt, int seed, uint32_t max_tokens) {
  GenerateRequest request = TestRequest(TestPrompt(prompt, seed), max_tokens);
  request.tenant = tenant;
  return request;
}

struct Backlog : EngineHarness {
  static EngineOptions Narrow() {
    EngineOptions options;
    options.max_seqs = 2;
    return options;
  }
  static FakeModelOptions Slow() {
    FakeModelOptions model;
    model.step_time = absl::Microseconds(300);
    return model;
  }
  Backlog() : EngineHarness(Narrow(), Slow()) {
    on_event = [this](const OutputEvent& event) {
      if (event.kind == OutputEvent::Kind::kToken) ++tokens[party[event.id]];
      if (event.kind == OutputEvent::Kind::kFinish) ++finished_by[party[event.id]];
    };
  }
  uint64_t SubmitFor(const std::string& name, GenerateRequest request) {
    const uint64_t id = Submit(std::move(request));
    party[id] = name;
    return id;
  }
  std::map<uint64_t, std::string> party;
  std::map<std::string, int> tokens;
  std::map<std::string, int> finished_by;
};

TEST(FairnessTest, ABusyExpertDoesNotHoldUpAnother) {
  Backlog backlog;
  const AdapterUse hot{backlog.MakeAdapter("hot"), 1.0f, "hot"};
  const AdapterUse cold{backlog.MakeAdapter("cold"), 1.0f, "cold"};
  for (int i = 0; i < 60; ++i) {
    GenerateRequest request = Request("t", 20, i, 20);
    request.adapters = {hot};
    backlog.SubmitFor("hot", request);
  }
  backlog.PumpUntil([&] { return backlog.finished_by["hot"] >= 4; });
  GenerateRequest request = Request("t", 20, 99, 20);
  request.adapters = {cold};
  const int before = backlog.finished_by["hot"];
  backlog.WaitFinished(backlog.SubmitFor("cold", request));
  EXPECT_LE(backlog.finished_by["hot"] - before, 8) << "of the 56 that came earlier";
}

TEST(FairnessTest, TenantsAreServedAlikeHoweverManyRequestsTheySend) {
  Backlog backlog;
  for (int i = 0; i < 120; ++i) backlog.SubmitFor("many", Request("many", 8, i, 16));
  for (int i = 0; i < 12; ++i) backlog.SubmitFor("few", Request("few", 8, 200 + i, 60));
  backlog.PumpUntil([&] { return backlog.finished_by["few"] >= 8; });
  EXPECT_LT(backlog.finished_by["many"], 100) << "both still have work waiting";
  // Per request: 8 read and 16 written against 8 and 60; a request is the grain of a share.
  const double many = backlog.finished_by["many"] * (8 + 2 * 16.0);
  const double few = backlog.finished_by["few"] * (8 + 2 * 60.0);
  EXPECT_NEAR(many / few, 1.0, 0.35);
}

TEST(FairnessTest, AbsenceSavesNothingUp) {
  Backlog backlog;
  for (int i = 0; i < 80; ++i) backlog.SubmitFor("early", Request("early", 8, i, 20));
  backlog.PumpUntil([&] { return backlog.finished_by["early"] >= 20; });
  const int before = backlog.tokens["early"];
  for (int i = 0; i < 80; ++i) backlog.SubmitFor("late", Request("late", 8, 100 + i, 20));
  backlog.PumpUntil([&] { return backlog.finished_by["late"] >= 15; });
  EXPECT_GE(backlog.tokens["early"] - before, backlog.tokens["late"] / 2)
      << "the late one does not first catch up with what the early one had";
}

TEST(FairnessTest, ALongPromptLetsShortOnesOfOthersPass) {
  EngineOptions options;
  options.max_batch_tokens = 64;
  FakeModelOptions model;
  model.token_time = absl::Microseconds(20);
  EngineHarness harness(options, model);
  const uint64_t reading = harness.Submit(Request("a", 4000, 1, 1));
  harness.PumpFor(absl::Milliseconds(2));
  const uint64_t brief = harness.Submit(Request("b", 30, 2, 1));
  harness.WaitFinished(brief);
  EXPECT_FALSE(harness.finished(reading));
  harness.WaitFinished(reading);
}

TEST(FairnessTest, ATenantsNameIsBounded) {
  EngineHarness harness;
  EXPECT_THAT(std::string(harness.TrySubmit(Request(std::string(65, 'x'), 5, 1, 1)).message()),
              ::testing::HasSubstr("tenant has 65 bytes; at most 64 are allowed"));
}

TEST(FairSharesTest, ReadingCostsOneWritingTwoAndComputingAgainNothing) {
  FairShares shares;
  Sequence s;
  shares.Enter(&s);
  shares.Charge(&s, 10, true);  // ten read, one written
  EXPECT_EQ(FairShares::TenantServed(s), 11u);
  s.n_computed = 10;
  shares.Charge(&s, 1, true);
  EXPECT_EQ(FairShares::ExpertServed(s), 13u);
  s.n_computed = 0;  // put back
  shares.Charge(&s, 11, true);
  EXPECT_EQ(FairShares::ExpertServed(s), 13u);
}

TEST(FairSharesTest, IdlePartiesAreForgottenWhenTheirLevelSaysNothing) {
  FairShares shares;
  Sequence busy;
  busy.request.tenant = "busy";
  shares.Enter(&busy);
  shares.Charge(&busy, 100, false);
  for (int i = 0; i < 5000; ++i) {
    Sequence s;
    s.request.tenant = "t" + std::to_string(i);
    shares.Enter(&s);
    EXPECT_EQ(FairShares::TenantServed(s), 100u) << "raised to the least of the active";
    shares.Charge(&s, 50 + i, false);  // leaves ahead of the busy one: worth remembering
    shares.Leave(&s);
  }
  EXPECT_LE(shares.n_tenants(), FairShares::kMaxTenants);
  EXPECT_GT(shares.n_tenants(), 1u);
  shares.Leave(&busy);
  EXPECT_EQ(shares.n_tenants(), 0u) << "nobody is there to be compared with";
}

}  // namespace
}  // namespace coterie
