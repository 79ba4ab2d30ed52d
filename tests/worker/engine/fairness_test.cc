// Neither a busy client nor a busy expert starves the others.
#include <atomic>
#include <functional>
#include <map>

#include "absl/time/clock.h"
#include "common/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/worker/engine/engine_harness.h"
#include "worker/engine/fair_shares.h"

namespace coterie {
namespace {

SequenceRequest Request(const std::string& tenant, int prompt, int seed, uint32_t max_tokens) {
  SequenceRequest request = TestRequest(TestPrompt(prompt, seed), max_tokens);
  request.tenant = tenant;
  return request;
}

EngineOptions Options(int max_seqs, int max_batch_tokens) {
  EngineOptions options;
  options.max_seqs = max_seqs;
  options.max_batch_tokens = max_batch_tokens;
  return options;
}

// An engine that goes step by step, with answers counted by party.
struct Backlog : EngineHarness {
  explicit Backlog(EngineOptions options = Options(2, 256)) : EngineHarness(std::move(options)) {
    HoldSteps();
    on_event = [this](const OutputEvent& event) {
      if (event.kind == OutputEvent::Kind::kToken) ++tokens[party[event.id]];
      if (event.kind == OutputEvent::Kind::kFinish) ++finished_by[party[event.id]];
    };
  }
  uint64_t SubmitFor(const std::string& name, SequenceRequest request) {
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
  // The cold one's adapter is in memory already: what is tried here is the order, not the loader.
  SequenceRequest request = Request("t", 20, 99, 20);
  request.adapters = {cold};
  const uint64_t warm = backlog.SubmitFor("warm", request);
  backlog.StepUntil([&] { return backlog.finished(warm); });
  for (int i = 0; i < 60; ++i) {
    SequenceRequest busy = Request("t", 20, i, 20);
    busy.adapters = {hot};
    backlog.SubmitFor("hot", busy);
  }
  backlog.StepUntil([&] { return backlog.finished_by["hot"] >= 4; });
  const int before = backlog.finished_by["hot"];
  const uint64_t id = backlog.SubmitFor("cold", request);
  EXPECT_LT(before, 50) << "there is a queue to overtake";
  backlog.StepUntil([&] { return backlog.tokens["cold"] > 0; });
  // One of the two seats is free after one answer; a third may end in the step that starts the cold one.
  EXPECT_LE(backlog.finished_by["hot"] - before, 4) << "of those that came earlier";
  backlog.StepUntil([&] { return backlog.finished(id); });
}

TEST(FairnessTest, TenantsAreServedAlikeHoweverManyRequestsTheySend) {
  Backlog backlog;
  for (int i = 0; i < 120; ++i) backlog.SubmitFor("many", Request("many", 8, i, 16));
  for (int i = 0; i < 12; ++i) backlog.SubmitFor("few", Request("few", 8, 200 + i, 60));
  int many = 0;
  backlog.StepUntil([&] {
    if (backlog.finished_by["few"] < 8) many = backlog.finished_by["many"];
    return backlog.finished_by["few"] >= 8;
  });
  EXPECT_LT(many, 110) << "both still have work waiting";
  // Cost of a request: 8 read and 16 written against 8 and 60; a request is the grain of a share.
  EXPECT_NEAR(many * (8 + 2 * 16.0) / (8 * (8 + 2 * 60.0)), 1.0, 0.35);
}

TEST(FairnessTest, AbsenceSavesNothingUp) {
  Backlog backlog;
  for (int i = 0; i < 120; ++i) backlog.SubmitFor("early", Request("early", 8, i, 20));
  backlog.StepUntil([&] { return backlog.finished_by["early"] >= 20; });
  const int before = backlog.tokens["early"];
  for (int i = 0; i < 80; ++i) backlog.SubmitFor("late", Request("late", 8, 100 + i, 20));
  EXPECT_LT(before, 100 * 20) << "there is work left to share";
  int early = 0;
  backlog.StepUntil([&] {
    if (backlog.finished_by["late"] < 15) early = backlog.tokens["early"] - before;
    return backlog.finished_by["late"] >= 15;
  });
  EXPECT_GE(early, 15 * 20 / 2) << "the late one does not first catch up with what the early one had";
}

// A prompt of 4000 tokens is being read, 64 a step, when `other` comes.
void ExpectOvertaken(const std::function<SequenceRequest(Backlog*)>& busy,
                     const std::function<SequenceRequest(Backlog*)>& other) {
  Backlog backlog(Options(32, 64));
  const uint64_t reading = backlog.Submit(busy(&backlog));
  backlog.StepUntil([&] { return backlog.engine().stats().prompt_tokens >= 64; });
  const uint64_t brief = backlog.Submit(other(&backlog));
  backlog.StepUntil([&] { return backlog.finished(brief); });
  EXPECT_FALSE(backlog.finished(reading));
  backlog.StepUntil([&] { return backlog.finished(reading); });
}

TEST(FairnessTest, ALongPromptLetsAnotherTenantPass) {
  ExpectOvertaken([](Backlog*) { return Request("a", 4000, 1, 1); },
                  [](Backlog*) { return Request("b", 30, 2, 1); });
}

TEST(FairnessTest, ALongPromptLetsAnotherExpertOfItsTenantPass) {
  const auto with = [](const char* expert, int prompt) {
    return [=](Backlog* backlog) {
      SequenceRequest request = Request("t", prompt, 1, 1);
      request.adapters = {{backlog->MakeAdapter(expert), 1.0f, expert}};
      return request;
    };
  };
  ExpectOvertaken(with("hot", 4000), with("cold", 30));
}

TEST(FairnessTest, WhatWaitedLongIsReachedHoweverManyNewPartiesCome) {
  EngineOptions options = Options(1, 256);
  options.aging_interval = absl::Milliseconds(2);
  Backlog backlog(options);
  // The tenant is far ahead of all that come later.
  const uint64_t first = backlog.SubmitFor("heavy", Request("heavy", 3000, 1, 1));
  backlog.StepUntil([&] { return backlog.finished(first); });
  int n = 0;
  for (; n < 8; ++n) backlog.SubmitFor("new", Request("n" + std::to_string(n), 8, n, 8));
  backlog.SubmitFor("heavy", Request("heavy", 3000, 2, 40));
  const uint64_t held_up = backlog.SubmitFor("heavy", Request("heavy", 8, 3, 2));
  int newcomers_before = 0;
  while (!backlog.finished(held_up) && n < 4000) {
    const int finished = backlog.finished_by["new"];
    backlog.SubmitFor("new", Request("n" + std::to_string(n), 8, n, 8));
    ++n;
    backlog.StepUntil([&] { return backlog.finished_by["new"] > finished || backlog.finished(held_up); });
    newcomers_before = backlog.finished_by["new"];
  }
  EXPECT_TRUE(backlog.finished(held_up)) << "after " << newcomers_before << " newcomers";
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
  s.n_launched = 10;
  shares.Charge(&s, 1, true);
  EXPECT_EQ(FairShares::ExpertServed(s), 13u);
  s.n_launched = 0;  // put back
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
