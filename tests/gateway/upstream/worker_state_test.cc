#include "gateway/upstream/worker_state.h"

#include "common/clock.h"
#include "gateway/upstream/convert_worker.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coterie::gateway::testing {
namespace {

using ::testing::HasSubstr;

const MonotonicTime kNow = MonotonicTime::Epoch() + absl::Seconds(1'000'000);

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

// Folds over one board, as links have them.
class WorkerStateFoldTest : public ::testing::Test {
 protected:
  // One that has said who it is and is heard.
  std::unique_ptr<WorkerStateFold> Join(const WorkerIdentity& identity) {
    auto fold = std::make_unique<WorkerStateFold>(board_, "127.0.0.1:" + identity.worker_id);
    fold->Identify(identity);
    Stand(fold.get(), 0);
    return fold;
  }
  void Stand(WorkerStateFold* fold, uint32_t assigned) {
    fold->Stand({.alive_until = MonotonicTime::InfiniteFuture(), .assigned = assigned});
  }
  StatusOr<Placement> TryPlace(const PlacementRequest& request, MonotonicTime now = kNow) {
    const Placer placer = Placer::Create({}).value();
    return board_->With([&](WorkerTable& table) { return placer.Place(request, table, now); });
  }
  std::string Reason(const PlacementRequest& request, MonotonicTime now = kNow) {
    const auto placement = TryPlace(request, now);
    return placement.ok() ? placement->reason : std::string(placement.status().message());
  }

