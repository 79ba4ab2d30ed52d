#include "model/store/expert_card.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "model/store/yaml_tree.h"

namespace coterie {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

constexpr char kCard[] = R"(name: postgres
version: 1.2.0
description: Answers questions about PostgreSQL, from its manual.
domains: [sql, database]
tags:
- manual
- sql
- "15"
thresholds: {min_score: 0.3}
routing: {mean_score: 0.61, std_score: 0.08, n: 412}
base: SmolLM2-135M-Instruct
base_digest: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad
embedder: all-MiniLM-L6-v2
licence: PostgreSQL
training_data: {source: postgresql-doc-15, documents: 1100}
training: {rank: 4, seed: 1}
evaluation:
  measure: mean loss
  before: {total: 3.89}
  sets: [a, b]
)";

std::string CardRefusal(std::string_view yaml, CardLimits limits = {}) {
  const Status status = ParseExpertCard(yaml, "expert.yaml", limits).status();
  EXPECT_FALSE(status.ok()) << yaml;
  return std::string(ToStd(status.message()));
}

std::string RefusalOfField(std::string_view field) {
  return CardRefusal(absl::StrCat("name: a\nversion: 1\ndescription: b\n", ToAbsl(field)));
}

TEST(ExpertCardTest, EveryFieldIsRead) {
  const ExpertCard card = ParseExpertCard(kCard, "expert.yaml").value();
  EXPECT_EQ(card.name, "postgres");
  EXPECT_EQ(card.version, "1.2.0");
  EXPECT_EQ(card.description, "Answers questions about PostgreSQL, from its manual.");
  EXPECT_THAT(card.tags, ElementsAre("sql", "database", "manual", "15"));
  EXPECT_FLOAT_EQ(card.min_score.value(), 0.3f);
  EXPECT_EQ(card.routing, (RoutingReference{.mean_score = 0.61, .std_score = 0.08, .n = 412}));
  EXPECT_EQ(card.base, "SmolLM2-135M-Instruct");
  EXPECT_EQ(card.base_digest, Sha256("abc"));
  EXPECT_EQ(card.embedder, "all-MiniLM-L6-v2");
  EXPECT_EQ(card.licence, "PostgreSQL");
  EXPECT_THAT(card.facts, ElementsAre(Pair("training_data.source", "postgresql-doc-15"),
                                      Pair("training_data.documents", "1100"), Pair("training.rank", "4"),
                                      Pair("training.seed", "1"), Pair("evaluation.measure", "mean loss"),
                                      Pair("evaluation.before.total", "3.89"),
                                      Pair("evaluation.sets[0]", "a"), Pair("evaluation.sets[1]", "b")));
}

TEST(ExpertCardTest, AFoldedDescriptionBecomesOneLine) {
  const auto card =
      ParseExpertCard("name: a\nversion: 1\ndescription: >\n  two\n  lines\n\n  three\n", "x").value();
  EXPECT_EQ(card.description, "two lines three");
}

TEST(ExpertCardTest, MembersAndTheirWeightsAreReadAndRounded) {
  const std::string head = "name: a\nversion: 1\ndescription: x\n";
  const ExpertCard card =
      ParseExpertCard(head +
                          "kind: blend\nmembers:\n  - {expert: b, weight: 0.333}\n  - {expert: c@0123456789, "
                          "weight: 0.667}\n",
                      "x")
          .value();
  EXPECT_EQ(card.mode, CollaborationMode::kBlend);
  ASSERT_EQ(card.members.size(), 2u);
  EXPECT_EQ(card.members[0].expert.name, "b");
  EXPECT_EQ(card.members[0].weight, 11 / 32.0f);
  EXPECT_EQ(card.members[1].expert.digest_prefix, "0123456789");
  EXPECT_EQ(ParseExpertCard(head + "kind: adapter\n", "x")->mode, CollaborationMode::kNone);
  EXPECT_TRUE(SaysComposite("kind: mixture\nmembers: 1\n"));
  EXPECT_FALSE(SaysComposite("kind: adapter\n"));
}

