// Experts that are made of others: what is pinned, refused, kept and rolled back.
#include "model/store/composite.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/store/edit_card.h"
#include "model/store/staging.h"
#include "tests/model/store/store_testing.h"

namespace coterie {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class CompositeTest : public StoreTest {
 protected:
  void SetUp() override {
    StoreTest::SetUp();
    store_ = OpenStore();
    for (const char* name : {"postgres", "python", "rust"}) PublishAdapter(name);
  }

  Digest PublishAdapter(const std::string& name, const std::string& version = "1",
                        const std::string& card_tail = "") {
    const auto result = store_->Publish(
        Source({.name = name, .version = version, .weights = name + " " + version, .card_tail = card_tail}));
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? result->expert.digest : Digest();
  }
  // A folder with a card alone.
  std::filesystem::path Card(const std::string& members, const std::string& version = "1",
                             const std::string& kind = "mixture") {
    const auto folder = folder_ / absl::StrCat("source", n_sources_++);
    std::filesystem::create_directories(folder);
    std::ofstream(folder / kCardFile)
        << "name: both\nversion: \"" << version << "\"\ndescription: two\nkind: " << kind << "\nmembers: ["
        << members << "]\n";
    return folder;
  }
  StatusOr<PublishResult> Mix(const std::string& members, const std::string& version = "1") {
    return store_->Publish(Card(members, version));
  }
  CatalogueEntry Both() const { return *store_->Snapshot()->Find("both"); }
  Digest Live(const std::string& name) const { return store_->Snapshot()->Find(name)->live.adapter; }

