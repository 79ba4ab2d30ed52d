#include "gateway/upstream/worker_state.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coterie::gateway::testing {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1'000'000);

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
  const std::vector<uint64_t> keys = {1, 2, 3, 4};
  request.prefix_keys = keys;
  const WorkerView view = fold.View({}, request, 0, kNow);
  EXPECT_THAT(view.resident, ::testing::ElementsAre(b));
  EXPECT_THAT(view.warm, ::testing::UnorderedElementsAre(1, 3));
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
  EXPECT_TRUE(fold.View({}, request, 0, kNow).warm.empty());
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

}  // namespace
}  // namespace coterie::gateway::testing
