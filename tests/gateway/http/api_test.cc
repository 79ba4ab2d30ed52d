// OpenAI's API as clients see it: a gateway with fake workers, over plain sockets.
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "tests/gateway/http/api_test_base.h"

namespace coterie::gateway::testing {
namespace {

using ::testing::HasSubstr;

TEST_F(ApiTest, AChatIsAnsweredWhole) {
  Start();
  const Reply reply = Post("/v1/chat/completions", Chat(7, 12));
  ASSERT_EQ(reply.code, 200) << reply.body;
  const json answer = reply.Json();
  EXPECT_EQ(answer["object"], "chat.completion");
  EXPECT_EQ(answer["model"], "base");
  EXPECT_EQ(answer["system_fingerprint"], "fake");
  EXPECT_THAT(answer["id"].get<std::string>(), ::testing::StartsWith("chatcmpl-"));
  ASSERT_EQ(answer["choices"].size(), 1u);
  const json& choice = answer["choices"][0];
  EXPECT_EQ(choice["message"]["content"], FakeText(7, 12));
  EXPECT_EQ(choice["message"]["role"], "assistant");
  EXPECT_EQ(choice["finish_reason"], "length");
  EXPECT_TRUE(choice["logprobs"].is_null());
  const int prompt = static_cast<int>(std::string("user: tell me\n").size());
  EXPECT_EQ(answer["usage"]["prompt_tokens"], prompt);
  EXPECT_EQ(answer["usage"]["completion_tokens"], 12);
  EXPECT_EQ(answer["usage"]["total_tokens"], prompt + 12);
  EXPECT_TRUE(answer["usage"]["prompt_tokens_details"]["cached_tokens"].is_number_integer());
  EXPECT_EQ(answer["coterie"]["worker"], "fake-0");
  EXPECT_EQ(reply.headers.at("x-coterie-expert"), "base");
  EXPECT_EQ(reply.headers.at("x-coterie-worker"), "fake-0");
}

TEST_F(ApiTest, AStreamSaysTheSame) {
  Start();
  const Reply reply = Post("/v1/chat/completions", Chat(7, 40, {{"stream", true}}));
  EXPECT_EQ(TextsOf(reply, 1, true)[0], FakeText(7, 40));
  EXPECT_EQ(reply.headers.at("cache-control"), "no-cache");
  EXPECT_EQ(reply.headers.at("x-accel-buffering"), "no");
  EXPECT_EQ(reply.headers.at("x-coterie-expert"), "base");
  const std::vector<json> chunks = reply.Chunks();
  EXPECT_EQ(chunks.front()["coterie"]["worker"], "fake-0");
  for (size_t i = 0; i < chunks.size(); ++i) {
    EXPECT_EQ(chunks[i].contains("coterie"), i == 0);
    EXPECT_FALSE(chunks[i].contains("usage"));  // nobody asked for it
    EXPECT_EQ(chunks[i]["choices"].size(), 1u);
  }
}

TEST_F(ApiTest, UsageComesLastWhereItIsAskedFor) {
  Start();
  const Reply reply = Post("/v1/chat/completions",
                           Chat(7, 5, {{"stream", true}, {"stream_options", {{"include_usage", true}}}}));
  TextsOf(reply, 1, true);
  const std::vector<json> chunks = reply.Chunks();
  for (size_t i = 0; i + 1 < chunks.size(); ++i) EXPECT_TRUE(chunks[i].at("usage").is_null());
  EXPECT_EQ(chunks.back()["choices"], json::array());
  EXPECT_EQ(chunks.back()["usage"]["completion_tokens"], 5);
}

TEST_F(ApiTest, SeveralChoicesAndPrompts) {
  Start();
  for (const bool stream : {false, true}) {
    const json body = {{"model", "base"}, {"prompt", {"aa", "bbb"}}, {"n", 2},
                       {"seed", 5},       {"max_tokens", 9},         {"stream", stream}};
    const Reply reply = Post("/v1/completions", body);
    std::vector<std::string> texts;
    if (stream) {
      texts = TextsOf(reply, 4, false);
    } else {
      const json whole = reply.Json();
      for (const json& choice : whole["choices"]) texts.push_back(choice["text"]);
      EXPECT_EQ(whole["usage"]["prompt_tokens"], 5);  // each prompt once
      EXPECT_EQ(whole["usage"]["completion_tokens"], 36);
    }
    EXPECT_THAT(texts,
                ::testing::ElementsAre(FakeText(5, 9), FakeText(6, 9), FakeText(5, 9), FakeText(6, 9)));
  }
}

TEST_F(ApiTest, EchoAndLogprobsOfCompletions) {
  Start();
  json body = {{"model", "base"}, {"prompt", "tell"}, {"seed", 3}, {"max_tokens", 4}, {"echo", true}};
  EXPECT_EQ(Post("/v1/completions", body).Json()["choices"][0]["text"], "tell" + FakeText(3, 4));
  body["stream"] = true;
  EXPECT_EQ(TextsOf(Post("/v1/completions", body), 1, false)[0], "tell" + FakeText(3, 4));
  body["stream"] = false;
  body["echo"] = false;
  body["logprobs"] = 2;
  const json choice = Post("/v1/completions", body).Json()["choices"][0];
  const json& logprobs = choice["logprobs"];
  EXPECT_EQ(logprobs["tokens"].size(), 4u);
  EXPECT_EQ(logprobs["tokens"][0], FakeText(3, 1));
  EXPECT_EQ(logprobs["token_logprobs"][0], -0.5);
  EXPECT_EQ(logprobs["top_logprobs"][0], json({{"a", -1.0}, {"b", -2.0}}));
  EXPECT_EQ(logprobs["text_offset"], json({0, 1, 2, 3}));
}

// As evaluation harnesses ask: what the prompt's own tokens cost, with an answer or without.
TEST_F(ApiTest, AnEchoedPromptIsScored) {
  Start();
  json body = {{"model", "base"}, {"prompt", "t\u00e9l"}, {"seed", 3},
               {"max_tokens", 2}, {"echo", true},         {"logprobs", 1}};
  const json choice = Post("/v1/completions", body).Json()["choices"][0];
  EXPECT_EQ(choice["text"], "t\u00e9l" + FakeText(3, 2));
  const json& logprobs = choice["logprobs"];
  const std::string answer = FakeText(3, 2);
  EXPECT_EQ(logprobs["tokens"],
            json({"t", "bytes:\\xc3", "bytes:\\xa9", "l", answer.substr(0, 1), answer.substr(1)}));
  EXPECT_EQ(logprobs["token_logprobs"], json({nullptr, -1.0, -2.0, -3.0, -0.5, -0.5}));
  EXPECT_TRUE(logprobs["top_logprobs"][0].is_null());
  EXPECT_EQ(logprobs["top_logprobs"][4], json({{"a", -1.0}}));
  EXPECT_EQ(logprobs["text_offset"], json({0, 1, 2, 2, 3, 4}));

  body["stream"] = true;
  const Reply streamed = Post("/v1/completions", body);
  EXPECT_EQ(TextsOf(streamed, 1, false)[0], choice["text"]);
  std::vector<json> values;
  for (const json& chunk : streamed.Chunks()) {
    const json& some = chunk["choices"][0]["logprobs"];
    if (!some.is_null())
      values.insert(values.end(), some["token_logprobs"].begin(), some["token_logprobs"].end());
  }
  EXPECT_EQ(json(values), logprobs["token_logprobs"]);

  body["max_tokens"] = 0;
  for (const bool stream : {false, true}) {
    body["stream"] = stream;
    const Reply reply = Post("/v1/completions", body);
    EXPECT_EQ(reply.code, 200) << reply.body;
    const json only = stream ? reply.Chunks().front()["choices"][0] : reply.Json()["choices"][0];
    EXPECT_EQ(only["text"], "t\u00e9l");
    EXPECT_EQ(only["logprobs"]["token_logprobs"], json({nullptr, -1.0, -2.0, -3.0}));
    EXPECT_TRUE(worker_.last_submit().score_only());
    const json last = stream ? reply.Chunks().back()["choices"][0] : only;
    EXPECT_EQ(last["finish_reason"], "length");
    if (stream) continue;
    EXPECT_EQ(reply.Json()["usage"]["completion_tokens"], 0);
  }
  // A single token has nothing before it, and wants no answer either.
  body["stream"] = false;
  body["prompt"] = "t";
  const json lone = Post("/v1/completions", body).Json()["choices"][0];
  EXPECT_EQ(lone["text"], "t");
  EXPECT_EQ(lone["logprobs"]["token_logprobs"], json::array({nullptr}));
  body.erase("logprobs");
  body["prompt"] = "tell";
  const json plain = Post("/v1/completions", body).Json()["choices"][0];
  EXPECT_EQ(plain["text"], "tell");
  EXPECT_TRUE(plain["logprobs"].is_null());
  body["logprobs"] = 20;
  body["prompt"] = json::array();
  for (int i = 0; i < 16; ++i) body["prompt"].push_back(std::string(4000, 'x'));
  ExpectError(Post("/v1/completions", body), 400, "84000 values, at most 62500 are held", "logprobs");
}

TEST_F(ApiTest, LogprobsOfChats) {
  Start();
  const json fields = {{"logprobs", true}, {"top_logprobs", 2}};
  const json whole = Post("/v1/chat/completions", Chat(3, 4, fields)).Json()["choices"][0]["logprobs"];
  ASSERT_EQ(whole["content"].size(), 4u);
  EXPECT_TRUE(whole.contains("refusal"));
  const json& token = whole["content"][0];
  EXPECT_EQ(token["token"], FakeText(3, 1));
  EXPECT_EQ(token["logprob"], -0.5);
  EXPECT_EQ(token["bytes"], json({static_cast<int>(FakeText(3, 1)[0])}));
  EXPECT_EQ(token["top_logprobs"][1]["token"], "b");
  json streamed = fields;
  streamed["stream"] = true;
  json all = json::array();
  for (const json& chunk : Post("/v1/chat/completions", Chat(3, 4, streamed)).Chunks()) {
    const json& logprobs = chunk["choices"][0]["logprobs"];
    if (!logprobs.is_null()) all.insert(all.end(), logprobs["content"].begin(), logprobs["content"].end());
  }
  EXPECT_EQ(all, whole["content"]);
}

TEST_F(ApiTest, StopStringsEndAnswersStreamedOrNot) {
  Start();
  const std::string text = FakeText(9, 30);
  const json stop = {{"stop", {text.substr(10, 3), "never"}}};
  const json choice = Post("/v1/chat/completions", Chat(9, 30, stop)).Json()["choices"][0];
  EXPECT_EQ(choice["message"]["content"], text.substr(0, 10));
  EXPECT_EQ(choice["finish_reason"], "stop");
  json streamed = stop;
  streamed["stream"] = true;
  EXPECT_EQ(TextsOf(Post("/v1/chat/completions", Chat(9, 30, streamed)), 1, true)[0], text.substr(0, 10));
  EXPECT_TRUE(Eventually([&] { return worker_.live_sequences() == 0; }));
}

TEST_F(ApiTest, QuestionsAreRoutedAndExpertsNamed) {
  Start(HttpOptions({worker_.address()}), {"algebra", "botany"});
  const json question = {{"model", "auto"},
                         {"messages", {{{"role", "user"}, {"content", "a question"}}}},
                         {"seed", 1},
                         {"max_tokens", 3}};
  const Reply reply = Post("/v1/chat/completions", question);
  ASSERT_EQ(reply.code, 200) << reply.body;
  EXPECT_EQ(reply.Json()["model"], "algebra");
  EXPECT_EQ(reply.headers.at("x-coterie-expert"), "algebra");
  EXPECT_EQ(reply.headers.at("x-coterie-policy"), "nearest");
  EXPECT_THAT(reply.headers.at("x-coterie-reason"), HasSubstr("algebra"));
  EXPECT_EQ(reply.Json()["coterie"]["candidates"].size(), 2u);
  const Reply route = Post("/v1/route", {{"input", "a question"}});
  EXPECT_EQ(route.Json()["coterie"]["experts"][0]["name"], "algebra");
  EXPECT_FALSE(route.Json()["coterie"].contains("worker"));
  const std::string digest = route.Json()["coterie"]["experts"][0]["digest"];
  json pinned = question;
  pinned["model"] = "algebra@" + digest.substr(0, 12);
  EXPECT_EQ(Post("/v1/chat/completions", pinned).Json()["model"], "algebra");
  json unknown = question;
  unknown["model"] = "gpt-4o";
  const Reply refused = Post("/v1/chat/completions", unknown);
  ExpectError(refused, 404, "gpt-4o", "model");
  EXPECT_EQ(refused.Json()["error"]["code"], "model_not_found");
  EXPECT_EQ(refused.headers.at("x-should-retry"), "false");
  unknown["stream"] = true;  // before the first token: the same
  ExpectError(Post("/v1/chat/completions", unknown), 404, "gpt-4o", "model");
  json denied = question;
  denied["model"] = "algebra";
  denied["coterie"] = {{"allowed_experts", {"botany"}}};
  ExpectError(Post("/v1/chat/completions", denied), 403, "algebra");

  const json models = Connect().Get("/v1/models").Json();
  std::vector<std::string> ids;
  for (const json& model : models["data"]) {
    ids.push_back(model["id"]);
    EXPECT_EQ(model["object"], "model");
    EXPECT_TRUE(model["created"].is_number_integer());
    EXPECT_EQ(model["owned_by"], "coterie");
    EXPECT_EQ(model["max_model_len"], 4096);
  }
  EXPECT_THAT(ids, ::testing::ElementsAre("auto", "base", "algebra", "botany"));
  EXPECT_EQ(models["data"][2]["parent"], "base");
  EXPECT_EQ(models["data"][2]["root"], digest);
  EXPECT_EQ(Connect().Get("/v1/models/algebra").Json(), models["data"][2]);
  EXPECT_EQ(Connect().Get("/v1/models/algebra%40" + digest.substr(0, 8)).code, 200);
  EXPECT_EQ(Connect().Get("/v1/models/auto").code, 200);
  for (const char* none : {"/v1/models/zoology", "/v1/models/Not%20A%20Name"}) {
    ExpectError(Connect().Get(none), 404, "there is no model", "model");
  }
  EXPECT_EQ(Connect().Get("/v1/models/").code, 404);
}

TEST_F(ApiTest, AModelMayBeSeveralExperts) {
  Start(HttpOptions({worker_.address()}), {"law", "math"});
  const json several[] = {{{"model", "mixture:math:0.75,law:0.25"}},
                          json::parse(R"({"model": "auto", "coterie": {"collaboration": {"members":
          [{"expert": "math", "weight": 0.75}, {"expert": "law", "weight": 0.25}]}}})")};
  for (const json& fields : several) {
    const Reply reply = Post("/v1/chat/completions", Chat(1, 3, fields));
    EXPECT_EQ(reply.code, 200) << reply.body;
    EXPECT_EQ(reply.Json()["model"], "math+law");
    EXPECT_EQ(reply.headers.at("x-coterie-expert"), "math+law");
    const json route = reply.Json()["coterie"];
    EXPECT_EQ(route["mode"], "mixture");
    EXPECT_EQ(route["experts"][0]["name"], "math");
    EXPECT_EQ(route["experts"][0]["weight"], 0.75);
    EXPECT_EQ(route["experts"][1]["name"], "law");
    EXPECT_EQ(worker_.last_submit().mixture_size(), 2);
    json ask = fields;
    ask["input"] = "anything";
    EXPECT_EQ(Post("/v1/route", ask).Json()["coterie"]["experts"].size(), 2u);
  }
  EXPECT_EQ(Post("/v1/chat/completions", Chat(1, 3, {{"model", "blend:math,law"}})).Json()["coterie"]["mode"],
            "blend");
  EXPECT_EQ(Post("/tokenize", {{"model", "mixture:math,law"}, {"prompt", "a"}}).code, 200);
  const Reply unknown = Post("/v1/chat/completions", Chat(1, 3, {{"model", "mixture:math,nobody"}}));
  ExpectError(unknown, 404, "nobody", "model");
  EXPECT_EQ(unknown.Json()["error"]["code"], "model_not_found");
  ExpectError(Post("/v1/chat/completions", Chat(1, 3, {{"model", "mixture:math:0.5,law:0.1"}})), 400,
              "sum to 0.6", "model");
  ExpectError(
      Post("/v1/chat/completions", Chat(1, 3, json::parse(R"({"coterie": {"collaboration": {"k": 2}}})"))),
      400, "leave one", "model");
  ExpectError(Post("/v1/chat/completions",
                   Chat(1, 3, json::parse(R"({"model": "auto", "coterie": {"collaboration": {"k": 20}}})"))),
              400, "20", "coterie.collaboration.k");
}