TEST(ExpertCardTest, MembersThatCannotBeAreNamed) {
  const auto refusal = [](const std::string& members) {
    return RefusalOfField("kind: mixture\nmembers: " + members + "\n");
  };
  EXPECT_EQ(RefusalOfField("kind: soup\n"),
            "expert.yaml line 4: field kind is \"soup\", want adapter, mixture or blend");
  EXPECT_EQ(RefusalOfField("kind: mixture\n"),
            "expert.yaml: field members is missing; a mixture names the experts that it is made of");
  EXPECT_EQ(RefusalOfField("members: [{expert: b}, {expert: c}]\n"),
            "expert.yaml line 4: field members goes with kind: mixture or kind: blend; say which");
  EXPECT_EQ(refusal("[{expert: b}]"),
            "expert.yaml line 5: field members has 1 entries, the limits are 2 and 16");
  std::string many = "[{expert: b0}";
  for (int i = 1; i < 17; ++i) absl::StrAppend(&many, ", {expert: b", i, "}");
  EXPECT_THAT(refusal(many + "]"), HasSubstr("has 17 entries"));
  EXPECT_THAT(refusal("b"), HasSubstr("field members is \"b\", want a list of members"));
  EXPECT_THAT(refusal("[b, c]"), HasSubstr("field members[0] is \"b\", want a map"));
  EXPECT_THAT(refusal("[{expert: b}, {weight: 1}]"), HasSubstr("field members[1] lacks expert"));
  EXPECT_THAT(refusal("[{expert: b}, {expert: base}]"), HasSubstr("field members[1].expert is \"base\""));
  EXPECT_THAT(refusal("[{expert: b}, {expert: b}]"),
              HasSubstr("members[1].expert is \"b\", which is a member"));
  EXPECT_THAT(refusal("[{expert: b}, {expert: c, weigth: 1}]"), HasSubstr("did you mean weight?"));
  const auto weights = [&](const std::string& one, const std::string& other) {
    return refusal("[{expert: b, weight: " + one + "}, {expert: c, weight: " + other + "}]");
  };
  EXPECT_EQ(weights("0.5", "0.25"),
            "expert.yaml line 5: field members: their weights sum to 0.75; they must sum to 1 (within 1/64)");
  EXPECT_THAT(weights("1", "0"), HasSubstr("field members[1].weight is 0; it must be above 0 and finite"));
  EXPECT_THAT(weights("1.5", "-0.5"), HasSubstr("members[1].weight is -0.5"));
  EXPECT_THAT(weights("nan", "1"), HasSubstr("members[0].weight is nan"));
  EXPECT_THAT(weights("inf", "1"), HasSubstr("members[0].weight is inf"));
  EXPECT_THAT(weights("much", "1"), HasSubstr("members[0].weight is \"much\", want a number"));
  EXPECT_THAT(weights("0.99", "0.01"),
              HasSubstr("members[1].weight is 0.01, the limit is 1/64; leave c out"));
  EXPECT_THAT(refusal("[{expert: b, weight: 1}, {expert: c}]"), HasSubstr("members[1].weight is not set"));
}

TEST(ExpertCardTest, UnknownFieldsAreNamed) {
  EXPECT_THAT(RefusalOfField("colour: red\n"),
              HasSubstr("expert.yaml line 4: unknown field \"colour\"; known are"));
  EXPECT_EQ(RefusalOfField("thresholds: {max_score: 1}\n"),
            "expert.yaml line 4: unknown field \"thresholds.max_score\"; did you mean min_score? Known are "
            "min_score");
  EXPECT_THAT(RefusalOfField("descripton: red\n"),
              HasSubstr("\"descripton\"; did you mean description? Known are"));
}

TEST(ExpertCardTest, MissingFieldsAreNamed) {
  const std::string least = "; a card has name, version and description at least (docs/expert-format.md)";
  const std::string no_map =
      ": a card is a map of fields, name, version and description at least (docs/expert-format.md)";
  EXPECT_EQ(CardRefusal("name: a\nversion: 1\n"), "expert.yaml: field description is missing" + least);
  EXPECT_EQ(CardRefusal("version: 1\ndescription: x\n"), "expert.yaml: field name is missing" + least);
  EXPECT_EQ(CardRefusal(""), "expert.yaml is empty" + no_map);
  EXPECT_EQ(CardRefusal("- a\n"), "expert.yaml" + no_map);
}

