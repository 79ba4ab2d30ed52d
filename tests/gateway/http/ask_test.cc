// Which fields of a chat or completion mean what, and which are refused by name.
#include <string>
#include <vector>

#include "common/refused_field.h"
#include "gateway/http/api/completion_ask.h"
#include "gateway/http/api/constraint_fields.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/gateway/fake_text_model.h"

namespace coterie::gateway::http {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class AskTest : public ::testing::Test {
 protected:
  StatusOr<CompletionAsk> Chat(const json& body) { return ReadChatAsk(body, context_); }
  StatusOr<CompletionAsk> Completion(const json& body) { return ReadCompletionAsk(body, context_); }
  // A chat of one question with these fields.
  StatusOr<CompletionAsk> ChatWith(const json& fields = json::object()) {
    json body = {{"model", "base"}, {"messages", {{{"role", "user"}, {"content", "hi"}}}}};
    body.update(fields);
    return Chat(body);
  }
  StatusOr<CompletionAsk> CompletionWith(const json& fields) {
    json body = {{"model", "base"}, {"prompt", "hi"}};
    body.update(fields);
    return Completion(body);
  }

  const testing::FakeTextModel text_;
  const RequestLimits limits_;
  HttpRequest request_;
  const AskContext context_{text_, limits_, request_};
};

TEST_F(AskTest, ReadsAConversationInAllItsShapes) {
  const auto ask = Chat(json::parse(R"({"messages": [
      {"role": "developer", "content": "be short", "name": "x"},
      {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
      {"role": "assistant", "content": "c", "tool_calls": [], "refusal": null},
      {"role": "user", "content": ""}]})"));
  ASSERT_TRUE(ask.ok()) << ask.status();
  const auto& chat = ask->requests.at(0).input.chat;
  ASSERT_EQ(chat.size(), 4u);
  EXPECT_EQ(chat[0].role, "system");
  EXPECT_EQ(chat[1].content, "a\nb");
  EXPECT_EQ(chat[2].role, "assistant");
  EXPECT_EQ(ask->requests[0].expert.kind, ExpertSelector::Kind::kAuto);
  EXPECT_EQ(ask->requests[0].sampling.temperature, 1.0f);  // OpenAI's defaults
  EXPECT_EQ(ask->requests[0].sampling.max_tokens, text_.context_tokens());
  EXPECT_FALSE(ask->stream);
}

TEST_F(AskTest, ReadsEverySamplingField) {
  request_.id = "own-id";
  const auto ask = ChatWith(json::parse(R"({
      "temperature": 0.5, "top_p": 0.9, "top_k": -1, "min_p": 0.1, "presence_penalty": 1, "frequency_penalty": -1,
      "repetition_penalty": 1.1, "seed": -3, "stop": ["a", "b"], "stop_token_ids": [5], "ignore_eos": true,
      "logit_bias": {"7": 2, "3": -100}, "logprobs": true, "top_logprobs": 4, "max_tokens": 5,
      "max_completion_tokens": 6, "n": 3, "stream": true, "stream_options": {"include_usage": true},
      "priority": 2, "cache_salt": "s",
      "coterie": {"tags": ["t"], "allowed_experts": ["x"], "policy": "nearest", "no_shadow": true}})"));
  ASSERT_TRUE(ask.ok()) << ask.status();
  ASSERT_EQ(ask->requests.size(), 3u);
  const SamplingParams& params = ask->requests[0].sampling;
  EXPECT_EQ(params.temperature, 0.5f);
  EXPECT_EQ(params.top_p, 0.9f);
  EXPECT_EQ(params.top_k, 0u);
  EXPECT_EQ(params.min_p, 0.1f);
  EXPECT_EQ(params.presence_penalty, 1.0f);
  EXPECT_EQ(params.frequency_penalty, -1.0f);
  EXPECT_EQ(params.repetition_penalty, 1.1f);
  EXPECT_EQ(params.seed, static_cast<uint64_t>(-3));
  EXPECT_EQ(ask->requests[2].sampling.seed, static_cast<uint64_t>(-1));  // each choice its own
  EXPECT_THAT(params.stop, ElementsAre("a", "b"));
  EXPECT_THAT(params.stop_token_ids, ElementsAre(5u));
  EXPECT_TRUE(params.ignore_eos);
  EXPECT_EQ(params.logit_bias.size(), 2u);
  EXPECT_EQ(params.logprobs, 4u);
  EXPECT_EQ(params.max_tokens, 6u);
  EXPECT_TRUE(ask->stream && ask->include_usage);
  EXPECT_EQ(ask->requests[0].context.priority, 2);
  EXPECT_EQ(ask->requests[0].context.cache_salt, "s");
  EXPECT_EQ(ask->requests[0].context.trace_id, "own-id");
  EXPECT_TRUE(ask->requests[0].context.no_shadow);
  EXPECT_THAT(ask->requests[0].routing.tags, ElementsAre("t"));
  EXPECT_THAT(ask->requests[0].routing.allowed_experts, ElementsAre("x"));
  EXPECT_EQ(ask->requests[0].routing.canary_key, "own-id");
}

TEST_F(AskTest, LetsThroughWhatAsksForNothing) {
  for (
      const char* fields :
      {R"({"store": true, "metadata": {"a": "b"}, "user": "u", "service_tier": "auto", "parallel_tool_calls": true})",
       R"({"tools": [], "tool_choice": "none", "functions": null, "response_format": {"type": "text"}})",
       R"({"tools": null, "tool_choice": "auto", "modalities": ["text"], "audio": null, "n": null})",
       R"({"stop": null, "seed": null, "logit_bias": {}, "stream_options": null, "max_tokens": 3.0})",
       R"({"use_beam_search": false, "length_penalty": 1.0, "min_tokens": 0, "suffix": ""})",
       R"({"something nobody knows": [1, 2, {"a": 3}]})"}) {
    const auto ask = ChatWith(json::parse(fields));
    EXPECT_TRUE(ask.ok()) << fields << ask.status();
  }
}

TEST_F(AskTest, ReadsWhatTheTextMustBe) {
  struct Case {
    const char* fields;
    Constraint expected;
  };
  const Constraint any_object = {Constraint::Kind::kJsonSchema, R"({"type": "object"})", {}};
  const Case cases[] = {
      {R"({"response_format": {"type": "json_object"}})", any_object},
      {R"({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "strict": true, "schema": {"type": "string"}}}})",
       {Constraint::Kind::kJsonSchema, R"({"type":"string"})", {}}},
      {R"({"guided_json": {"type": "string"}})", {Constraint::Kind::kJsonSchema, R"({"type":"string"})", {}}},
      {R"({"guided_json": "{\"type\": \"string\"}"})",
       {Constraint::Kind::kJsonSchema, R"({"type": "string"})", {}}},
      {R"({"guided_regex": "a+"})", {Constraint::Kind::kRegex, "a+", {}}},
      {R"({"guided_choice": ["yes", "no"]})", {Constraint::Kind::kChoice, "", {"yes", "no"}}},
      {R"({"structured_outputs": {"json": {"type": "string"}}})",
       {Constraint::Kind::kJsonSchema, R"({"type":"string"})", {}}},
      {R"({"structured_outputs": {"json_object": true}})", any_object},
      {R"({"structured_outputs": {"regex": "a+", "choice": null, "grammar": null}})",
       {Constraint::Kind::kRegex, "a+", {}}},
      {R"({"structured_outputs": {"choice": ["x"]}})", {Constraint::Kind::kChoice, "", {"x"}}},
      {R"({"response_format": null, "guided_json": null})", {}},
  };
  for (const Case& one : cases) {
    const auto ask = ChatWith(json::parse(one.fields));
    ASSERT_TRUE(ask.ok()) << one.fields << ask.status();
    EXPECT_EQ(ask->requests[0].sampling.constraint, one.expected) << one.fields;
  }
}