TEST_F(ApiTest, WhatIsWrongIsRefusedByFieldAndTheConnectionGoesOn) {
  Start();
  HttpClient client = Connect();
  ExpectError(client.PostText("/v1/chat/completions", "{"), 400, "not JSON");
  ExpectError(client.PostText("/v1/chat/completions", R"({"model":"base","model":"auto"})"), 400,
              "\"model\" appears twice");
  ExpectError(client.Post("/v1/chat/completions", Chat(1, 5, {{"temperature", "hot"}})), 400,
              "temperature is \"hot\"; a number is expected", "temperature");
  ExpectError(client.Post("/v1/chat/completions", Chat(1, 5, {{"top_p", 2}})), 400, "top_p is 2", "top_p");
  ExpectError(client.Post("/v1/chat/completions", Chat(1, 5, {{"tools", {1}}})), 400, "tools", "tools");
  ExpectError(
      client.Post("/v1/chat/completions",
                  Chat(1, 5, {{"messages", {{{"role", "user"}, {"content", std::string(5000, 'x')}}}}})),
      400, "at most 4096 are served");
  ExpectError(client.Post("/v1/completions", {{"prompt", std::string((1 << 20) + 1, 'x')}}), 400,
              "the input has 1048577 bytes", "prompt");
  ExpectError(client.Post("/v1/completions", {{"prompt", ""}, {"model", "base"}}), 400, "no tokens");
  json long_stop = {{"stop", std::string(257, 's')}};
  ExpectError(client.Post("/v1/chat/completions", Chat(1, 5, long_stop)), 400, "257 bytes", "stop");
  EXPECT_EQ(worker_.submits(), 0u);
  EXPECT_EQ(client.Post("/v1/chat/completions", Chat(1, 5)).code, 200);
}

