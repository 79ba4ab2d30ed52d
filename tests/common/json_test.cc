#include "common/json.h"

#include <gtest/gtest.h>

#include "tests/model/format/expect_refused.h"

namespace coterie {
namespace {

Status JsonStatus(std::string_view text, const JsonLimits& limits = {}) {
  return ParseJson(text, "x.json", limits).status();
}

TEST(JsonTest, KeepsTheOrderOfKeys) {
  const auto json = ParseJson(R"({"b":1,"a":2})", "x.json");
  ASSERT_TRUE(json.ok()) << json.status();
  EXPECT_EQ(json->begin().key(), "b");
}

TEST(JsonTest, RefusesWhatIsNotOneBoundedDocument) {
  EXPECT_REFUSED(JsonStatus("{"), kInvalid, "x.json: not JSON");
  EXPECT_REFUSED(JsonStatus("{} {}"), kInvalid, "not JSON");
  EXPECT_REFUSED(JsonStatus("[1e999]"), kInvalid, "not JSON");
  EXPECT_REFUSED(JsonStatus("\"\xc3\""), kInvalid, "not JSON");
  EXPECT_REFUSED(JsonStatus(R"({"a":1,"a":2})"), kInvalid, "x.json: key \"a\" appears twice");
  EXPECT_REFUSED(JsonStatus("[[[]]]", {.max_depth = 2}), kInvalid, "JSON nested deeper than 2");
  EXPECT_REFUSED(JsonStatus("[1,2,3]", {.max_values = 3}), kInvalid, "more than 3 JSON values");
  EXPECT_REFUSED(JsonStatus("[1,2,3]", {.max_bytes = 6}), kInvalid, "x.json has 7 bytes, the limit is 6");
  EXPECT_TRUE(JsonStatus("[[{\"a\":1}],{\"a\":1}]").ok());
}

TEST(JsonTest, FieldsNameValueAndRange) {
  const auto json = ParseJson(
      R"({"n":0,"big":18446744073709551615,"f":2.5,"s":"x","nil":null,"list":["a",1],"ints":[1,9],"o":{"k":true}})",
      "x.json");
  ASSERT_TRUE(json.ok());
  const auto fields = JsonFields::Of(*json, "x.json");
  ASSERT_TRUE(fields.ok());
  EXPECT_REFUSED(fields->Int("n", 1, 9).status(), kInvalid,
                 "x.json: field \"n\" is 0, expected an integer from 1 to 9");
  EXPECT_REFUSED(fields->Int("big", 1, 9).status(), kInvalid, "field \"big\" is 18446744073709551615");
  EXPECT_REFUSED(fields->Int("f", 1, 9).status(), kInvalid, "field \"f\" is 2.5, expected an integer");
  EXPECT_REFUSED(fields->Int("nil", 1, 9).status(), kInvalid, "field \"nil\" is missing");
  EXPECT_REFUSED(fields->Number("f", 3, 9).status(), kInvalid, "expected a number from 3 to 9");
  EXPECT_REFUSED(fields->BoolOr("n", true).status(), kInvalid, "expected true or false");
  EXPECT_REFUSED(fields->String("n").status(), kInvalid, "expected a string");
  EXPECT_REFUSED(fields->Strings("list").status(), kInvalid, "expected a string or a list of strings");
  EXPECT_REFUSED(fields->Ints("ints", 0, 8).status(), kInvalid,
                 "expected an integer or a list of integers from 0 to 8");
  EXPECT_REFUSED(fields->Object("s").status(), kInvalid, "field \"s\" is \"x\", expected an object");
  EXPECT_EQ(fields->IntOr("nil", 4, 1, 9).value(), 4);
  EXPECT_EQ(fields->Ints("ints", 0, 9).value().size(), 2u);
  EXPECT_TRUE(fields->Object("o").value().BoolOr("k", false).value());
  EXPECT_EQ(fields->Object("o").value().name(), "x.json o");
  EXPECT_REFUSED(JsonFields::Of((*json)["n"], "x.json").status(), kInvalid,
                 "x.json is 0, expected a JSON object");
}

}  // namespace
}  // namespace coterie
