// Canaries, promotion and roll-back.
#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/model/store/store_testing.h"

namespace coterie {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class VersionsTest : public StoreTest {
 protected:
  Digest Publish(ExpertStore* store, const std::string& version,
                 std::optional<double> canary_share = std::nullopt) {
    const auto result =
        store->Publish(Source({.version = version, .weights = "weights " + version}), canary_share);
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? result->expert.digest : Digest();
  }
  static CatalogueEntry Entry(const ExpertStore& store) { return *store.Snapshot()->Find("postgres"); }
  static std::vector<std::string> History(const ExpertStore& store) {
    std::vector<std::string> versions;
    for (const ExpertVersion& version : Entry(store).history) versions.push_back(version.version);
    return versions;
  }
};

TEST_F(VersionsTest, ACanaryStandsBesideTheLiveVersionForEveryReader) {
  auto store = OpenStore();
  const Digest live = Publish(store.get(), "1");
  const PublishResult result =
      store->Publish(Source({.version = "2", .weights = "weights 2", .description = "other words"}), 0.25)
          .value();
  EXPECT_TRUE(result.changed);
  EXPECT_EQ(result.words, absl::StrCat("published postgres 2 (", result.expert.digest.Short(),
                                       ") is the canary with share 0.25 (generation 2)"));
  const auto reader = ExpertStore::Open(Root(), {}).value();
  const CatalogueEntry entry = Entry(*reader);
  EXPECT_EQ(entry.live.adapter, live);
  EXPECT_EQ(entry.description, "about databases");
  ASSERT_TRUE(entry.canary.has_value());
  EXPECT_EQ(entry.canary->version.adapter, result.expert.digest);
  EXPECT_EQ(entry.canary->version.version, "2");
  EXPECT_EQ(entry.canary->share, 0.25);
  EXPECT_TRUE(entry.history.empty());
  EXPECT_TRUE(reader->ObjectPath(result.expert.digest).ok());
}

TEST_F(VersionsTest, PublishingACanaryAgainReplacesItAndTheSameChangesNothing) {
  auto store = OpenStore();
  Publish(store.get(), "1");
  const Digest second = Publish(store.get(), "2", 0.1);
  const auto again = store->Publish(Source({.version = "2", .weights = "weights 2"}), 0.1).value();
  EXPECT_FALSE(again.changed);
  EXPECT_EQ(again.words, absl::StrCat("nothing changed: postgres 2 (", second.Short(),
                                      ") is the canary with share 0.1 already"));
  EXPECT_EQ(store->Snapshot()->generation, 2u);
  EXPECT_TRUE(store->Publish(Source({.version = "2", .weights = "weights 2"}), 0.5).value().changed);
  EXPECT_EQ(Entry(*store).canary->share, 0.5);
  const Digest third = Publish(store.get(), "3", 0.1);
  EXPECT_EQ(Entry(*store).canary->version.adapter, third);
  EXPECT_TRUE(Entry(*store).history.empty());
  EXPECT_TRUE(store->ObjectPath(second).ok());  // answers in flight may still use it
}

TEST_F(VersionsTest, WhatCannotBeACanaryIsRefusedAndLeavesNoTrace) {
  auto store = OpenStore();
  EXPECT_EQ(store->Publish(Source({}), 0.1).status(),
            absl::NotFoundError(
                "cannot publish a canary of postgres: no expert of that name is live; publish it first"));
  EXPECT_EQ(store->Snapshot()->generation, 0u);
  EXPECT_EQ(CountFiles(Root() / "objects"), 0u);
  const Digest live = Publish(store.get(), "1");
  const Status same = store->Publish(Source({.version = "1.1", .weights = "weights 1"}), 0.1).status();
  EXPECT_EQ(same, absl::FailedPreconditionError(
                      absl::StrCat("cannot publish a canary of postgres: its adapter ", live.Short(),
                                   " is the live one's, so there is nothing to try")));
  EXPECT_EQ(CountFiles(Root() / "cards"), 1u);
  for (const double share : {0.0, -0.1, 1.01, std::nan("")}) {
    const Status status = store->Publish(Source({.weights = "two"}), share).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << share;
    EXPECT_THAT(std::string(ToStd(status.message())), HasSubstr("is not in (0, 1]"));
  }
  EXPECT_FALSE(Entry(*store).canary.has_value());
}

TEST_F(VersionsTest, PromotingMakesTheCanaryLiveWithItsCardAndTheLiveOneHistory) {
  auto store = OpenStore();
  const Digest first = Publish(store.get(), "1");
  EXPECT_EQ(store->Promote("postgres").status(),
            absl::FailedPreconditionError("expert postgres has no canary to promote"));
  EXPECT_EQ(store->Promote("postgres", "0123456789ab").status(),
            absl::FailedPreconditionError("expert postgres has no canary to promote"));
  const Digest replaced =
      store->Publish(Source({.version = "1.5", .weights = "one and a half"}), 0.1).value().expert.digest;
  const Digest second =
      store->Publish(Source({.version = "2", .weights = "two", .description = "better words"}), 0.1)
          .value()
          .expert.digest;
  for (const std::string& not_it : {first.Short(), replaced.Short(), std::string("0123456789ab")}) {
    EXPECT_EQ(store->Promote("postgres", not_it).status(),
              absl::FailedPreconditionError(
                  absl::StrCat("the canary of postgres is 2 (", second.Short(), "), not ", not_it)));
  }
  EXPECT_EQ(store->Promote("postgres", "not a digest").status().code(), absl::StatusCode::kInvalidArgument);
  const PublishResult promoted = store->Promote("postgres", second.Short()).value();
  EXPECT_EQ(promoted.expert.digest, second);
  EXPECT_EQ(promoted.words, absl::StrCat("promoted postgres 2 (", second.Short(), ", generation 4)"));
  const CatalogueEntry entry = Entry(*store);
  EXPECT_EQ(entry.live.adapter, second);
  EXPECT_EQ(entry.description, "better words");
  EXPECT_FALSE(entry.canary.has_value());
  ASSERT_EQ(entry.history.size(), 1u);
  EXPECT_EQ(entry.history[0].adapter, first);
  EXPECT_FALSE(entry.history[0].withdrawn);
  EXPECT_EQ(store->Promote("nobody").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(VersionsTest, RollingBackWithdrawsTheCanaryFirstAndThenGoesBackVersionByVersion) {
  auto store = OpenStore();
  const Digest first = Publish(store.get(), "1");
  const Digest second = Publish(store.get(), "2");
  const Digest third = Publish(store.get(), "3");
  const Digest canary = Publish(store.get(), "4", 0.1);

  const PublishResult withdrawn = store->RollBack("postgres").value();
  EXPECT_EQ(withdrawn.expert.digest, third);
  EXPECT_EQ(withdrawn.words, absl::StrCat("withdrew the canary 4 (", canary.Short(),
                                          ") of postgres; live is 3 (", third.Short(), ", generation 5)"));
  EXPECT_FALSE(Entry(*store).canary.has_value());
  EXPECT_THAT(History(*store), ElementsAre("2", "1"));  // a canary never was live

  EXPECT_EQ(store->RollBack("postgres").value().expert.digest, second);
  EXPECT_THAT(History(*store), ElementsAre("3", "1"));
  EXPECT_TRUE(Entry(*store).history[0].withdrawn);
  // Not to the version that was just given up.
  EXPECT_EQ(store->RollBack("postgres").value().expert.digest, first);
  EXPECT_EQ(store->RollBack("postgres").status(),
            absl::FailedPreconditionError(
                absl::StrCat("expert postgres has no version before 1 (", first.Short(), ") to go back to")));
  // By its digest every one of them can be had again, and what it takes the place of was no mistake then.
  EXPECT_EQ(store->RollBack("postgres", third.ToHex()).value().expert.digest, third);
  EXPECT_EQ(store->RollBack("postgres").value().expert.digest, first);
  EXPECT_EQ(store->RollBack("nobody").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(VersionsTest, ACanaryGoesOnBesideANewLiveVersionUnlessItIsTheOnePublished) {
  auto store = OpenStore();
  Publish(store.get(), "1");
  const Digest canary = Publish(store.get(), "2", 0.1);
  Publish(store.get(), "3");
  ASSERT_TRUE(Entry(*store).canary.has_value());
  EXPECT_EQ(Entry(*store).canary->version.adapter, canary);
  EXPECT_EQ(Publish(store.get(), "2"), canary);
  EXPECT_FALSE(Entry(*store).canary.has_value());
  EXPECT_THAT(History(*store), ElementsAre("3", "1"));
}

TEST_F(VersionsTest, TheGarbageOfACanaryIsCollectedOnlyOnceItIsWithdrawn) {
  auto store = OpenStore();
  Publish(store.get(), "1");
  const Digest canary = Publish(store.get(), "2", 0.1);
  EXPECT_EQ(store->CollectGarbage(absl::ZeroDuration()).value().n_removed, 0u);
  EXPECT_TRUE(store->ObjectPath(canary).ok());
  ASSERT_TRUE(store->RollBack("postgres").ok());
  EXPECT_EQ(store->CollectGarbage(absl::ZeroDuration()).value().n_removed, 2u);
  EXPECT_FALSE(store->ObjectPath(canary).ok());
}

TEST_F(VersionsTest, AnUploadCanBecomeACanary) {
  auto store = OpenStore();
  Publish(store.get(), "1");
  const TestExpert expert{.version = "2", .weights = "two"};
  const auto upload = store->BeginUpload().value();
  ASSERT_TRUE(upload->Write(kConfigFile, "{\"r\": 4}").ok());
  ASSERT_TRUE(upload->Write(kWeightsFile, expert.weights).ok());
  ASSERT_TRUE(upload->Write(kCardFile, CardOf(expert)).ok());
  ASSERT_TRUE(upload->Write(kPrototypesFile, SafetensorsOf("prototypes", {2, 3}, expert.prototypes)).ok());
  const PublishResult result = upload->Commit("postgres", 1.0).value();
  EXPECT_EQ(Entry(*store).canary->version.adapter, result.expert.digest);
}

}  // namespace
}  // namespace coterie