  std::shared_ptr<WorkerBoard> board_ = std::make_shared<WorkerBoard>();
};

TEST_F(WorkerStateFoldTest, CapacityIsTheGatewaysPartOfTheWorker) {
  WorkerIdentity identity = IdentityOf("w");
  identity.max_running = 16;
  identity.max_waiting = 48;
  const auto fold = Join(identity);
  EXPECT_EQ(board_->Capacity(), 64u);  // a worker that does not say
  WorkerStateUpdate update;
  for (const auto& [said, counted] : {std::pair{32u, 32u}, {1000u, 64u}, {1u, 1u}, {0u, 64u}}) {
    update.places = said;
    fold->Apply(update);
    EXPECT_EQ(board_->Capacity(), counted) << said;
  }
  update.places = 8;
  fold->Apply(update);
  fold->Reset();
  EXPECT_EQ(board_->Capacity(), 64u);
}

TEST_F(WorkerStateFoldTest, FollowsResidencyAndWarmPrefixesByTheirChanges) {
  const Digest a = Sha256("a"), b = Sha256("b");
  const auto fold = Join(IdentityOf("w"));
  WorkerStateUpdate update;
  update.resident_added = {a, b};
  update.prefixes_added = {1, 2, 3};
  fold->Apply(update);
  update = {};
  update.resident_removed = {a};
  update.prefixes_removed = {2};
  fold->Apply(update);
  EXPECT_FALSE(fold->Holds(a));
  EXPECT_TRUE(fold->Holds(b));
  EXPECT_THAT(Reason(AsksFor("a")), HasSubstr("1 adapter to load"));
  EXPECT_THAT(Reason(AsksFor("b")), HasSubstr("adapter resident"));

  PlacementRequest request = AsksFor("b");
  // Without the block before it a block is worth nothing.
  std::vector<uint64_t> keys = {1, 2, 3, 4};
  request.prefix_keys = keys;
  EXPECT_THAT(Reason(request), HasSubstr("16 of 50 prompt tokens warm"));
  keys = {2, 1, 3};
  request.prefix_keys = keys;
  EXPECT_THAT(Reason(request), Not(HasSubstr("warm")));
  keys = {3, 1};
  request.prefix_keys = keys;
  EXPECT_THAT(Reason(request), HasSubstr("32 of 50 prompt tokens warm"));

  fold->Reset();
  EXPECT_FALSE(fold->Holds(b));
  EXPECT_THAT(Reason(request), AllOf(HasSubstr("1 adapter to load"), Not(HasSubstr("warm"))));
}

// More than is written under the lock at a time, there and back.
TEST_F(WorkerStateFoldTest, ALongListIsFollowedWhole) {
  const auto fold = Join(IdentityOf("w"));
  WorkerStateUpdate update;
  std::vector<uint64_t> keys;
  for (uint64_t i = 0; i < 3000; ++i) keys.push_back(i);
  update.prefixes_added = keys;
  fold->Apply(update);
  std::vector<uint32_t> warm;
  const auto count = [&] {
    board_->With([&](WorkerTable& table) { table.CountWarm(keys, &warm); });
    return warm[0];
  };
  EXPECT_EQ(count(), 3000u);
  update = {};
  update.prefixes_removed.assign(keys.begin() + 1000, keys.end());
  fold->Apply(update);
  EXPECT_EQ(count(), 1000u);
  fold->Reset();
  EXPECT_EQ(count(), 0u);
}

TEST_F(WorkerStateFoldTest, AfterMoreChangesThanTheWorkerKeepsPrefixesBeginAnew) {
  const auto fold = Join(IdentityOf("w"));
  WorkerStateUpdate update;
  update.prefixes_added = {1, 2, 3};
  update.resident_added = {Sha256("x")};
  fold->Apply(update);
  update = {};
  update.prefixes_reset = true;
  update.prefixes_added = {2};
  fold->Apply(update);
  PlacementRequest request = AsksFor("x");
  std::vector<uint64_t> keys = {2, 1};
  request.prefix_keys = keys;
  EXPECT_THAT(Reason(request),
              AllOf(HasSubstr("16 of 50 prompt tokens warm"), HasSubstr("adapter resident")));
}

TEST_F(WorkerStateFoldTest, PlacementReckonsWithWhatAWorkerMeasuresWithinReason) {
  const auto fold = Join(IdentityOf("w"));
  const auto seconds = [&](const std::string& expert) { return TryPlace(AsksFor(expert))->cost_seconds; };
  // As assumed: 50 tokens at 1,000 a second; 1 MB at 200 MB a second and 5 ms.
  EXPECT_DOUBLE_EQ(seconds("cold"), 0.050 + 0.005 + 0.005);
  WorkerStateUpdate update;
  const double nonsense[] = {0, -5, NAN, INFINITY};
  for (const double value : nonsense) {
    update.prefill_tokens_per_second = update.load_bytes_per_second = update.answer_tokens = value;
    fold->Apply(update);
    EXPECT_DOUBLE_EQ(seconds("cold"), 0.060) << value;
  }
  update.prefill_tokens_per_second = 10'000;
  update.load_bytes_per_second = 2e9;
  update.answer_tokens = 16;
  for (int i = 0; i < 200; ++i) fold->Apply(update);
  EXPECT_NEAR(seconds("cold"), 0.005 + 0.005 + 0.0005, 1e-4);
  // Two sequences wait: 16 tokens each at 50 a second.
  update.waiting = 2;
  for (int i = 0; i < 200; ++i) fold->Apply(update);
  EXPECT_NEAR(seconds("cold"), 2 * 16 / 50.0 + 0.0105, 1e-3);
  // A worker that comes anew is reckoned with as one that nobody knows.
  fold->Reset();
  EXPECT_DOUBLE_EQ(seconds("cold"), 0.060);
}

TEST_F(WorkerStateFoldTest, WhatAWorkerOfEitherAgeSaysIsRead) {
  v1::WorkerState state;
  state.add_prefixes_added(7);
  WorkerStateUpdate update = StateFromProto(state).value();  // of one that measures nothing
  EXPECT_EQ(update.prefill_tokens_per_second, 0);
  EXPECT_EQ(update.load_bytes_per_second, 0);
  EXPECT_EQ(update.answer_tokens, 0);
  EXPECT_FALSE(update.prefixes_reset);
  state.set_prefixes_reset(true);
  state.set_prefill_tokens_per_second(1);
  state.set_adapter_load_bytes_per_second(2);
  state.set_answer_tokens(3);
  update = StateFromProto(state).value();
  EXPECT_TRUE(update.prefixes_reset);
  EXPECT_EQ(update.prefixes_added, std::vector<uint64_t>{7});
  EXPECT_EQ(update.prefill_tokens_per_second, 1);
  EXPECT_EQ(update.load_bytes_per_second, 2);
  EXPECT_EQ(update.answer_tokens, 3);
}

TEST_F(WorkerStateFoldTest, BytesBetweenWorkersAddUpOverAllIncarnationsOfAWorker) {
  WorkerIdentity identity = IdentityOf("w");
  identity.incarnation = "first";
  const auto fold = Join(identity);
  const auto said = [&](uint64_t bytes) {
    WorkerStateUpdate update;
    update.bytes_between_workers = bytes;
    fold->Apply(update);
    return fold->levels().bytes_between_workers;
  };
  EXPECT_EQ(said(100), 100u);
  EXPECT_EQ(said(150), 150u);
  // The connection breaks, and the same process says what it had counted by then.
  fold->Identify(identity);
  fold->Reset();
  EXPECT_EQ(fold->levels().bytes_between_workers, 150u);
  EXPECT_EQ(said(160), 160u);
  identity.incarnation = "second";  // which counts from nothing
  fold->Identify(identity);
  fold->Reset();
  EXPECT_EQ(said(40), 200u);
  EXPECT_EQ(said(30), 200u);  // nonsense takes nothing back
}

TEST_F(WorkerStateFoldTest, CountsWhatWasSubmittedSinceTheLastState) {
  const auto fold = Join(IdentityOf("w"));
  WorkerStateUpdate update;
  update.running = 2;
  fold->Apply(update);
  Stand(fold.get(), 7);
  EXPECT_THAT(Reason(AsksFor("x")), HasSubstr("2 running, 5 waiting"));
  Stand(fold.get(), 1);
  EXPECT_THAT(Reason(AsksFor("x")), HasSubstr("2 running, 0 waiting"));
}

TEST_F(WorkerStateFoldTest, ServesFollowsPatterns) {
  WorkerIdentity identity = IdentityOf("w");
  identity.serves = {"law-*", "code"};
  const auto fold = Join(identity);
  EXPECT_THAT(Reason(AsksFor("law-french")), Not(HasSubstr("outside its share")));
  EXPECT_THAT(Reason(AsksFor("code")), Not(HasSubstr("outside its share")));
  EXPECT_THAT(Reason(AsksFor("cooking")), HasSubstr("outside its share of experts"));
}

TEST_F(WorkerStateFoldTest, AnAdapterThatWasAskedForIsOnItsWayUntilItIsThereOrLongOverdue) {
  const Digest asked = Sha256("asked");
  const auto fold = Join(IdentityOf("w"));
  EXPECT_THAT(Reason(AsksFor("asked")), HasSubstr("1 adapter to load"));
  EXPECT_TRUE(fold->Expect(asked, kNow));
  EXPECT_FALSE(fold->Expect(asked, kNow + absl::Seconds(1)));  // asked for already
  EXPECT_THAT(Reason(AsksFor("asked")), HasSubstr("adapter on its way"));
  EXPECT_THAT(Reason(AsksFor("asked"), kNow + WorkerTable::kComingFor), HasSubstr("1 adapter to load"));
  EXPECT_TRUE(fold->Expect(asked, kNow + WorkerTable::kComingFor));

  WorkerStateUpdate update;
  update.resident_added = {asked};
  fold->Apply(update);
  EXPECT_THAT(Reason(AsksFor("asked")), HasSubstr("adapter resident"));
  EXPECT_FALSE(fold->Expect(asked, kNow));  // it is there
  WorkerStateUpdate gone;
  gone.resident_removed = {asked};
  fold->Apply(gone);
  EXPECT_TRUE(fold->Expect(asked, kNow));
}

// As a worker says it: a number, and the changes.
TEST_F(WorkerStateFoldTest, PlacementChargesAFullWorkerForTheAdapterItWouldPushOut) {
  WorkerStateUpdate full_state;
  for (int i = 0; i < 4; ++i) full_state.resident_added.push_back(Sha256(absl::StrCat("another ", i)));
  full_state.adapters_resident = 4;
  WorkerStateUpdate roomy_state = full_state;
  roomy_state.resident_added.pop_back();
  roomy_state.adapters_resident = 3;
  const auto full = Join(IdentityOf("full")), roomy = Join(IdentityOf("roomy"));
  full->Apply(full_state);
  roomy->Apply(roomy_state);
  for (int e = 0; e < 20; ++e) {  // with whatever home
    const auto placement = TryPlace(AsksFor(absl::StrCat("expert ", e)));
    ASSERT_TRUE(placement.ok()) << placement.status();
    EXPECT_EQ(placement->worker_id, "roomy") << placement->reason;
  }
  // An adapter on its way will take the slot that is left.
  ASSERT_TRUE(roomy->Expect(Sha256("on its way"), kNow));
  size_t n_full = 0;
  for (int e = 0; e < 20; ++e) n_full += TryPlace(AsksFor(absl::StrCat("expert ", e)))->worker_id == "full";
  EXPECT_GT(n_full, 0u);
  for (int e = 0; e < 20; ++e) {
    EXPECT_EQ(TryPlace(AsksFor(absl::StrCat("expert ", e)), kNow + WorkerTable::kComingFor)->worker_id,
              "roomy");
  }
}

TEST_F(WorkerStateFoldTest, WhatAWorkerSaysItHoldsIsWhatPlacementCountsWith) {
  WorkerIdentity small = IdentityOf("small");
  small.max_sequence_tokens = 64;
  WorkerIdentity coarse = IdentityOf("coarse");
  coarse.max_sequence_tokens = 0;  // says nothing: its cache of 3 blocks is the limit
  coarse.kv_block_tokens = 64;
  coarse.kv_blocks = 3;
  const auto a = Join(small), b = Join(coarse);
  EXPECT_EQ(TryPlace(AsksFor("x"))->worker_id, "coarse");
}

TEST_F(WorkerStateFoldTest, AWorkerIsKnownByItsAddressUntilItSaysItsIdAndNotAtAllAfterItLeft) {
  auto fold = std::make_unique<WorkerStateFold>(board_, "10.0.0.1:7070");
  EXPECT_THAT(Reason(AsksFor("x")), HasSubstr("10.0.0.1:7070 does not answer"));
  fold->Identify(IdentityOf("w"));
  Stand(fold.get(), 0);
  EXPECT_EQ(TryPlace(AsksFor("x"))->worker_id, "w");
  fold->Leave();
  EXPECT_THAT(Reason(AsksFor("x")), HasSubstr("none is known"));
  // Messages that still come change nobody's row.
  const auto other = Join(IdentityOf("other"));
  WorkerStateUpdate update;
  update.draining = true;
  update.resident_added = {Sha256("x")};
  fold->Apply(update);
  fold->Stand({});
  fold->Reset();
  fold.reset();
  EXPECT_EQ(TryPlace(AsksFor("x"))->worker_id, "other");
  EXPECT_THAT(Reason(AsksFor("x")), HasSubstr("1 adapter to load"));
}

}  // namespace
}  // namespace coterie::gateway::testing