TEST(ExpertCardTest, ValuesOfTheWrongKindSayWhatIsWanted) {
  EXPECT_EQ(CardRefusal("name: [a]\n"), "expert.yaml line 1: field name is a list, want a text");
  EXPECT_THAT(CardRefusal("name: Big\n"),
              HasSubstr("expert.yaml line 1: field name: expert name \"Big\" may hold only"));
  EXPECT_EQ(CardRefusal("name: a\nversion: 1 beta\n"),
            "expert.yaml line 2: field version is \"1 beta\", want letters, digits, '.', '+', '_' and '-', "
            "as in 1.2.0");
  EXPECT_EQ(CardRefusal("name: a\ndescription:\n"),
            "expert.yaml line 2: field description is empty, want a text");
  EXPECT_EQ(RefusalOfField("domains: sql\n"),
            "expert.yaml line 4: field domains is \"sql\", want a list of words");
  EXPECT_THAT(RefusalOfField("domains: [SQL]\n"), HasSubstr("field domains is \"SQL\", want words of a-z"));
  EXPECT_EQ(RefusalOfField("thresholds: {min_score: nan}\n"),
            "expert.yaml line 4: field thresholds.min_score is \"nan\", want a number from -1 to 1");
  EXPECT_EQ(RefusalOfField("thresholds: {min_score: 2}\n"),
            "expert.yaml line 4: field thresholds.min_score is \"2\", want a number from -1 to 1");
  EXPECT_EQ(RefusalOfField("base_digest: abc\n"),
            "expert.yaml line 4: field base_digest is \"abc\", want 64 lower-case hexadecimal digits");
}

TEST(ExpertCardTest, ARoutingReferenceIsWholeAndWithinItsBounds) {
  EXPECT_EQ(
      RefusalOfField("routing: 0.5\n"),
      "expert.yaml line 4: field routing is \"0.5\", want a map as in {mean_score: 0.61, std_score: 0.08, "
      "n: 412}");
  EXPECT_EQ(RefusalOfField("routing: {mean_score: 0.5, n: 3}\n"),
            "expert.yaml line 4: field routing lacks std_score; it has mean_score, std_score and n");
  EXPECT_EQ(RefusalOfField("routing: {mean_score: 1.5, std_score: 0.1, n: 3}\n"),
            "expert.yaml line 4: field routing.mean_score is \"1.5\", want a number from -1 to 1");
  EXPECT_EQ(RefusalOfField("routing: {mean_score: 0.5, std_score: nan, n: 3}\n"),
            "expert.yaml line 4: field routing.std_score is \"nan\", want a number from 0 to 1");
  EXPECT_EQ(RefusalOfField("routing: {mean_score: 0.5, std_score: 0.1, n: 0}\n"),
            "expert.yaml line 4: field routing.n is \"0\", want a whole number from 1 to 4294967295");
  EXPECT_EQ(RefusalOfField("routing: {mean: 0.5}\n"),
            "expert.yaml line 4: unknown field \"routing.mean\"; known are mean_score, std_score, n");
}

TEST(ExpertCardTest, TheSpellingsOfModelCardsAreReadAndNotBothAtOnce) {
  const auto card = ParseExpertCard(
      "name: a\nversion: 1\ndescription: b\nlicense: mit\nbase_model: org/base\ntags: [x]\ndomains: [y]\n",
      "expert.yaml");
  ASSERT_TRUE(card.ok()) << card.status();
  EXPECT_EQ(card->licence, "mit");
  EXPECT_EQ(card->base, "org/base");
  EXPECT_THAT(card->tags, ElementsAre("x", "y"));
  EXPECT_EQ(RefusalOfField("licence: MIT\nlicense: MIT\n"),
            "expert.yaml line 5: field license is there in two spellings, this one and licence; keep one");
}