TEST_F(ApiTest, MethodsPathsAndTypes) {
  Start();
  HttpClient client = Connect();
  ExpectError(client.Get("/nothing"), 404, "there is no \"/nothing\" here");
  ExpectError(client.Get("/v1/chat/completions"), 405, "GET is not served at /v1/chat/completions");
  client.Send("POST /v1/models HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
  EXPECT_EQ(client.Read().headers.at("allow"), "GET, HEAD, OPTIONS");
  client.Send("BREW /v1/models HTTP/1.1\r\nHost: a\r\n\r\n");
  ExpectError(client.Read(), 501, "\"BREW\" is not known");
  client.Send("OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: a\r\n\r\n");
  const Reply options = client.Read();
  EXPECT_EQ(options.code, 204);
  EXPECT_EQ(options.headers.at("allow"), "POST, OPTIONS");
  EXPECT_EQ(options.headers.count("access-control-allow-origin"), 0u);
  client.Send("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(client.Read().code, 204);
  client.Send("HEAD /v1/models HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(client.Read(absl::Seconds(20), /*is_head=*/true).code, 200);
  // What a web page could make somebody's browser send.
  for (const char* type : {"text/plain", "application/x-www-form-urlencoded", ""}) {
    client.Send(absl::StrCat("POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n",
                             *type == '\0' ? "" : absl::StrCat("Content-Type: ", type, "\r\n"),
                             "Content-Length: 2\r\n\r\n{}"));
    ExpectError(client.Read(), 415, "application/json is expected");
  }
  client.Send(
      "POST /tokenize HTTP/1.1\r\nHost: a\r\nContent-Type: Application/JSON; charset=utf-8\r\n"
      "Content-Length: 15\r\n\r\n{\"prompt\":\"ab\"}");
  EXPECT_EQ(client.Read().Json()["count"], 2);
}

TEST_F(ApiTest, Embeddings) {
  Start();
  const json one = Post("/v1/embeddings", {{"input", "cab"}, {"model", "embedder"}}).Json();
  EXPECT_EQ(one["object"], "list");
  EXPECT_EQ(one["data"][0]["embedding"].size(), FakeEmbedder::kDim);
  EXPECT_EQ(one["data"][0]["embedding"][2], 1.0);
  EXPECT_EQ(one["usage"]["prompt_tokens"], 3);
  const json two = Post("/v1/embeddings", {{"input", {"a", "b"}}, {"encoding_format", "base64"}}).Json();
  ASSERT_EQ(two["data"].size(), 2u);
  std::string bytes;
  ASSERT_TRUE(absl::Base64Unescape(two["data"][1]["embedding"].get<std::string>(), &bytes));
  std::vector<float> values(bytes.size() / sizeof(float));
  memcpy(values.data(), bytes.data(), bytes.size());
  EXPECT_EQ(values, FakeEmbedder::VectorOf("b"));
  ExpectError(Post("/v1/embeddings", {{"input", json::array()}}), 400, "input is empty", "input");
  ExpectError(Post("/v1/embeddings", {{"input", {1, 2}}}), 400, "check_embedding_ctx_length", "input");
  ExpectError(Post("/v1/embeddings", {{"input", "a"}, {"dimensions", 5}}), 400, "from 26 to 26",
              "dimensions");
  ExpectError(Post("/v1/embeddings", {{"input", "a"}, {"encoding_format", "hex"}}), 400, "base64",
              "encoding_format");
  ExpectError(Post("/v1/embeddings", {{"input", "a"}, {"model", "text-embedding-3-small"}}), 404, "embedder",
              "model");
  ExpectError(Post("/v1/embeddings", {{"input", std::vector<std::string>(257, "a")}}), 400, "257 entries",
              "input");
}

TEST_F(ApiTest, TokensAndBack) {
  Start();
  const json tokens = Post("/tokenize", {{"prompt", "hi!"}, {"return_token_strs", true}}).Json();
  EXPECT_EQ(tokens["tokens"], json({104, 105, 33}));
  EXPECT_EQ(tokens["token_strs"], json({"h", "i", "!"}));
  EXPECT_EQ(tokens["max_model_len"], 4096);
  const json chat = Post("/tokenize", {{"messages", {{{"role", "user"}, {"content", "x"}}}}}).Json();
  EXPECT_EQ(chat["count"], 8);  // "user: x\n"
  EXPECT_EQ(Post("/detokenize", {{"tokens", {104, 105}}}).Json()["prompt"], "hi");
  ExpectError(Post("/detokenize", {{"tokens", {999}}}), 400, "the vocabulary has 257", "tokens[0]");
  ExpectError(Post("/detokenize", {{"tokens", "x"}}), 400, "list of token ids", "tokens");
  ExpectError(Post("/detokenize", json::object()), 400, "tokens is missing", "tokens");
  ExpectError(Post("/tokenize", json::object()), 400, "prompt is missing", "prompt");
}

TEST_F(ApiTest, OneTextOrMessagesAreRead) {
  Start(HttpOptions({worker_.address()}), {"alpha", "beta"});
  const json messages = {{{"role", "user"}, {"content", "b"}}};
  EXPECT_EQ(Post("/v1/route", {{"prompt", "a"}}).Json()["model"], "alpha");
  EXPECT_EQ(Post("/v1/route", {{"input", "a"}}).Json()["model"], "alpha");
  EXPECT_EQ(Post("/v1/route", {{"messages", messages}}).Json()["model"], "beta");
  for (const char* path : {"/v1/route", "/tokenize"}) {
    ExpectError(Post(path, {{"prompt", "a"}, {"messages", messages}}), 400, "not several", "messages");
    ExpectError(Post(path, json::object()), 400, "prompt is missing", "prompt");
    ExpectError(Post(path, {{"prompt", 7}}), 400, "prompt is 7", "prompt");
    ExpectError(Post(path, {{"messages", json::array()}}), 400, "at least one message", "messages");
  }
  ExpectError(Post("/v1/route", {{"prompt", "a"}, {"input", "b"}}), 400, "not several", "input");
}

TEST_F(ApiTest, TokenizingPassesAdmission) {
  Start();
  EXPECT_EQ(Post("/tokenize", {{"prompt", "a"}}).code, 200);
  EXPECT_EQ(Post("/detokenize", {{"tokens", {104}}}).code, 200);
  EXPECT_TRUE(Eventually([&] { return core().admission->idle(); }));
  core().admission->Drain();
  ExpectError(Post("/tokenize", {{"prompt", "a"}}), 503, "draining");
  ExpectError(Post("/detokenize", {{"tokens", {104}}}), 503, "draining");
  EXPECT_THAT(Connect().Get("/metrics").body,
              HasSubstr("coterie_admission_refused_total{kind=\"route\",reason=\"draining\"} 2"));
}

TEST_F(ApiTest, AClientThatTakesNothingIsCutOff) {
  GatewayOptions options = HttpOptions({worker_.address()});
  options.client_stall_timeout = absl::Milliseconds(500);
  options.http.send_buffer_bytes = 16 << 10;
  Start(std::move(options));
  HttpClient client = Connect(/*receive_buffer=*/16 << 10);
  client.Send(HttpClient::PostRequest(
      "/v1/chat/completions",
      Chat(1, 4000, {{"stream", true}, {"logprobs", true}, {"top_logprobs", 20}}).dump()));
  EXPECT_TRUE(Eventually([&] {
    return absl::StrContains(Connect().Get("/metrics").body,
                             "coterie_http_requests_total{code=\"499\",route=\"/v1/chat/completions\"} 1");
  }));
  EXPECT_TRUE(Eventually([&] { return core().admission->idle() && worker_.live_sequences() == 0; }));
}

TEST_F(ApiTest, HealthReadyVersionAndMetrics) {
  gateway_ = std::make_unique<TestGateway>(HttpOptions({"127.0.0.1:1"}));
  EXPECT_EQ(Connect().Get("/health").code, 200);
  ExpectError(Connect().Get("/ready"), 503, "no worker is ready");
  Start();
  EXPECT_EQ(Connect().Get("/ready").code, 200);
  EXPECT_EQ(Connect().Get("/version").Json()["base_model"], "fake");
  const Reply metrics = Connect().Get("/metrics");
  EXPECT_THAT(metrics.headers.at("content-type"), HasSubstr("version=0.0.4"));
  EXPECT_THAT(metrics.body, HasSubstr("coterie_http_requests_total{code=\"200\",route=\"/ready\"} 1"));
  EXPECT_THAT(metrics.body, HasSubstr("coterie_connections_open{listener=\"http\"}"));
  EXPECT_THAT(metrics.body, HasSubstr("coterie_workers"));
}

}  // namespace
}  // namespace coterie::gateway::testing