TEST_F(AskTest, ASchemaKeepsTheOrderOfItsProperties) {
  const std::string raw = R"({"guided_json": {"properties": {"z": {}, "a": {}}}, "messages": []})";
  const json parsed = json::parse(raw);  // sorts them
  const auto body = JsonObject::Of(parsed, "");
  const auto constraint = ReadConstraint(*body, raw);
  ASSERT_TRUE(constraint.ok()) << constraint.status();
  EXPECT_EQ(constraint->text, R"({"properties":{"z":{},"a":{}}})");
}

TEST_F(AskTest, RefusesByNameWhatItCannotDoOrUnderstand) {
  struct Case {
    std::string param;
    std::string fields;
  };
  const Case chats[] = {
      {"tools", R"({"tools": [{"type": "function"}]})"},
      {"tool_choice", R"({"tool_choice": "required"})"},
      {"functions", R"({"functions": [{}]})"},
      {"response_format", R"({"response_format": "text"})"},
      {"response_format.type", R"({"response_format": {"type": "yaml"}})"},
      {"response_format.type", R"({"response_format": {}})"},
      {"response_format.json_schema", R"({"response_format": {"type": "json_schema"}})"},
      {"response_format.json_schema.schema",
       R"({"response_format": {"type": "json_schema", "json_schema": {}}})"},
      {"response_format.json_schema.schema",
       R"({"response_format": {"type": "json_schema", "json_schema": {"schema": {"uniqueItems": true}}}})"},
      {"guided_choice", R"({"guided_choice": []})"},
      {"guided_choice[1]", R"({"guided_choice": ["a", 1]})"},
      {"guided_regex", R"({"guided_regex": "(a"})"},
      {"guided_regex", R"({"guided_regex": 3})"},
      {"guided_json", R"({"guided_json": "{"})"},
      {"guided_json", R"({"guided_json": [1]})"},
      {"guided_regex", R"({"guided_regex": "a", "response_format": {"type": "json_object"}})"},
      {"guided_grammar", R"({"guided_grammar": "root ::= a"})"},
      {"structured_outputs.grammar", R"({"structured_outputs": {"grammar": "root ::= a"}})"},
      {"structured_outputs.regex", R"({"structured_outputs": {"json": {}, "regex": "a"}})"},
      {"ignore_eos", R"({"guided_regex": "a", "ignore_eos": true})"},
      {"modalities", R"({"modalities": ["text", "audio"]})"},
      {"min_tokens", R"({"min_tokens": 3})"},
      {"add_generation_prompt", R"({"add_generation_prompt": false})"},
      {"continue_final_message", R"({"continue_final_message": true})"},
      {"echo", R"({"echo": true})"},
      {"messages", R"({"messages": null})"},
      {"messages", R"({"messages": []})"},
      {"messages", R"({"messages": "hi"})"},
      {"messages[0]", R"({"messages": ["hi"]})"},
      {"messages[0].role", R"({"messages": [{"content": "hi"}]})"},
      {"messages[0].role", R"({"messages": [{"role": "tool", "content": "hi"}]})"},
      {"messages[0].role", R"({"messages": [{"role": 1, "content": "hi"}]})"},
      {"messages[0].content", R"({"messages": [{"role": "user"}]})"},
      {"messages[0].content", R"({"messages": [{"role": "user", "content": 1}]})"},
      {"messages[0].content[0].type",
       R"({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]})"},
      {"messages[0].content[0].text", R"({"messages": [{"role": "user", "content": [{"type": "text"}]}]})"},
      {"messages[0].tool_calls",
       R"({"messages": [{"role": "assistant", "content": "x", "tool_calls": [{}]}]})"},
      {"temperature", R"({"temperature": "hot"})"},
      {"temperature", R"({"temperature": -1})"},
      {"temperature", R"({"temperature": 1e300})"},
      {"top_p", R"({"top_p": 0})"},
      {"top_k", R"({"top_k": -2})"},
      {"presence_penalty", R"({"presence_penalty": 2.1})"},
      {"seed", R"({"seed": 1.5})"},
      {"stop", R"({"stop": 1})"},
      {"stop[1]", R"({"stop": ["a", null]})"},
      {"stop", R"({"stop": ""})"},
      {"stop_token_ids", R"({"stop_token_ids": [99999]})"},
      {"logit_bias", R"({"logit_bias": [1]})"},
      {"logit_bias", R"({"logit_bias": {"x": 1}})"},
      {"logit_bias", R"({"logit_bias": {"99999": 1}})"},
      {"logit_bias", R"({"logit_bias": {"1": 101}})"},
      {"logit_bias[1]", R"({"logit_bias": {"1": "x"}})"},
      {"logprobs", R"({"logprobs": 1})"},
      {"top_logprobs", R"({"top_logprobs": 1})"},
      {"top_logprobs", R"({"logprobs": true, "top_logprobs": 21})"},
      {"max_tokens", R"({"max_tokens": 0})"},
      {"max_tokens", R"({"max_tokens": "many"})"},
      {"max_completion_tokens", R"({"max_completion_tokens": -1})"},
      {"n", R"({"n": 0})"},
      {"n", R"({"n": 17})"},
      {"stream", R"({"stream": "yes"})"},
      {"stream_options", R"({"stream_options": {"include_usage": true}})"},
      {"stream_options.include_usage", R"({"stream": true, "stream_options": {"include_usage": 1}})"},
      {"priority", R"({"priority": 101})"},
      {"context.cache_salt", R"({"cache_salt": ")" + std::string(65, 's') + "\"}"},
      {"coterie", R"({"coterie": []})"},
      {"coterie.polcy", R"({"coterie": {"polcy": "nearest"}})"},
      {"coterie.tags[0]", R"({"coterie": {"tags": [1]}})"},
      {"routing.allowed_experts", R"({"coterie": {"allowed_experts": ["Not A Name"]}})"},
      {"model", R"({"model": 1})"},
  };
  for (const Case& c : chats) {
    const auto ask = ChatWith(json::parse(c.fields));
    EXPECT_EQ(ask.status().code(), absl::StatusCode::kInvalidArgument) << c.fields;
    EXPECT_EQ(FieldOf(ask.status()).value_or(""), c.param) << c.fields << ask.status();
  }
  EXPECT_EQ(ChatWith({{"model", "No Such Model!"}}).status().code(), absl::StatusCode::kNotFound);
  const Case completions[] = {
      {"prompt", R"({"prompt": null})"},      {"prompt", R"({"prompt": [1, 2]})"},
      {"prompt", R"({"prompt": [[1, 2]]})"},  {"prompt[1]", R"({"prompt": ["a", 2]})"},
      {"prompt", R"({"prompt": []})"},        {"prompt", R"({"prompt": ["a", "b", "c"], "n": 6})"},
      {"suffix", R"({"suffix": "x"})"},       {"best_of", R"({"best_of": 2})"},
      {"logprobs", R"({"logprobs": true})"},  {"logprobs", R"({"logprobs": 21})"},
      {"max_tokens", R"({"max_tokens": 0})"}, {"max_tokens", R"({"max_tokens": 0, "logprobs": 1})"},
  };
  for (const Case& c : completions) {
    const auto ask = CompletionWith(json::parse(c.fields));
    EXPECT_EQ(ask.status().code(), absl::StatusCode::kInvalidArgument) << c.fields;
    EXPECT_EQ(FieldOf(ask.status()).value_or(""), c.param) << c.fields << ask.status();
  }
}

TEST_F(AskTest, SeveralExpertsAreWrittenAsAModelOrAsACollaboration) {
  const auto members = [](const StatusOr<CompletionAsk>& ask) {
    std::vector<std::string> out;
    for (const CollaborationMember& member : ask->requests[0].routing.collaboration.members) {
      out.push_back(absl::StrCat(ToString(member.expert), " ", member.weight));
    }
    return out;
  };
  for (const json& fields :
       {json{{"model", "mixture:a:0.75,b@01234567:0.25"}},
        json::parse(R"({"model": "auto", "coterie": {"collaboration": {"mode": "mixture", "members":
            [{"expert": "a", "weight": 0.75}, {"expert": "b@01234567", "weight": 0.25}]}}})")}) {
    const auto ask = ChatWith(fields);
    ASSERT_TRUE(ask.ok()) << ask.status();
    EXPECT_EQ(ask->requests[0].expert.kind, ExpertSelector::Kind::kMembers);
    EXPECT_EQ(ask->requests[0].routing.collaboration.mode, CollaborationMode::kMixture);
    EXPECT_THAT(members(ask), ElementsAre("a 0.75", "b@01234567 0.25"));
  }
  const auto blend = CompletionWith({{"model", "blend:a, b"}});
  ASSERT_TRUE(blend.ok()) << blend.status();
  EXPECT_EQ(blend->requests[0].routing.collaboration.mode, CollaborationMode::kBlend);
  EXPECT_THAT(members(blend), ElementsAre("a 0.5", "b 0.5"));
  const auto gateless = CompletionWith({{"model", "gated:a,b"}});
  ASSERT_TRUE(gateless.ok()) << gateless.status();
  EXPECT_EQ(gateless->requests[0].routing.collaboration.mode, CollaborationMode::kGated);
  EXPECT_EQ(gateless->requests[0].routing.collaboration.gate, GateKind::kGateless);
  EXPECT_THAT(members(gateless), ElementsAre("a 0.5", "b 0.5"));
  const auto arrow = ChatWith(json::parse(
      R"({"model": "auto", "coterie": {"collaboration": {"gate": "arrow", "top_k": 2, "members": ["a", "b", "c"]}}})"));
  ASSERT_TRUE(arrow.ok()) << arrow.status();
  EXPECT_EQ(arrow->requests[0].routing.collaboration.mode, CollaborationMode::kGated) << "a gate says so";
  EXPECT_EQ(arrow->requests[0].routing.collaboration.gate, GateKind::kArrow);
  EXPECT_EQ(arrow->requests[0].routing.collaboration.top_k, 2u);
  const auto k = ChatWith(json::parse(R"({"model": "auto", "coterie": {"collaboration": {"k": 3}}})"));
  ASSERT_TRUE(k.ok()) << k.status();
  EXPECT_EQ(k->requests[0].routing.collaboration.k, 3u);
  EXPECT_EQ(k->requests[0].expert.kind, ExpertSelector::Kind::kAuto);
}