TEST(YamlTreeTest, WhatIsNoYamlIsToldApart) {
  const auto refusal = [](std::string_view text) {
    return std::string(ToStd(ParseYaml(text, "y").status().message()));
  };
  EXPECT_THAT(refusal("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n"),
              HasSubstr("y is a Git LFS pointer to 7 bytes"));
  EXPECT_THAT(refusal("\x1f\x8b\x08 and more"), HasSubstr("y is compressed with gzip"));
  EXPECT_THAT(refusal("<!DOCTYPE html>\n<html>: - ["), HasSubstr("y is a web page"));
}

TEST(ExpertCardTest, ControlCharactersAreRefused) {
  EXPECT_EQ(RefusalOfField("base: \"a\\tb\"\n"), "expert.yaml line 4: field base holds a control character");
}

TEST(ExpertCardTest, EveryLengthIsBounded) {
  EXPECT_EQ(CardRefusal("name: a\ndescription: " + std::string(3000, 'x')),
            "expert.yaml line 2: field description has 3000 bytes, the limit is 2048");
  std::string many = "domains: [";
  for (int i = 0; i < 65; ++i) absl::StrAppend(&many, "d", i, ",");
  EXPECT_EQ(RefusalOfField(many + "]\n"),
            "expert.yaml line 4: field domains makes 65 words, the limit is 64");
  EXPECT_EQ(CardRefusal(std::string(70000, ' ')), "expert.yaml has 70000 bytes, the limit is 65536");
  std::string facts = "training: [";
  for (int i = 0; i < 513; ++i) facts += "1,";
  EXPECT_EQ(RefusalOfField(facts + "]\n"),
            "expert.yaml line 4: more than 512 values in the fields for people");
}

TEST(YamlTreeTest, WhatCanExplodeIsRefused) {
  const auto refusal = [](std::string_view yaml) {
    return std::string(ToStd(ParseYaml(yaml, "y", {.max_depth = 4, .max_values = 20}).status().message()));
  };
  EXPECT_EQ(refusal("a: &x 1\nb: *x\n"), "y line 1: an anchor is not allowed");
  EXPECT_EQ(refusal("a: !!binary abc\n"), "y line 1: tag tag:yaml.org,2002:binary is not allowed");
  EXPECT_EQ(refusal("a: [[[[1]]]]\n"), "y line 1: nested deeper than 4");
  EXPECT_EQ(refusal("[1,2,3,4,5,6,7,8,9,1,2,3,4,5,6,7,8,9,1,2]"), "y line 1: more than 20 values");
  EXPECT_EQ(refusal("a: 1\nb: 2\na: 3\n"), "y line 3: field \"a\" appears twice");
  EXPECT_EQ(refusal("? [a]\n: b\n"), "y line 1: the name of a field must be a plain text");
  EXPECT_EQ(refusal("a: 1\n---\nb: 2\n"), "y holds more than one document");
  EXPECT_EQ(refusal("a: \"\\ud800\"\n").substr(0, 9), "y line 1:");
  EXPECT_THAT(refusal("a: [1\nb: 2"), HasSubstr("y line"));
  EXPECT_THAT(refusal(std::string(30000, '[')), HasSubstr("y line 1"));
}

TEST(YamlTreeTest, ScalarsKeepTheirTextAndNullsAreNull) {
  const YamlValue root = ParseYaml("a: 'null'\nb: null\nc: ~\nd:\ne: 1.50\n\"f\": {}\n", "y").value();
  EXPECT_EQ(root.Find("a")->scalar, "null");
  EXPECT_EQ(root.Find("b")->kind, YamlValue::Kind::kNull);
  EXPECT_EQ(root.Find("c")->kind, YamlValue::Kind::kNull);
  EXPECT_EQ(root.Find("d")->kind, YamlValue::Kind::kNull);
  EXPECT_EQ(root.Find("e")->scalar, "1.50");
  EXPECT_EQ(root.Find("f")->kind, YamlValue::Kind::kMap);
  EXPECT_EQ(root.Find("f")->line, 6);
}

}  // namespace
}  // namespace coterie
