// Reading and writing JSON: what a body may hold, and that what we write always is JSON.
#include <cmath>
#include <limits>
#include <string>

#include "common/refused_field.h"
#include "gateway/http/api/json_object.h"
#include "gateway/http/json_writer.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace coterie::gateway::http {
namespace {

using ::testing::HasSubstr;

TEST(JsonWriterTest, WritesWhatReadersRead) {
  std::string out;
  JsonWriter json(&out);
  json.BeginObject().Key("a").BeginArray().Int(-1).Uint(UINT64_MAX).Null().Bool(true).EndArray();
  json.Key("b").BeginObject().EndObject().Key("c").BeginArray().BeginObject().EndObject().EndArray();
  json.Key("d").Raw("[1,2]").Key("e").String("x").EndObject();
  EXPECT_EQ(out, R"({"a":[-1,18446744073709551615,null,true],"b":{},"c":[{}],"d":[1,2],"e":"x"})");
}

TEST(JsonWriterTest, KeepsEveryTextAndMendsWhatIsNoText) {
  for (const std::string& text : {std::string("plain"), std::string("\"\\\b\f\n\r\t\x01\x1f\x7f"),
                                  std::string("é € 😀"), std::string("a\0b", 3), std::string()}) {
    std::string out;
    JsonWriter(&out).String(text);
    EXPECT_EQ(nlohmann::json::parse(out).get<std::string>(), text);
  }
  std::string out;
  JsonWriter(&out).String("a\xff\xe2\x82");
  EXPECT_EQ(nlohmann::json::parse(out).get<std::string>(), "a\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST(JsonWriterTest, WritesNumbersThatReadBackAndNoOthers) {
  for (const double number : {0.0, -0.5, 1e300, 1e-300, 0.1, 123456789.125}) {
    std::string out;
    JsonWriter(&out).Number(number);
    EXPECT_EQ(nlohmann::json::parse(out).get<double>(), number) << out;
  }
  std::string out;
  JsonWriter json(&out);
  json.BeginArray().Number(0.1f).Number(std::nan("")).Number(-std::numeric_limits<float>::infinity());
  json.Number(std::numeric_limits<double>::infinity()).EndArray();
  EXPECT_EQ(out, "[0.1,null,null,null]");
}

TEST(ParseBodyTest, RefusesWhatIsNoJsonObject) {
  struct Case {
    std::string words;
    std::string body;
  };
  std::string deep;
  for (int i = 0; i < 100; ++i) deep += "{\"a\":";
  std::string wide = "{\"a\":[";
  for (int i = 0; i < 250'000; ++i) wide += "1,";
  const Case cases[] = {
      {"the body is empty", ""},
      {"not JSON", "{"},
      {"not JSON", "{\"a\":1}x"},
      {"not JSON", "{\"a\":01}"},
      {"not JSON", "{'a':1}"},
      {"not JSON", "{\"a\":NaN}"},
      {"not JSON", "{\"a\":1e999}"},
      {"not JSON", "{\"a\":\"\xff\"}"},
      {"not JSON", "{\"a\":\"\xed\xa0\x80\"}"},
      {"not JSON", "{\"a\":\"\\ud800\"}"},
      {"not JSON", "{\"a\":\"\x01\"}"},
      {"key \"a\" appears twice", R"({"a":1,"b":{"a":2},"a":3})"},
      {"nested deeper than 64", deep},
      {"more than 200000 JSON values", wide},
      {"the body is []", "[]"},
      {"the body is 1", "1"},
      {"the body is null", "null"},
  };
  for (const Case& c : cases) {
    const auto body = ParseBody(c.body);
    EXPECT_EQ(body.status().code(), absl::StatusCode::kInvalidArgument) << c.words;
    EXPECT_THAT(std::string(body.status().message()), HasSubstr(c.words));
  }
  EXPECT_TRUE(ParseBody("{\"\\u00e9\":\"\\ud83d\\ude00\"}").ok());
}

TEST(JsonObjectTest, NamesFieldValueAndWhatIsExpected) {
  const nlohmann::json json = nlohmann::json::parse(
      R"({"s":"x","n":1.5,"i":7.0,"big":18446744073709551615,"b":true,"null":null,"list":["a",1],"o":{},
          "ids":[1,-1],"long":")" +
      std::string(200, 'y') + R"("})");
  const JsonObject object = *JsonObject::Of(json, "outer");
  const auto refusal = [](const Status& status, const std::string& words, const std::string& field) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(words));
    EXPECT_EQ(FieldOf(status), field);
  };
  EXPECT_EQ(**object.Int("i", 0, 10), 7);
  EXPECT_FALSE(object.Int("null", 0, 10)->has_value());
  EXPECT_FALSE(object.String("none")->has_value());
  EXPECT_EQ((*object.Strings("s", true))->size(), 1u);
  refusal(object.Int("i", 0, 5).status(), "outer.i is 7.0; an integer from 0 to 5 is expected", "outer.i");
  refusal(object.Int("n", 0, 5).status(), "outer.n is 1.5; an integer", "outer.n");
  refusal(object.Int("big", 0, 5).status(), "outer.big is 18446744073709551615", "outer.big");
  refusal(object.Int("b", 0, 5).status(), "outer.b is true", "outer.b");
  refusal(object.String("n").status(), "outer.n is 1.5; a string is expected", "outer.n");
  refusal(object.Bool("s").status(), "outer.s is \"x\"; true or false is expected", "outer.s");
  refusal(object.Number("s").status(), "a number is expected", "outer.s");
  refusal(object.Strings("s", false).status(), "a list of strings is expected", "outer.s");
  refusal(object.Strings("list", true).status(), "outer.list[1] is 1; a string is expected", "outer.list[1]");
  refusal(object.TokenIds("ids").status(), "outer.ids[1] is -1; a token id is expected", "outer.ids[1]");
  refusal(object.Refuse("none", "a string is expected"), "outer.none is missing; a string", "outer.none");
  refusal(object.Refuse("o", "no"), "outer.o is {}; no", "outer.o");
  EXPECT_LT(object.Refuse("long", "no").message().size(), 120u);
  EXPECT_FALSE(JsonObject::Of(json["s"], "s").ok());
}

}  // namespace
}  // namespace coterie::gateway::http
