#ifndef COTERIE_TESTS_GATEWAY_HTTP_API_TEST_BASE_H_
#define COTERIE_TESTS_GATEWAY_HTTP_API_TEST_BASE_H_

#include <filesystem>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "tests/gateway/experts.h"
#include "tests/gateway/gateway_test_base.h"
#include "tests/gateway/http/http_client.h"

namespace coterie::gateway::testing {

using nlohmann::json;

inline GatewayOptions HttpOptions(const std::vector<std::string>& workers) {
  GatewayOptions options = QuickOptions(workers);
  options.http.listen = "127.0.0.1:0";
  return options;
}

inline json Chat(uint64_t seed, int max_tokens, const json& more = json::object()) {
  json body = {{"model", "base"},
               {"messages", {{{"role", "user"}, {"content", "tell me"}}}},
               {"seed", seed},
               {"max_tokens", max_tokens}};
  body.update(more);
  return body;
}

class ApiTest : public ::testing::Test {
 protected:
  ~ApiTest() override {
    gateway_.reset();
    std::filesystem::remove_all(folder_);
  }
  // With these experts; every question that begins with an expert's letter goes to it.
  void Start(GatewayOptions options, const std::vector<std::string>& experts = {}) {
    gateway_ = std::make_unique<TestGateway>(std::move(options), true,
                                             experts.empty() ? nullptr : StoreWith(folder_, experts));
    ASSERT_TRUE(gateway_->Ready(1));
  }
  void Start() { Start(HttpOptions({worker_.address()})); }
  HttpClient Connect(int receive_buffer = 0) { return HttpClient(port(), receive_buffer); }
  int port() const { return gateway_->server->http_port(); }
  Reply Post(std::string_view path, const json& body) { return Connect().Post(path, body); }
  const GatewayCore& core() const { return gateway_->server->core(); }

  const std::filesystem::path folder_ = FreshFolder();
  FakeWorker worker_{{}};
  std::unique_ptr<TestGateway> gateway_;
};

// What every error must have.
inline void ExpectError(const Reply& reply, int code, const std::string& words, const json& param = nullptr) {
  EXPECT_EQ(reply.code, code) << reply.body;
  const json error = reply.Json().value("error", json::object());
  EXPECT_THAT(error.value("message", ""), ::testing::HasSubstr(words)) << reply.body;
  EXPECT_TRUE(error.contains("type") && error.contains("param") && error.contains("code")) << reply.body;
  EXPECT_EQ(error.value("param", json()), param) << reply.body;
  EXPECT_FALSE(reply.headers.at("x-request-id").empty());
}

// The choices' texts out of a stream, after its shape was looked at.
inline std::vector<std::string> TextsOf(const Reply& reply, size_t n, bool chat) {
  EXPECT_EQ(reply.code, 200) << reply.body;
  EXPECT_TRUE(reply.chunked && reply.complete);
  EXPECT_TRUE(absl::StartsWith(reply.headers.at("content-type"), "text/event-stream"));
  const std::vector<std::string> events = reply.Events();
  EXPECT_EQ(events.empty() ? "" : events.back(), "[DONE]");
  std::vector<std::string> texts(n);
  std::vector<bool> finished(n, false), begun(n, false);
  std::set<std::string> ids;
  for (const json& chunk : reply.Chunks()) {
    ids.insert(chunk.at("id").get<std::string>());
    EXPECT_EQ(chunk.at("object"), chat ? "chat.completion.chunk" : "text_completion");
    EXPECT_TRUE(chunk.at("created").is_number_integer() && chunk.at("model").is_string());
    EXPECT_EQ(chunk.at("system_fingerprint"), "fake");
    for (const json& choice : chunk.at("choices")) {
      const auto i = choice.at("index").get<size_t>();
      EXPECT_FALSE(finished.at(i)) << "something behind the finish";
      EXPECT_TRUE(choice.contains("logprobs"));
      if (chat) {
        EXPECT_EQ(choice.at("delta").contains("role"), !begun[i]);
        texts[i] += choice.at("delta").value("content", "");
      } else {
        texts[i] += choice.at("text").get<std::string>();
      }
      begun[i] = true;
      finished[i] = !choice.at("finish_reason").is_null();
    }
  }
  EXPECT_EQ(ids.size(), 1u);
  for (size_t i = 0; i < n; ++i) EXPECT_TRUE(finished[i]) << i;
  return texts;
}

}  // namespace coterie::gateway::testing

#endif  // COTERIE_TESTS_GATEWAY_HTTP_API_TEST_BASE_H_