TEST_F(AskTest, SeveralExpertsThatCannotBeAreRefusedByName) {
  struct Case {
    absl::StatusCode code;
    std::string param;
    std::string words;
    std::string fields;
  };
  const auto kInvalid = absl::StatusCode::kInvalidArgument;
  const Case cases[] = {
      {kInvalid, "model", "their weights sum to 0.75", R"({"model": "mixture:a:0.5,b:0.25"})"},
      {kInvalid, "model", "members[1].weight is not set", R"({"model": "mixture:a:0.5,b"})"},
      {kInvalid, "model", "members[0].weight is 0", R"({"model": "mixture:a:0,b:1"})"},
      {kInvalid, "model", "members[0].weight is nan", R"({"model": "mixture:a:nan,b:1"})"},
      {kInvalid, "model", "is not NAME or NAME:WEIGHT", R"({"model": "mixture:a:x,b:1"})"},
      {kInvalid, "model", "is not NAME or NAME:WEIGHT", R"({"model": "mixture:a:0.5:1,b:1"})"},
      {kInvalid, "model", "members[0].expert is empty", R"({"model": "mixture:"})"},
      {kInvalid, "model", "which is a member already", R"({"model": "blend:a,a"})"},
      {kInvalid, "model", "a member is an expert by its name", R"({"model": "mixture:a,base"})"},
      {kInvalid, "model", "has 17 entries", R"({"model": "mixture:a,b,c,d,e,f,g,h,i,j,k,l,m,n,o,p,q"})"},
      {kInvalid, "model", "has 5000 bytes", R"({"model": "mixture:)" + std::string(4992, 'a') + R"("})"},
      {absl::StatusCode::kNotFound, "model", "llama3:8b", R"({"model": "llama3:8b"})"},
      {absl::StatusCode::kNotFound, "model", ":a,b", R"({"model": ":a,b"})"},
      {kInvalid, "coterie.collaboration", "leave one of the two out",
       R"({"model": "mixture:a,b", "coterie": {"collaboration": {"k": 2}}})"},
      {kInvalid, "expert", "base", R"({"coterie": {"collaboration": {"k": 2}}})"},
      {kInvalid, "routing.policy", "leave one of the two out",
       R"({"model": "mixture:a,b", "coterie": {"policy": "nearest"}})"},
      {kInvalid, "coterie.collaboration", "an object is expected", R"({"coterie": {"collaboration": "a"}})"},
      {kInvalid, "coterie.collaboration.members", "a list of experts",
       R"({"coterie": {"collaboration": {"members": {}}}})"},
      {kInvalid, "coterie.collaboration.members[1].expert", "missing",
       R"({"coterie": {"collaboration": {"members": ["a", {"weight": 1}]}}})"},
      {kInvalid, "coterie.collaboration.members[0].wieght", "known are \"expert\", \"weight\"",
       R"({"coterie": {"collaboration": {"members": [{"expert": "a", "wieght": 1}]}}})"},
      {kInvalid, "coterie.collaboration.kk", "known are", R"({"coterie": {"collaboration": {"kk": 2}}})"},
      {kInvalid, "collaboration.mode", "sum",
       R"({"model": "auto", "coterie": {"collaboration": {"mode": "sum", "k": 2}}})"},
      {kInvalid, "collaboration.k", "17", R"({"model": "auto", "coterie": {"collaboration": {"k": 17}}})"},
      {kInvalid, "model", "members[0].weight is 0.5; under a gate", R"({"model": "gated:a:0.5,b:0.5"})"},
      {kInvalid, "collaboration.gate", "\"soft\", which is none of gateless, noisy, arrow",
       R"({"model": "auto", "coterie": {"collaboration": {"gate": "soft", "members": ["a", "b"]}}})"},
      {kInvalid, "collaboration.top_k", "is 0; it must be 1 to 2",
       R"({"model": "auto", "coterie": {"collaboration": {"gate": "arrow", "top_k": 0, "members": ["a", "b"]}}})"},
      {kInvalid, "collaboration.gate", "only the mode gated has a gate, not blend",
       R"({"model": "auto", "coterie": {"collaboration": {"mode": "blend", "gate": "noisy", "k": 2}}})"},
      {kInvalid, "collaboration", "neither members nor k",
       R"({"model": "auto", "coterie": {"collaboration": {}}})"},
  };
  for (const Case& c : cases) {
    const auto ask = ChatWith(json::parse(c.fields));
    EXPECT_EQ(ask.status().code(), c.code) << c.fields << ask.status();
    EXPECT_EQ(FieldOf(ask.status()).value_or(""), c.param) << c.fields << ask.status();
    EXPECT_THAT(std::string(ask.status().message()), HasSubstr(c.words)) << c.fields;
  }
}

