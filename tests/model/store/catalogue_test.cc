#include "model/store/catalogue.h"

#include <nlohmann/json.hpp>
#include <random>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coterie {
namespace {

using ::testing::HasSubstr;

ExpertVersion MakeVersion(std::string text) {
  return {.adapter = Sha256("adapter " + text),
          .revision = Sha256("revision " + text),
          .version = text,
          .adapter_bytes = 1234,
          .published_unix = 1'700'000'000};
}

Catalogue MakeCatalogue() {
  Catalogue catalogue{.generation = 7};
  CatalogueEntry law{.name = "law", .live = MakeVersion("1"), .description = "\"quoted\" \xc3\xa9\n"};
  law.live.base = Sha256("base");
  law.canary = CatalogueCanary{.version = MakeVersion("2"), .share = 0.1};
  CatalogueEntry sql{.name = "sql",
                     .live = MakeVersion("3"),
                     .description = "d",
                     .tags = {"db", "postgres"},
                     .licence = "MIT",
                     .min_score = 0.25f,
                     .routing = RoutingReference{.mean_score = 0.61, .std_score = 0.08, .n = 412},
                     .n_prototypes = 8,
                     .history = {MakeVersion("2"), MakeVersion("1")}};
  sql.history[0].withdrawn = true;
  sql.live.embedder = Sha256("embedder");
  catalogue.entries = {law, sql};
  return catalogue;
}

StatusOr<Catalogue::Resolved> Resolve(const Catalogue& catalogue, std::string text) {
  return catalogue.Resolve(ParseExpertSelector(text).value());
}

TEST(CatalogueTest, SurvivesItsText) {
  const Catalogue catalogue = MakeCatalogue();
  const Catalogue again = ParseCatalogue(SerializeCatalogue(catalogue), "c").value();
  EXPECT_EQ(again.generation, catalogue.generation);
  EXPECT_EQ(again.entries, catalogue.entries);
  EXPECT_TRUE(ParseCatalogue(SerializeCatalogue({}), "c").value().entries.empty());
}

TEST(CatalogueTest, NamesAndVersionsResolve) {
  const Catalogue catalogue = MakeCatalogue();
  EXPECT_EQ(Resolve(catalogue, "sql").value().version->version, "3");
  const std::string old = MakeVersion("2").adapter.ToHex();
  EXPECT_EQ(Resolve(catalogue, "sql@" + old).value().version->version, "2");
  EXPECT_EQ(Resolve(catalogue, "sql@" + old.substr(0, 8)).value().version->version, "2");
  const Catalogue::Resolved live = Resolve(catalogue, "sql@" + MakeVersion("3").adapter.ToHex()).value();
  EXPECT_EQ(live.version, &live.entry->live);
  EXPECT_EQ(*live.entry, *catalogue.Find("sql"));
}

TEST(CatalogueTest, ACanaryResolvesByItsDigestAndNeverByTheBareName) {
  const Catalogue catalogue = MakeCatalogue();
  const Catalogue::Resolved canary = Resolve(catalogue, "law@" + MakeVersion("2").adapter.ToHex()).value();
  EXPECT_EQ(canary.version, &canary.entry->canary->version);
  EXPECT_EQ(canary.version->version, "2");
  EXPECT_TRUE(canary.is_canary());
  EXPECT_FALSE(Resolve(catalogue, "law").value().is_canary());
  EXPECT_EQ(Resolve(catalogue, "law").value().version->version, "1");
  EXPECT_FALSE(Resolve(catalogue, "sql").value().is_canary());
}

TEST(CatalogueTest, WhatIsNotThereIsNotFoundWithWords) {
  const Catalogue catalogue = MakeCatalogue();
  EXPECT_EQ(Resolve(catalogue, "medicine").status(),
            absl::NotFoundError("no expert \"medicine\" in the catalogue (generation 7, 2 experts)"));
  EXPECT_EQ(Resolve(catalogue, "sql@00000000").status(),
            absl::NotFoundError(absl::StrCat("expert sql has no version with digest 00000000; live is ",
                                             MakeVersion("3").adapter.Short(), ", 2 earlier ones are kept")));
}

TEST(CatalogueTest, APrefixOfTwoDigestsIsRefused) {
  Catalogue catalogue = MakeCatalogue();
  CatalogueEntry sql = catalogue.entries[1];
  auto bytes = sql.live.adapter.bytes();
  bytes[31] ^= 1;
  sql.history[0].adapter = Digest(bytes);
  catalogue.entries.Put(sql);
  const std::string hex = sql.live.adapter.ToHex();
  EXPECT_EQ(Resolve(catalogue, "sql@" + hex.substr(0, 63)).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(Resolve(catalogue, "sql@" + hex).ok());
}

TEST(CatalogueTest, OfTwoRevisionsOfOneAdapterTheNewestIsMeant) {
  Catalogue catalogue = MakeCatalogue();
  CatalogueEntry sql = catalogue.entries[1];
  sql.history[1].adapter = sql.history[0].adapter;
  catalogue.entries.Put(sql);
  const Catalogue::Resolved found = Resolve(catalogue, "sql@" + sql.history[0].adapter.ToHex()).value();
  EXPECT_EQ(found.version, &found.entry->history[0]);
}

TEST(CatalogueTest, MalformedFilesSayWhereAndWhat) {
  const std::string good = SerializeCatalogue(MakeCatalogue());
  const auto refusal = [](std::string_view text, CatalogueLimits limits = {}) {
    const Status status = ParseCatalogue(text, "c", limits).status();
    EXPECT_FALSE(status.ok()) << text;
    return std::string(ToStd(status.message()));
  };
  EXPECT_THAT(refusal(""), HasSubstr("c: "));
  EXPECT_EQ(refusal("[]"), "c: not an object");
  EXPECT_EQ(refusal("{}"), "c: field format is missing");
  EXPECT_EQ(refusal("{\"format\": 2}"), "c: format 2 is not the one this program reads, 1");
  EXPECT_EQ(refusal("{\"format\": 1, \"generation\": -1}"),
            "c: field generation is not a number without sign");
  EXPECT_EQ(refusal("{\"format\": 1, \"generation\": 1, \"experts\": [1]}"),
            "c: field experts holds something that is no object");
  EXPECT_EQ(refusal("{\"format\": 1, \"generation\": 1, \"experts\": {}}"), "c: field experts is not a list");
  EXPECT_EQ(refusal(good, {.max_experts = 1}), "c: more than 1 experts");
  EXPECT_THAT(refusal(good, {.max_bytes = 10}), HasSubstr("the limit is 10"));
  EXPECT_THAT(refusal(std::string(100000, '[')), HasSubstr("c: nested deeper than 8"));
  for (size_t n = 0; n + 2 < good.size(); ++n) EXPECT_FALSE(ParseCatalogue(good.substr(0, n), "c").ok()) << n;
}

// `text` of MakeCatalogue in the layout that this program writes, and as another program would write it
// again.
std::vector<std::string> Layouts(const std::string& text) {
  return {text, nlohmann::json::parse(text).dump(), nlohmann::json::parse(text).dump(2)};
}

TEST(CatalogueTest, ABadExpertAmongManyIsNamedAndPassedOver) {
  const std::string good = SerializeCatalogue(MakeCatalogue());
  const auto why = [&](std::string_view from, std::string_view to, CatalogueLimits limits = {}) {
    std::string text = good;
    const size_t at = text.rfind(from);
    EXPECT_NE(at, std::string::npos) << from;
    text.replace(at, from.size(), to);
    std::string words;
    for (const std::string& layout : Layouts(text)) {
      const Catalogue read = ParseCatalogue(layout, "c", limits).value();
      EXPECT_EQ(read.generation, 7u);
      EXPECT_EQ(read.entries.size(), 1u);
      EXPECT_EQ(read.damaged.size(), 1u);
      if (read.damaged.size() != 1) return std::string();
      EXPECT_TRUE(words.empty() || words == read.damaged[0].why);
      words = read.damaged[0].why;
      // It survives the next generation as it is.
      const Catalogue again = ParseCatalogue(SerializeCatalogue(read), "c", limits).value();
      EXPECT_EQ(again.entries, read.entries);
      EXPECT_EQ(nlohmann::json::parse(again.damaged[0].text), nlohmann::json::parse(read.damaged[0].text));
    }
    return words;
  };
  EXPECT_EQ(why("\"n_prototypes\":8", "\"n_prototypes\":-8"),
            "c: expert sql: field n_prototypes is not a number without sign");
  EXPECT_EQ(why("\"min_score\":0.25", "\"min_score\":7"),
            "c: expert sql: field min_score is not a number from -1 to 1");
  EXPECT_EQ(why(MakeVersion("1").adapter.ToHex(), "12"),
            "c: expert sql history: field adapter is not 64 lower-case hexadecimal digits");
  EXPECT_EQ(why("\"share\":0.1", "\"share\":0"),
            "c: expert law canary: field share is not a number above 0 and at most 1");
  EXPECT_EQ(why("\"share\":0.1", "\"share\":1.5"),
            "c: expert law canary: field share is not a number above 0 and at most 1");
  EXPECT_EQ(why("\"share\":0.1", "\"shore\":0.1"), "c: expert law canary: field share is missing");
  EXPECT_EQ(why("\"mean_score\":0.61", "\"mean_score\":2"),
            "c: expert sql routing: field mean_score is not a number from -1 to 1");
  EXPECT_EQ(why("\"n\":412", "\"n\":0"), "c: expert sql routing: field n is not at least 1");
  EXPECT_EQ(why("\"withdrawn\":true", "\"withdrawn\":1"),
            "c: expert sql history: field withdrawn is not true or false");
  EXPECT_THAT(why("\"name\":\"sql\"", "\"name\":\"SQL\""), HasSubstr("c: expert 1: expert name \"SQL\""));
  EXPECT_EQ(why("\"name\":\"sql\"", "\"name\":\"law\""),
            "c: expert law is there twice; the first one counts");
  EXPECT_EQ(why("\"share\":0.1", "\"share\":0.2", {.max_history = 1}),
            "c: expert sql: field history is not a list of at most 1");
}

TEST(CatalogueTest, ALineThatIsNoJsonIsNamedAndKeptAndTheOthersAreRead) {
  std::string text = SerializeCatalogue(MakeCatalogue());
  const size_t at = text.find("\"version\":\"3\"");
  text.replace(at, 4, "\x80\"ve");  // as a disk that flips bits does
  const Catalogue read = ParseCatalogue(text, "c").value();
  ASSERT_EQ(read.entries.size(), 1u);
  EXPECT_EQ(read.entries[0].name, "law");
  ASSERT_EQ(read.damaged.size(), 1u);
  EXPECT_EQ(read.damaged[0].name, "sql");
  EXPECT_THAT(read.damaged[0].why, HasSubstr("c: expert 1 (sql): "));
  // Written again the file is JSON for everybody, and still tells what was there.
  const auto json = nlohmann::json::parse(SerializeCatalogue(read));
  EXPECT_EQ(json["experts"][1]["name"], "sql");
  EXPECT_THAT(json["experts"][1]["damaged"].get<std::string>(), HasSubstr(MakeVersion("3").adapter.ToHex()));
  EXPECT_EQ(ParseCatalogue(json.dump(), "c").value().damaged[0].name, "sql");
}

TEST(CatalogueTest, ALineWithANumberBeyondAllOrNestedTooDeepHarmsNoOther) {
  const std::string version = "\"version\":\"3\"";
  const std::pair<std::string, std::string> faults[] = {
      {version + ",\"a\":1e999", "c: expert 1 (sql): it holds a number that is too large"},
      {version + ",\"a\":" + std::string(20, '[') + std::string(20, ']'),
       "c: expert 1 (sql): nested deeper than 8"}};
  for (const auto& [fault, why] : faults) {
    std::string text = SerializeCatalogue(MakeCatalogue());
    text.replace(text.find(version), version.size(), fault);
    const auto read = ParseCatalogue(text, "c");
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->entries.size(), 1u);
    ASSERT_EQ(read->damaged.size(), 1u);
    EXPECT_EQ(read->damaged[0].why, why);
    // The next generation can be read by everybody.
    EXPECT_EQ(ParseCatalogue(SerializeCatalogue(*read), "c").value().damaged[0].name, "sql");
  }
}

TEST(CatalogueTest, ExpertsInAnyOrderAreSorted) {
  Catalogue catalogue = MakeCatalogue();
  catalogue.entries = {catalogue.entries[1], catalogue.entries[0]};
  EXPECT_EQ(ParseCatalogue(SerializeCatalogue(catalogue), "c").value(), MakeCatalogue());
}

TEST(CatalogueTest, TooManyBadExpertsAreABadFile) {
  Catalogue catalogue = MakeCatalogue();
  for (int i = 0; i < 3; ++i) catalogue.damaged.push_back({"", absl::StrCat("{\"x\":", i, "}"), ""});
  const std::string text = SerializeCatalogue(catalogue);
  EXPECT_EQ(ParseCatalogue(text, "c", {.max_damaged = 3}).value().damaged.size(), 3u);
  EXPECT_EQ(ParseCatalogue(text, "c", {.max_damaged = 2}).status(),
            absl::InvalidArgumentError(
                "c: expert 4: field name is missing; 2 experts before it cannot be read either"));
}

// Following a store takes over what did not change: it must come to what a fresh reader reads.
TEST(CatalogueTest, ReadAfterAnEarlierGenerationItIsWhatAFreshReaderReads) {
  std::mt19937 random(3);
  Catalogue before;
  for (int round = 0; round < 300; ++round) {
    Catalogue next = before;
    ++next.generation;
    // First a handful, then hundreds in many blocks, of which most rounds change a few.
    const size_t n_names = round < 150 ? 12 : 900;
    const size_t n_changes = 1 + random() % (round % 10 == 0 ? n_names : 4);
    for (size_t change = 0; change < n_changes; ++change) {
      const std::string name = "e" + std::to_string(random() % n_names);
      const auto known = next.Find(name);
      if (known != nullptr && random() % 3 == 0) {
        next.entries.Erase(name);
      } else if (known != nullptr) {
        CatalogueEntry entry = *known;
        entry.live = MakeVersion(std::to_string(random() % 5));
        next.entries.Put(entry);
      } else {
        next.entries.Put({.name = name, .live = MakeVersion("1"), .tags = {"t\n"}});
      }
    }
    const std::string text = SerializeCatalogue(next);
    EXPECT_EQ(ParseCatalogue(text, "c", {}, &before).value(), next);
    EXPECT_EQ(ParseCatalogue(text, "c").value(), next);
    before = std::move(next);
  }
}

TEST(CatalogueTest, ACanaryIsAnotherAdapterThanTheLiveOne) {
  Catalogue catalogue = MakeCatalogue();
  CatalogueEntry law = catalogue.entries[0];
  law.canary->version.adapter = law.live.adapter;
  catalogue.entries.Put(law);
  EXPECT_EQ(ParseCatalogue(SerializeCatalogue(catalogue), "c").value().damaged.at(0).why,
            "c: expert law: field canary is not another adapter than the live one");
}

TEST(CatalogueTest, MembersOfAVersionAreReadBackAndChecked) {
  Catalogue catalogue = MakeCatalogue();
  CatalogueEntry entry = catalogue.entries[0];
  entry.live.mode = CollaborationMode::kMixture;
  entry.live.members = {{"a", Sha256("a"), 7, 19 / 32.0f}, {"b", Sha256("b"), uint64_t{1} << 40, 13 / 32.0f}};
  entry.history.push_back(entry.live);
  catalogue.entries.Put(entry);
  EXPECT_EQ(catalogue.entries[0], entry);  // as packed
  const std::string text = SerializeCatalogue(catalogue);
  EXPECT_EQ(ParseCatalogue(text, "c").value().entries, catalogue.entries);
  const auto why = [&](const std::string& from, const std::string& to) {
    std::string changed = text;
    changed.replace(changed.find(from), from.size(), to);
    return ParseCatalogue(changed, "c").value().damaged.at(0).why;
  };
  EXPECT_EQ(why("\"kind\":\"mixture\"", "\"kind\":\"soup\""),
            "c: expert law: field kind is not mixture or blend");
  EXPECT_EQ(why("\"weight\":0.59375", "\"weight\":0.5"),
            "c: expert law: field members is not a list of members whose weights sum to 1");
  EXPECT_EQ(why("\"weight\":0.59375", "\"weight\":-1"),
            "c: expert law member: field weight is not a number above 0 and below 1");
}

TEST(CatalogueTest, WhatNobodyCouldReadBackIsSaidBeforeItIsWritten) {
  CatalogueEntry entry = MakeCatalogue().entries[0];
  EXPECT_TRUE(CheckReadable(entry).ok());
  entry.licence = std::string(5000, 'x');
  EXPECT_EQ(
      CheckReadable(entry),
      absl::InvalidArgumentError("catalogue: expert law: field licence is not a text of at most 4096 bytes"));
}

TEST(CatalogueTest, AnUnknownFieldIsPassedOver) {
  std::string text = SerializeCatalogue(MakeCatalogue());
  text.replace(text.find("\"generation\""), 0, "\"later\": {\"experts\": [{\"x\": 1}]}, ");
  EXPECT_EQ(ParseCatalogue(text, "c").value().entries, MakeCatalogue().entries);
}

}  // namespace
}  // namespace coterie
