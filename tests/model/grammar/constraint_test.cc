#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <regex>
#include <set>
#include <tuple>

#include "common/clock.h"
#include "kernels/batch.h"
#include "model/grammar/constraint_grammar.h"
#include "model/grammar/grammar_matchers.h"
#include "model/grammar/regex_grammar.h"
#include "model/grammar/schema_grammar.h"
#include "tests/model/grammar/random_schemas.h"
#include "tests/model/grammar/validate.h"
#include "tests/model/grammar/walk.h"
#include "tests/testing/seed.h"

namespace coterie {
namespace {

Constraint SchemaOf(const std::string& text) { return {Constraint::Kind::kJsonSchema, text, {}}; }
Constraint RegexOf(const std::string& text) { return {Constraint::Kind::kRegex, text, {}}; }

class ConstraintTest : public ::testing::Test {
 protected:
  void SetUp() override {
    vocabulary_ = WalkVocabulary();
    auto made = GrammarMatchers::Create(vocabulary_, {kEndToken});
    ASSERT_TRUE(made.ok()) << made.status();
    matchers_ = *std::move(made);
  }
  std::string WhyRefused(const Constraint& constraint) {
    const auto matcher = matchers_->Make(constraint);
    if (matcher.ok()) return "";
    EXPECT_EQ(matcher.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(matcher.status().message());
  }
  Walk WalkIn(const Constraint& constraint, int max_tokens = 600) {
    auto matcher = matchers_->Make(constraint);
    EXPECT_TRUE(matcher.ok()) << matcher.status() << " for " << constraint.text;
    return matcher.ok() ? WalkAtRandom(matcher->get(), vocabulary_, max_tokens, &random_) : Walk{};
  }

  std::mt19937_64 random_{testing::TestSeed()};
  std::vector<std::string> vocabulary_;
  std::unique_ptr<GrammarMatchers> matchers_;
};

// The proof of what is claimed: 300 answers that ended, each to a schema of its own, by a model that says
// anything.
TEST_F(ConstraintTest, EveryAnswerIsValidAgainstItsSchemaInEveryConstruct) {
  for (const std::string& construct : SchemaConstructs()) {
    int n_ended = 0, n_tried = 0;
    for (; n_ended < 300 && n_tried < 450 && !HasFailure(); ++n_tried) {
      const Json schema = RandomSchema(construct, &random_);
      const Walk walk = WalkIn(SchemaOf(schema.dump()));
      if (!walk.ended) continue;
      ++n_ended;
      const auto value =
          ParseJson(walk.text, "answer", {.max_bytes = 1 << 20, .max_depth = 1000, .max_values = 1 << 20});
      // A key twice in a map is JSON and valid; our own reader refuses it.
      const Json parsed = value.ok() ? *value : Json::parse(walk.text, nullptr, /*allow_exceptions=*/false);
      ASSERT_FALSE(parsed.is_discarded()) << construct << ": " << walk.text << "\nschema " << schema.dump();
      EXPECT_EQ(WhyInvalid(parsed, schema, schema), "")
          << construct << ": " << walk.text << "\nschema " << schema.dump();
    }
    EXPECT_EQ(n_ended, 300) << construct << " of " << n_tried;
  }
}

TEST_F(ConstraintTest, EveryAnswerMatchesItsRegex) {
  for (const std::string regex :
       {"[a-z]{3}", "(yes|no|maybe)", "\\d{4}-\\d{2}-\\d{2}", "^a*b+c?$", "[ -~]{1,8}", "(ab|cd){2,4}x",
        "-?(0|[1-9]\\d*)(\\.\\d+)?", "\\w+( \\w+){0,5}\\.", "[\\x41-\\x5A]\\u0061", "(?:a|(?:b|c)+)d",
        "\"[a-z]*\"", "\\{\\}|\\[\\]", "a|b|", "(a*)+b", "(a|a?)+c"}) {
    const std::regex expected(regex);
    for (int i = 0; i < 100 && !HasFailure(); ++i) {
      const Walk walk = WalkIn(RegexOf(regex), 200);
      if (walk.ended) {
        EXPECT_TRUE(std::regex_match(walk.text, expected)) << walk.text << " is not of " << regex;
      }
    }
  }
}

// Checkers read these classes differently: what one of them does not count in is never said.
TEST_F(ConstraintTest, AnEscapeHoldsWhatEveryReadingHolds) {
  constexpr std::string_view kNoBreakSpace = "\u00A0", kArabicDigit = "\u0665", kLetter = "\u00E9",
                             kComma = "\u3001", kLineSeparator = "\u2028", kNextLine = "\u0085",
                             kInCircle = "\u24B6";
  const auto accepts = [&](const char* regex, std::string_view text) {
    auto matcher = *matchers_->Make(RegexOf(regex));
    return std::all_of(text.begin(), text.end(),
                       [&](char c) { return matcher->Accept(1 + static_cast<unsigned char>(c)); });
  };
  for (const auto& [regex, members, others] : std::initializer_list<
           std::tuple<const char*, std::vector<std::string_view>, std::vector<std::string_view>>>{
           {"\\s", {" ", "\t"}, {kNoBreakSpace, "a", "\x1C"}},
           {"\\S", {"a", kLetter, kComma}, {kNoBreakSpace, kLineSeparator, " ", "\x1C"}},
           {"[^\\s]", {"a", kLetter}, {kNoBreakSpace, " "}},
           {"[^\\S]", {" "}, {kNoBreakSpace, "a"}},
           {"\\d", {"5"}, {kArabicDigit, "a"}},
           {"\\D", {"a", kLetter}, {kArabicDigit, "5"}},
           {"\\w", {"a", "_", "5"}, {kLetter, kArabicDigit, "-"}},
           {"\\W", {"-", " ", kComma, kNoBreakSpace}, {kLetter, kArabicDigit, kInCircle, "a"}},
           {"[^\\w,]", {"-", kComma}, {kLetter, ","}},
           {".", {"a", kNoBreakSpace}, {"\n", "\r", kLineSeparator, kNextLine}}}) {
    for (const std::string_view text : members) EXPECT_TRUE(accepts(regex, text)) << regex << " " << text;
    for (const std::string_view text : others) EXPECT_FALSE(accepts(regex, text)) << regex << " " << text;
  }
}

TEST_F(ConstraintTest, AChoiceIsOneOfItsTexts) {
  const std::vector<std::string> choices = {"a", "ab", "abc", "größer", "\"quoted\" \\ ", "line\nbreak", "😀"};
  std::set<std::string> seen;
  for (int i = 0; i < 300; ++i) seen.insert(WalkIn({Constraint::Kind::kChoice, "", choices}).text);
  EXPECT_EQ(seen, std::set<std::string>(choices.begin(), choices.end()));
}

TEST_F(ConstraintTest, TheEndIsAllowedExactlyWhereTheTextIsComplete) {
  auto matcher = *matchers_->Make(RegexOf("ab?"));
  std::vector<uint32_t> mask(static_cast<size_t>(MaskWords(static_cast<int>(vocabulary_.size()))));
  EXPECT_EQ(matcher->Fill(mask), NextTokens::kSome);
  EXPECT_FALSE(MaskAllows(mask, kEndToken));
  EXPECT_FALSE(matcher->Accept(kEndToken));
  EXPECT_TRUE(matcher->Accept(1 + 'a'));
  EXPECT_EQ(matcher->Fill(mask), NextTokens::kSome);
  EXPECT_TRUE(MaskAllows(mask, kEndToken));
  EXPECT_TRUE(MaskAllows(mask, 1 + 'b'));
  EXPECT_FALSE(MaskAllows(mask, 1 + 'a'));
  EXPECT_FALSE(matcher->Accept(1 + 'c'));
}

TEST_F(ConstraintTest, WithoutAnEndTokenTheTextEndsWhereNothingCanFollow) {
  auto matchers = *GrammarMatchers::Create(vocabulary_, {});
  auto matcher = *matchers->Make(RegexOf("ab"));
  std::vector<uint32_t> mask(static_cast<size_t>(MaskWords(static_cast<int>(vocabulary_.size()))));
  EXPECT_TRUE(matcher->Accept(1 + 'a'));
  EXPECT_EQ(matcher->Fill(mask), NextTokens::kSome);
  EXPECT_TRUE(matcher->Accept(1 + 'b'));
  EXPECT_EQ(matcher->Fill(mask), NextTokens::kEnd);
}

TEST_F(ConstraintTest, AVocabularyThatCannotSpellWhatFollowsIsNoticed) {
  auto matchers = *GrammarMatchers::Create({"", "a"}, {0});
  auto matcher = *matchers->Make(RegexOf("ab"));
  std::vector<uint32_t> mask(1);
  EXPECT_TRUE(matcher->Accept(1));
  EXPECT_EQ(matcher->Fill(mask), NextTokens::kNone);
}

TEST_F(ConstraintTest, WhatIsNotServedIsRefusedByPlaceAndName) {
  const std::pair<const char*, const char*> cases[] = {
      {R"({"type": "array", "uniqueItems": true})", "#: keyword \"uniqueItems\""},
      {R"({"properties": {"a/b": {"contains": {}}}})", "#/properties/a~1b: keyword \"contains\""},
      {R"({"type": "number", "multipleOf": 0.5})", "\"multipleOf\""},
      {R"({"type": "integer", "multipleOf": 5})", "\"multipleOf\""},
      {R"({"allOf": [{"type": "object"}, {"type": "object"}]})", "\"allOf\" of several"},
      {R"({"not": {"type": "string"}})", "\"not\""},
      {R"({"if": {}, "then": {}})", "\"if\""},
      {R"({"patternProperties": {"x": {}}})", "\"patternProperties\""},
      {R"({"type": "object", "propertyNames": {}})", "\"propertyNames\""},
      {R"({"type": "object", "minProperties": 1})", "\"minProperties\""},
      {R"({"type": "object", "dependentRequired": {}})", "\"dependentRequired\""},
      {R"({"type": "string", "pattern": "a", "maxLength": 3})", "beside a pattern"},
      {R"({"type": "string", "pattern": "(?=a)b"})", "#/pattern: regex \"(?=a)b\": lookaround"},
      {R"({"type": "string", "format": "ipv6"})", "#/format: \"ipv6\""},
      {R"({"type": "string", "nullable": true})", "\"nullable\""},
      {R"({"type": "nope"})", "#/type: \"nope\" is no type"},
      {R"({"type": []})", "#/type"},
      {R"({"anyOf": [], "type": "object"})", "#/anyOf"},
      {R"({"anyOf": [{"type": "string"}], "properties": {}})", "\"properties\" beside \"anyOf\""},
      {R"({"oneOf": [{"type": "string"}, {"type": "string"}]})", "options 0 and 1 may both be valid"},
      {R"({"oneOf": [{"type": "integer"}, {"type": "number"}]})", "options 0 and 1"},
      {R"({"$ref": "http://example.com/x"})", "\"$ref\" \"http://example.com/x\""},
      {R"({"$ref": "#/$defs/missing"})", "\"#/$defs/missing\" is not in the schema"},
      {R"({"$ref": "#"})", "refers to itself"},
      {R"({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"})",
       "refers to itself"},
      {R"({"$defs": {"a": {"type": "object", "properties": {"x": {"$ref": "#/$defs/a"}}, "required": ["x"]}}, "$ref": "#/$defs/a"})",
       "requires itself"},
      {R"({"type": "object", "required": ["x"]})", "\"x\" is not among the properties"},
      {R"({"type": "array", "items": [{}]})", "\"prefixItems\" is"},
      {R"({"type": "array", "minItems": 3, "maxItems": 2})", "minItems is above maxItems"},
      {R"({"type": "array", "prefixItems": [{}], "items": false, "minItems": 2})",
       "more items than there may be"},
      {R"({"type": "array", "maxItems": 100000})", "#/maxItems: 100000 is not served"},
      {R"({"type": "integer", "minimum": 5, "maximum": 4})", "no number lies between"},
      {R"({"type": "integer", "exclusiveMinimum": 5, "exclusiveMaximum": 6})", "no number lies between"},
      {R"({"type": "number", "minimum": 0.5})", "#/minimum: 0.5 is not served"},
      {R"({"enum": []})", "#/enum"},
      {R"({"type": "integer", "enum": ["a"]})", "no value has the schema's type"},
      {R"({"enum": ["a"], "minLength": 3})", "\"minLength\" beside \"enum\""},
      {R"(false)", "nothing is valid"},
      {R"({"properties": {"a": false}, "required": ["a"]})", "#/properties/a: false"},
      {R"({"type": "object",)", "JSON schema"},
      {R"([1])", "a schema is an object"},
      {R"({"type": "string", "type": "integer"})", "JSON schema"},
      {"", "JSON schema"},
  };
  for (const auto& [schema, words] : cases) {
    EXPECT_THAT(WhyRefused(SchemaOf(schema)), ::testing::HasSubstr(words)) << schema;
  }
}

TEST_F(ConstraintTest, WhatExplodesIsRefusedAtOnce) {
  const MonotonicTime begun = MonotonicNow();
  std::string deep, many = R"({"enum": [)", nested = R"({"type": "string", "maxLength": 1000})";
  for (int i = 0; i < 200; ++i) deep += R"({"type": "array", "items": )";
  for (int i = 0; i < 2000; ++i) many += std::to_string(i) + ", ";
  for (int i = 0; i < 4; ++i) nested = R"({"type": "array", "maxItems": 100, "items": )" + nested + "}";
  const Constraint cases[] = {
      SchemaOf(deep + "true" + std::string(200, '}')),
      SchemaOf(many + "0]}"),
      SchemaOf(nested),
      SchemaOf(std::string(100'000, ' ') + "true"),
      RegexOf("((a{1,1000}){1,1000}){1,1000}"),
      RegexOf(std::string(100, '(') + "a" + std::string(100, ')')),
      RegexOf(std::string(10'000, 'a')),
      RegexOf("a{1000000}"),
      {Constraint::Kind::kChoice, "", std::vector<std::string>(2000, "a")},
      {Constraint::Kind::kChoice, "", {std::string(100'000, 'a')}},
      {Constraint::Kind::kChoice, "", {}},
      {Constraint::Kind::kChoice, "", {""}},
      {Constraint::Kind::kChoice, "", {"\xFF"}},
  };
  for (const Constraint& constraint : cases) {
    EXPECT_NE(WhyRefused(constraint), "") << constraint.text.substr(0, 60);
    EXPECT_LT(WhyRefused(constraint).size(), 600u);
  }
  EXPECT_LT(MonotonicNow() - begun, absl::Seconds(20));
  EXPECT_EQ(matchers_->stats().compiled.load(), 0u);
}

TEST_F(ConstraintTest, WhatARegexMayNotSayIsRefusedByName) {
  for (const char* regex :
       {"(?=a)", "(?<!a)b",     "(?i)a", "\\1",     "\\bword", "\\p{L}", "a++",  "a**",      "*a",
        "(a",    "a)",          "[a",    "[z-a]",   "a{2,1}",  "a{x}",   "\\",   "a^b",      "a$b",
        "(^a)",  "[[:alpha:]]", "\\xZ",  "\\ud800", "\\u0000", "",       "\xFF", "[^\\s\\S]"}) {
    EXPECT_NE(WhyRefused(RegexOf(regex)), "") << regex;
  }
}

TEST_F(ConstraintTest, AGrammarIsCompiledOnceAndKept) {
  WalkIn(SchemaOf(R"({"type": "object"})"));
  WalkIn(SchemaOf(R"({"type":  "object", "title": "the same"})"));
  EXPECT_EQ(matchers_->stats().compiled.load(), 1u);
  EXPECT_EQ(matchers_->stats().hits.load(), 1u);
  for (int i = 0; i < 100; ++i) WalkIn(RegexOf("a{" + std::to_string(i + 1) + "}"));
  WalkIn(SchemaOf(R"({"type": "object"})"));
  EXPECT_EQ(matchers_->stats().compiled.load(), 102u) << "the first was not the least used, or all are kept";
}

}  // namespace
}  // namespace coterie