TEST_F(AskTest, APromptIsScoredWhereItIsEchoedWithLogprobs) {
  const auto ask = CompletionWith({{"echo", true}, {"logprobs", 1}, {"max_tokens", 0}, {"n", 2}});
  ASSERT_TRUE(ask.ok()) << ask.status();
  EXPECT_TRUE(ask->requests[0].without_answer);
  EXPECT_EQ(ask->requests[0].max_prompt_logprobs, kMaxWholeLogprobs / 2);
  EXPECT_EQ(CompletionWith({{"echo", true}})->requests[0].max_prompt_logprobs, 0u);
  EXPECT_EQ(CompletionWith({{"logprobs", 1}})->requests[0].max_prompt_logprobs, 0u);
}

TEST_F(AskTest, MakesAChoiceOfEveryPromptAndN) {
  const auto ask = CompletionWith({{"prompt", {"a", "b"}}, {"n", 2}, {"best_of", 2}, {"logprobs", 0}});
  ASSERT_TRUE(ask.ok()) << ask.status();
  ASSERT_EQ(ask->requests.size(), 4u);
  EXPECT_EQ(ask->requests[1].input.prompt, "a");
  EXPECT_EQ(ask->requests[2].input.prompt, "b");
  EXPECT_EQ(ask->requests[0].sampling.max_tokens, 16u);  // OpenAI's default
  EXPECT_EQ(ask->requests[0].sampling.logprobs, 0u);
}

TEST_F(AskTest, RefusesMoreLogprobsThanItHolds) {
  const auto whole = ChatWith({{"n", 16}, {"logprobs", true}, {"top_logprobs", 20}});
  EXPECT_THAT(std::string(whole.status().message()), HasSubstr("1376256 values, at most 1000000"));
  EXPECT_TRUE(ChatWith({{"n", 16}, {"logprobs", true}, {"top_logprobs", 20}, {"stream", true}}).ok());
}

TEST_F(AskTest, TakesTheTraceOfTraceparent) {
  const std::string id(32, 'a');
  request_.headers = {{"traceparent", "00-" + id + "-00f067aa0ba902b7-01"}};
  EXPECT_EQ(ChatWith()->requests[0].context.trace_id, id);
  for (const std::string& bad : {std::string("x"), "00-" + std::string(32, '0') + "-00f067aa0ba902b7-01",
                                 "00-" + std::string(32, 'G') + "-00f067aa0ba902b7-01"}) {
    request_.headers = {{"traceparent", bad}};
    request_.id = "fallback";
    EXPECT_EQ(ChatWith()->requests[0].context.trace_id, "fallback") << bad;
  }
}

}  // namespace
}  // namespace coterie::gateway::http