  static constexpr const char* kTwo = "{expert: postgres, weight: 0.6}, {expert: python, weight: 0.4}";
  std::unique_ptr<ExpertStore> store_;
};

TEST_F(CompositeTest, MembersArePinnedAndSurviveWhatTheirNamesMeanLater) {
  const PublishResult result = Mix(kTwo).value();
  EXPECT_THAT(result.words, HasSubstr("published both 1 as "));
  const CatalogueEntry entry = Both();
  EXPECT_EQ(entry.live.mode, CollaborationMode::kMixture);
  ASSERT_EQ(entry.live.members.size(), 2u);
  EXPECT_EQ(entry.live.members[0].name, "postgres");
  EXPECT_EQ(entry.live.members[0].adapter, Live("postgres"));
  EXPECT_EQ(entry.live.members[0].weight, 19 / 32.0f);
  EXPECT_EQ(entry.live.members[1].weight, 13 / 32.0f);
  EXPECT_EQ(entry.live.adapter_bytes, 2u + std::string("postgrespython1 ").size());
  EXPECT_EQ(entry.live.adapter, CompositeDigest(entry.live.mode, entry.live.members));
  EXPECT_FALSE(store_->ObjectPath(entry.live.adapter).ok());

  PublishAdapter("postgres", "2");
  EXPECT_EQ(Both().live, entry.live);
  EXPECT_NE(Live("postgres"), entry.live.members[0].adapter);
  // Every reader sees the same, also one that reads the file as JSON of another layout.
  const auto reader = ExpertStore::Open(Root(), {}).value();
  EXPECT_EQ(reader->Snapshot()->Find("both")->live, entry.live);

  // The same folder again means the new version of its member: another version of the mixture.
  const PublishResult again = Mix(kTwo).value();
  EXPECT_TRUE(again.changed);
  EXPECT_EQ(Both().live.members[0].adapter, Live("postgres"));
  EXPECT_FALSE(Mix(kTwo).value().changed);
  // The version that is named is taken wherever it stands.
  ASSERT_TRUE(Mix(absl::StrCat("{expert: postgres@", entry.live.members[0].adapter.ToHex(),
                               ", weight: 0.6}, {expert: python, weight: 0.4}"))
                  .ok());
  EXPECT_EQ(Both().live.adapter, entry.live.adapter);
}

TEST_F(CompositeTest, TheDigestIsOfModeMembersOrderAndWeights) {
  const auto digest_of = [&](const std::string& members, const std::string& kind = "mixture") {
    const auto result = store_->Publish(Card(members, "1", kind));
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? result->expert.digest : Digest();
  };
  const Digest first = digest_of(kTwo);
  EXPECT_EQ(digest_of("{expert: postgres, weight: 0.595}, {expert: python, weight: 0.405}"), first)
      << "the same whole 32nds";
  EXPECT_NE(digest_of("{expert: postgres, weight: 0.5}, {expert: python, weight: 0.5}"), first);
  EXPECT_NE(digest_of("{expert: python, weight: 0.4}, {expert: postgres, weight: 0.6}"), first);
  EXPECT_NE(digest_of("{expert: postgres, weight: 0.6}, {expert: rust, weight: 0.4}"), first);
  EXPECT_NE(digest_of(kTwo, "blend"), first);
  EXPECT_EQ(digest_of("{expert: postgres}, {expert: python}"),
            digest_of("{expert: postgres, weight: 0.5}, {expert: python, weight: 0.5}"));
}

TEST_F(CompositeTest, WithoutPrototypesItHasThoseOfItsMembers) {
  ASSERT_TRUE(Mix(kTwo).ok());
  EXPECT_EQ(Both().n_prototypes, 4u);
  const Prototypes united = store_->ReadPrototypes(Both().live.revision).value();
  EXPECT_TRUE(united.united);
  EXPECT_EQ(united.values, (std::vector<float>{1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0}));

  const auto own = Card(kTwo, "2");
  std::ofstream(own / kPrototypesFile, std::ios::binary) << SafetensorsOf("prototypes", {1, 3}, {0, 0, 1});
  ASSERT_TRUE(store_->Publish(own).ok());
  EXPECT_EQ(Both().n_prototypes, 1u);
  EXPECT_FALSE(store_->ReadPrototypes(Both().live.revision)->united);
}

TEST_F(CompositeTest, ManyPrototypesAreThinnedToTheLimitEvenly) {
  Prototypes many{.n = 6, .dim = 2, .values = {}};
  for (int i = 0; i < 6; ++i) many.values.insert(many.values.end(), {i % 2 == 0 ? 1.0f : -1.0f, 0.0f});
  Prototypes few{.n = 1, .dim = 2, .values = {0, 1}};
  const std::string file =
      UniteIntoFile(std::vector<NamedPrototypes>{{"a", many}, {"b", few}}, {.max_prototypes = 4}).value();
  const Prototypes united =
      ParsePrototypes({reinterpret_cast<const uint8_t*>(file.data()), file.size()}, "p").value();
  EXPECT_EQ(united.values, (std::vector<float>{1, 0, -1, 0, 0, 1}));
  few.dim = 1;
  few.values = {1};
  EXPECT_THAT(UniteIntoFile(std::vector<NamedPrototypes>{{"a", many}, {"b", few}}, {}).status().message(),
              HasSubstr("the prototypes of member b are of dimension 1"));
}

TEST_F(CompositeTest, WhatCannotBeAMemberIsRefusedByName) {
  const auto refusal = [&](const std::string& members) { return Mix(members).status(); };
  const Status unknown = refusal("{expert: postgres}, {expert: cobol}");
  EXPECT_EQ(unknown.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(unknown.message(), HasSubstr("field members[1].expert: no expert \"cobol\" in the catalogue"));
  EXPECT_THAT(refusal("{expert: postgres}, {expert: python@0123456789}").message(),
              HasSubstr("expert python has no version with digest 0123456789"));
  EXPECT_THAT(refusal("{expert: postgres}, {expert: both}").message(),
              HasSubstr("names both, the expert that the card is of"));
  EXPECT_EQ(store_->Snapshot()->generation, 3u);
  ASSERT_TRUE(Mix(kTwo).ok());
  const auto nested = folder_ / "nested";
  std::filesystem::create_directories(nested);
  std::ofstream(nested / kCardFile) << "name: all\nversion: 1\ndescription: x\nkind: blend\n"
                                       "members: [{expert: both}, {expert: rust}]\n";
  const Status refused = store_->Publish(nested).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(refused.message(),
              HasSubstr("members[0].expert is both, which is a mixture itself (0.59 postgres + "
                        "0.41 python); name experts with adapters of their own"));
  // Two names for one adapter.
  ASSERT_TRUE(store_->Publish(Source({.name = "postgresql", .weights = "postgres 1"})).ok());
  EXPECT_THAT(refusal("{expert: postgres}, {expert: postgresql}").message(), HasSubstr("the same version"));
  const auto with_adapter = Card(kTwo);
  std::ofstream(with_adapter / kWeightsFile) << "weights";
  EXPECT_THAT(store_->Publish(with_adapter).status().message(),
              HasSubstr("adapter_model.safetensors is there, and the card says kind: mixture"));
}

TEST_F(CompositeTest, MembersForAnotherBaseAreRefused) {
  const std::string one(64, '1'), two(64, '2');
  PublishAdapter("postgres", "2", absl::StrCat("base_digest: \"", one, "\"\n"));
  PublishAdapter("python", "2", absl::StrCat("base_digest: \"", two, "\"\n"));
  const Status mixed = Mix(kTwo).status();
  EXPECT_EQ(mixed.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(mixed.message(), HasSubstr("members[1].expert is python, made for the base 222222222222"));
  // The store is served over a base of its own.
  ExpertStoreOptions options = TestOptions();
  options.base = Digest::FromHex(two).value();
  store_ = OpenStore(options);
  EXPECT_THAT(Mix("{expert: postgres}, {expert: rust}").status().message(),
              HasSubstr("members[0].expert is postgres, made for the base 111111111111"));
  // An adapter that says nothing and does not fit is seen when it is loaded.
  options.validate_adapter = [](const std::filesystem::path&, const ExpertCard& card) -> StatusOr<Digest> {
    return absl::FailedPreconditionError("of other shapes: " + card.name);
  };
  store_ = OpenStore(options);
  EXPECT_THAT(Mix("{expert: python}, {expert: rust}").status().message(),
              HasSubstr("member python: of other shapes: python"));
}

TEST_F(CompositeTest, CanaryPromotionAndRollBackAreThoseOfAnyExpert) {
  const Digest first = Mix(kTwo).value().expert.digest;
  const auto second_folder = Card("{expert: postgres, weight: 0.5}, {expert: rust, weight: 0.5}", "2");
  const Digest second = store_->Publish(second_folder, 0.25).value().expert.digest;
  EXPECT_EQ(Live("both"), first);
  ASSERT_TRUE(Both().canary.has_value());
  EXPECT_EQ(Both().canary->version.members[1].name, "rust");
  ASSERT_TRUE(store_->Promote("both").ok());
  EXPECT_EQ(Live("both"), second);
  EXPECT_EQ(Both().live.members[1].name, "rust");
  ASSERT_TRUE(store_->RollBack("both").ok());
  EXPECT_EQ(Live("both"), first);
  EXPECT_EQ(Both().live.members[1].name, "python");
  // An adapter and a mixture may be versions of one name.
  ASSERT_TRUE(store_->Publish(Source({.name = "both", .version = "3", .weights = "one for both"})).ok());
  EXPECT_FALSE(Both().live.is_composite());
  ASSERT_TRUE(store_->RollBack("both").ok());
  EXPECT_EQ(Live("both"), first);
}

TEST_F(CompositeTest, AMemberIsRemovedOnlyByForceAndItsBytesStay) {
  ASSERT_TRUE(Mix(kTwo).ok());
  const Digest postgres = Live("postgres");
  const Status refused = store_->Remove("postgres").status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(refused.message(), HasSubstr("expert postgres is a member of both; remove or change"));
  ASSERT_TRUE(store_->Remove("rust").ok());
  ASSERT_TRUE(store_->Remove("postgres", /*force=*/true).ok());
  ASSERT_TRUE(store_->CollectGarbage(absl::ZeroDuration()).ok());
  EXPECT_TRUE(store_->ObjectPath(postgres).ok());
  EXPECT_EQ(Both().live.members[0].adapter, postgres);
  // Of a mixture that was removed itself nothing stays.
  ASSERT_TRUE(store_->Remove("both").ok());
  ASSERT_TRUE(store_->CollectGarbage(absl::ZeroDuration()).ok());
  EXPECT_FALSE(store_->ObjectPath(postgres).ok());
  EXPECT_TRUE(store_->ObjectPath(Live("python")).ok());
}

TEST_F(CompositeTest, AMemberIsSwappedAndTheRestStays) {
  const auto folder = Card(kTwo);
  std::ofstream(folder / kCardFile) << "# by hand\nname: both\nversion: 1.9\nkind: mixture\nmembers:\n"
                                       "  - {expert: postgres, weight: 0.6}\n  # the second\n"
                                       "  - expert: python\n    weight: 0.4\n"
                                       "description: two  # kept\nevaluation: {loss: 2.5}\n";
  const Digest first = store_->Publish(folder).value().expert.digest;
  const Digest pinned = Live("python");
  PublishAdapter("python", "2");
  const PublishResult result =
      store_->SwapMember({.name = "both", .member = "postgres", .with = "rust"}).value();
  EXPECT_THAT(result.words, HasSubstr("published both 1.10 as "));
  EXPECT_EQ(Both().live.members[0].name, "rust");
  EXPECT_EQ(Both().live.members[0].weight, 19 / 32.0f);
  EXPECT_EQ(Both().live.members[1].adapter, pinned) << "not the one that is live by now";
  EXPECT_EQ(Both().n_prototypes, 4u);
  const std::string card = store_->ReadCard(Both().live.revision).value();
  EXPECT_EQ(card, absl::StrCat(
                      "# by hand\nname: both\nversion: \"1.10\"\nkind: mixture\nmembers:\n  - {expert: rust@",
                      Live("rust").ToHex(), ", weight: 0.59375}\n  - {expert: python@", pinned.ToHex(),
                      ", weight: 0.40625}\ndescription: two  # kept\nevaluation: {loss: 2.5}\n"));
  ASSERT_TRUE(store_->RollBack("both").ok());
  EXPECT_EQ(Live("both"), first);

  const auto tried = store_->SwapMember(
      {.name = "both", .member = "python", .with = "rust", .version = "next", .canary_share = 0.5});
  ASSERT_TRUE(tried.ok()) << tried.status();
  EXPECT_EQ(Both().canary->version.version, "next");
  EXPECT_EQ(Live("both"), first);

  const auto refusal = [&](const std::string& name, const std::string& member, const std::string& with) {
    return std::string(store_->SwapMember({.name = name, .member = member, .with = with}).status().message());
  };
  EXPECT_THAT(refusal("both", "rust", "zig"),
              HasSubstr("expert both has no member \"rust\"; it is 0.59 postgres"));
  EXPECT_THAT(refusal("both", "python", "zig"), HasSubstr("no expert \"zig\""));
  EXPECT_THAT(refusal("both", "python", "postgres"), HasSubstr("\"postgres@"));
  EXPECT_THAT(refusal("rust", "python", "postgres"), HasSubstr("is an adapter and has no members"));
  EXPECT_THAT(refusal("both", "python", "base"), HasSubstr("\"base\" is not the name of an expert"));
}

TEST_F(CompositeTest, ACardOnOneLineIsNotChangedInPlace) {
  const auto folder = Card(kTwo);
  std::ofstream(folder / kCardFile)
      << "{name: both, version: 1, description: x, kind: blend, members: [{expert: "
         "postgres}, {expert: python}]}";
  ASSERT_TRUE(store_->Publish(folder).ok());
  EXPECT_THAT(store_->SwapMember({.name = "both", .member = "python", .with = "rust"}).status().message(),
              HasSubstr("field version does not begin a line of its own"));
}

TEST(NextVersionTest, TheLastNumberIsOneHigher) {
  EXPECT_EQ(NextVersion("1").value(), "2");
  EXPECT_EQ(NextVersion("1.2.9").value(), "1.2.10");
  EXPECT_EQ(NextVersion("2026-rc7").value(), "2026-rc8");
  EXPECT_THAT(NextVersion("beta").status().message(), HasSubstr("ends with no number"));
}

TEST_F(CompositeTest, MembersMayComeWithItInAnyOrder) {
  const std::vector<std::filesystem::path> folders = {
      Card("{expert: zig, weight: 0.5}, {expert: python, weight: 0.5}"),
      Source({.name = "zig", .weights = "zig"})};
  const auto results = store_->PublishAll(folders);
  ASSERT_TRUE(results[0].ok()) << results[0].status();
  ASSERT_TRUE(results[1].ok()) << results[1].status();
  EXPECT_EQ(results[0]->expert.name, "both");
  EXPECT_EQ(Both().live.members[0].adapter, Live("zig"));
  EXPECT_EQ(store_->Snapshot()->generation, 4u);
}

}  // namespace
}  // namespace coterie
