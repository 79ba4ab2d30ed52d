#include "gateway/upstream/worker_state.h"

#include "common/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coterie::gateway::testing {
namespace {

const MonotonicTime kNow = MonotonicTime::Epoch() + absl::Seconds(1'000'000);

TEST(WorkerStateFoldTest, FollowsResidencyAndWarmPrefixesByTheirChanges) {
  const Digest a = Sha256("a"), b = Sha256("b");
  WorkerStateFold fold;
  WorkerStateUpdate update;
  update.resident_added = {a, b};
  update.prefixes_added = {1, 2, 3};
  fold.Apply(update);
  update = {};
  update.resident_removed = {a};
  update.prefixes_removed = {2};
  fold.Apply(update);

  PlacementRequest request;
  request.adapters = {{"a", a, 1}, {"b", b, 1}};
  std::vector<uint64_t> keys = {1, 2, 3, 4};
  request.prefix_keys = keys;
  const WorkerView view = fold.View({}, request, 0, kNow);
  EXPECT_THAT(view.resident, ::testing::ElementsAre(b));
  // Without the block before it a block is worth nothing.
  EXPECT_EQ(view.warm_blocks, 1u);
  keys = {2, 1, 3};
  EXPECT_EQ(fold.View({}, request, 0, kNow).warm_blocks, 0u);
  keys = {3, 1};
  request.prefix_keys = keys;
  EXPECT_EQ(fold.View({}, request, 0, kNow).warm_blocks, 2u);
  EXPECT_FALSE(fold.Holds(a));
  EXPECT_TRUE(fold.Holds(b));
}

TEST(WorkerStateFoldTest, CountsWhatWasSubmittedSinceTheLastState) {
  WorkerStateFold fold;
  WorkerStateUpdate update;
  update.running = 2;
  fold.Apply(update);
  EXPECT_EQ(fold.View({}, {}, 7, kNow).waiting, 5u);
  EXPECT_EQ(fold.View({}, {}, 1, kNow).waiting, 0u);
}

TEST(WorkerStateFoldTest, ServesFollowsPatterns) {
  WorkerIdentity identity;
  identity.serves = {"law-*", "code"};
  WorkerStateFold fold;
  PlacementRequest request;
  request.adapters = {{"law-french", Sha256("x"), 1}};
  EXPECT_TRUE(fold.View(identity, request, 0, kNow).serves.contains("law-french"));
  request.adapters[0].name = "cooking";
  const WorkerView view = fold.View(identity, request, 0, kNow);
  EXPECT_FALSE(view.serves.empty());  // empty would mean all
  EXPECT_FALSE(view.serves.contains("cooking"));
}

TEST(WorkerStateFoldTest, AWorkerCannotFillTheGatewaysMemory) {
  WorkerStateFold fold;
  WorkerStateUpdate update;
  for (uint64_t i = 0; i <= WorkerStateFold::kMaxPrefixes; ++i) update.prefixes_added.push_back(i);
  fold.Apply(update);
  const std::vector<uint64_t> keys = {1};
  PlacementRequest request;
  request.prefix_keys = keys;
  EXPECT_EQ(fold.View({}, request, 0, kNow).warm_blocks, 0u);
}

TEST(WorkerStateFoldTest, AnAdapterThatWasAskedForIsOnItsWayUntilItIsThereOrLongOverdue) {
  const Digest asked = Sha256("asked");
  PlacementRequest request;
  request.adapters = {{"asked", asked, 1}};
  WorkerStateFold fold;
  EXPECT_TRUE(fold.View({}, request, 0, kNow).loading.empty());
  EXPECT_TRUE(fold.Expect(asked, kNow));
  EXPECT_FALSE(fold.Expect(asked, kNow + absl::Seconds(1)));  // asked for already
  EXPECT_TRUE(fold.View({}, request, 0, kNow).loading.contains(asked));
  EXPECT_TRUE(fold.View({}, request, 0, kNow + WorkerStateFold::kComingFor).loading.empty());
  EXPECT_TRUE(fold.Expect(asked, kNow + WorkerStateFold::kComingFor));

  WorkerStateUpdate update;
  update.resident_added = {asked};
  fold.Apply(update);
  const WorkerView view = fold.View({}, request, 0, kNow);
  EXPECT_TRUE(view.loading.empty());
  EXPECT_TRUE(view.resident.contains(asked));
  EXPECT_FALSE(fold.Expect(asked, kNow));  // it is there
  WorkerStateUpdate gone;
  gone.resident_removed = {asked};
  fold.Apply(gone);
  EXPECT_TRUE(fold.Expect(asked, kNow));
}

TEST(WorkerStateFoldTest, OnlySoManyAdaptersAreExpectedAtATime) {
  WorkerStateFold fold;
  for (size_t i = 0; i < WorkerStateFold::kMaxComing; ++i) {
    EXPECT_TRUE(fold.Expect(Sha256(absl::StrCat(i)), kNow));
  }
  EXPECT_FALSE(fold.Expect(Sha256("one more"), kNow));
  EXPECT_TRUE(fold.Expect(Sha256("one more"), kNow + WorkerStateFold::kComingFor));
}

WorkerIdentity IdentityOf(const std::string& id) {
  WorkerIdentity identity;
  identity.worker_id = id;
  identity.base = Sha256("base");
  identity.max_sequence_tokens = 4096;
  identity.kv_block_tokens = 16;
  identity.kv_blocks = 1024;
  identity.adapter_slots = 4;
  identity.max_running = 16;
  return identity;
}

PlacementRequest AsksFor(const std::string& expert) {
  PlacementRequest request;
  request.adapters = {{expert, Sha256(expert), 1'000'000}};
  request.base = Sha256("base");
  request.n_prompt_tokens = 50;
  request.max_new_tokens = 50;
  return request;
}

// Placement over views made here, as in production: one with a worker that has a slot left, one with a full
// one.
TEST(WorkerStateFoldTest, PlacementChargesAFullWorkerForTheAdapterItWouldPushOut) {
  WorkerStateUpdate full_state;  // as the worker says it: a number, and the changes
  for (int i = 0; i < 4; ++i) full_state.resident_added.push_back(Sha256(absl::StrCat("another ", i)));
  full_state.adapters_resident = 4;
  WorkerStateUpdate roomy_state = full_state;
  roomy_state.resident_added.pop_back();
  roomy_state.adapters_resident = 3;
  WorkerStateFold full, roomy;
  full.Apply(full_state);
  roomy.Apply(roomy_state);
  const Placer placer = Placer::Create({}).value();
  for (int e = 0; e < 20; ++e) {  // with whatever home
    const PlacementRequest request = AsksFor(absl::StrCat("expert ", e));
    const std::vector<WorkerView> views = {full.View(IdentityOf("full"), request, 0, kNow),
                                           roomy.View(IdentityOf("roomy"), request, 0, kNow)};
    EXPECT_EQ(views[0].adapter_slots_taken, 4u);
    const auto placement = placer.Place(request, views);
    ASSERT_TRUE(placement.ok()) << placement.status();
    EXPECT_EQ(placement->worker_id, "roomy") << placement->reason;
  }
  // An adapter on its way will take the slot that is left.
  ASSERT_TRUE(roomy.Expect(Sha256("on its way"), kNow));
  EXPECT_EQ(roomy.View(IdentityOf("roomy"), AsksFor("x"), 0, kNow).adapter_slots_taken, 4u);
  EXPECT_EQ(roomy.View(IdentityOf("roomy"), AsksFor("x"), 0, kNow + WorkerStateFold::kComingFor)
                .adapter_slots_taken,
            3u);
}

TEST(WorkerStateFoldTest, WhatAWorkerSaysItHoldsIsWhatPlacementCountsWith) {
  WorkerIdentity small = IdentityOf("small");
  small.max_sequence_tokens = 64;
  WorkerIdentity coarse = IdentityOf("coarse");
  coarse.max_sequence_tokens = 0;  // says nothing: its cache of 3 blocks is the limit
  coarse.kv_block_tokens = 64;
  coarse.kv_blocks = 3;
  const WorkerStateFold fold;
  const Placer placer = Placer::Create({}).value();
  const PlacementRequest request = AsksFor("x");
  const std::vector<WorkerView> views = {fold.View(small, request, 0, kNow),
                                         fold.View(coarse, request, 0, kNow)};
  EXPECT_EQ(views[0].max_sequence_tokens, 64u);
  EXPECT_EQ(placer.Place(request, views)->worker_id, "coarse");
}

}  // namespace
}  // namespace coterie::gateway::testing
