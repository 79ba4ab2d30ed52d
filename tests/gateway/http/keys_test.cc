// A gateway with a keys file, over gRPC and HTTP alike.
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "common/api_keys.h"
#include "common/file.h"
#include "coterie/v1/cluster.grpc.pb.h"
#include "net/grpc_time.h"
#include "tests/gateway/http/api_test_base.h"

namespace coterie::gateway::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class KeyedGatewayTest : public ApiTest {
 protected:
  static ApiKey KeyOf(const std::string& id) {
    ApiKey key;
    key.id = id;
    key.tenant = "t-" + id;
    key.digest = HashApiKey(id + "-secret");
    return key;
  }
  static std::string Bearer(const std::string& secret) {
    return absl::StrCat("Authorization: Bearer ", secret, "\r\n");
  }
  static std::string Of(const std::string& id) { return Bearer(id + "-secret"); }

  void Write(const std::vector<ApiKey>& keys) {
    ASSERT_TRUE(WriteFileAtomically(keys_file(), PrintApiKeys(keys)).ok());
  }
  std::string keys_file() const { return folder_ / "keys.json"; }
  void StartWith(const std::vector<ApiKey>& keys, const std::vector<std::string>& experts = {}) {
    Write(keys);
    GatewayOptions options = HttpOptions({worker_.address()});
    options.admin_listen = "127.0.0.1:0";
    options.keys.file = keys_file();
    options.keys.poll = absl::Milliseconds(5);
    Start(std::move(options), experts);
  }

  grpc::Status Generate(const std::string& header, const std::string& value, v1::GenerateRequest request,
                        Answer* answer = nullptr) {
    grpc::ClientContext context;
    if (!header.empty()) context.AddMetadata(header, value);
    const Answer got = Ask(gateway_->stub.get(), request, nullptr, &context);
    if (answer != nullptr) *answer = got;
    return got.status;
  }
  grpc::Status Generate(const std::string& id, v1::GenerateRequest request = BaseRequest(1, 3),
                        Answer* answer = nullptr) {
    return Generate("authorization", absl::StrCat("Bearer ", id, "-secret"), std::move(request), answer);
  }
};

TEST_F(KeyedGatewayTest, EveryDoorAsksForTheKey) {
  ApiKey revoked = KeyOf("revoked"), expired = KeyOf("expired");
  revoked.revoked = true;
  expired.expires_unix = 1'000'000'000;
  StartWith({KeyOf("ann"), revoked, expired});

  EXPECT_TRUE(Generate("ann").ok());
  EXPECT_TRUE(Generate("x-api-key", "ann-secret", BaseRequest(1, 3)).ok());
  for (const std::string id : {"revoked", "expired", "nobody"}) {
    const grpc::Status status = Generate(id);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAUTHENTICATED) << id;
    EXPECT_THAT(status.error_message(), Not(HasSubstr("secret")));
    const Reply reply = Connect().Post("/v1/chat/completions", Chat(1, 3), Of(id));
    ExpectError(reply, 401, status.error_message());
    EXPECT_EQ(reply.Json()["error"]["code"], "invalid_api_key");
    EXPECT_EQ(reply.headers.at("www-authenticate"), "Bearer");
  }
  EXPECT_EQ(Generate("", "", BaseRequest(1, 3)).error_code(), grpc::StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(Connect().Post("/v1/chat/completions", Chat(1, 3), Of("ann")).code, 200);
  EXPECT_EQ(Connect().Post("/v1/chat/completions", Chat(1, 3), "X-Api-Key: ann-secret\r\n").code, 200);

  const std::pair<const char*, json> posts[] = {{"/v1/completions", {{"prompt", "hi"}, {"model", "base"}}},
                                                {"/v1/embeddings", {{"input", "hi"}}},
                                                {"/v1/route", {{"input", "hi"}}},
                                                {"/tokenize", {{"prompt", "hi"}}},
                                                {"/detokenize", {{"tokens", {104, 105}}}}};
  for (const auto& [path, body] : posts) {
    EXPECT_EQ(Connect().Post(path, body).code, 401) << path;
    const Reply reply = Connect().Post(path, body, Of("ann"));
    EXPECT_EQ(reply.code, 200) << path << " " << reply.body;
  }
  for (const char* path : {"/v1/models", "/v1/models/base", "/v1/cluster", "/v1/map", "/version"}) {
    EXPECT_EQ(Connect().Get(path).code, 401) << path;
    EXPECT_EQ(Connect().Get(path, Of("ann")).code, 200) << path;
  }
  for (const char* path : {"/health", "/ready", "/"}) EXPECT_EQ(Connect().Get(path).code, 200) << path;
  EXPECT_EQ(Connect().Get("/metrics").code, 401);
  ExpectError(Connect().Get("/metrics", Of("ann")), 403, "--metrics-port");

  v1::ScoreRequest score;
  score.set_completion("abc");
  v1::ScoreResponse scored;
  v1::EmbedResponse embedded;
  v1::RouteRequest route;
  route.set_prompt("abc");
  v1::RouteResponse routed;
  v1::EmbedRequest embed;
  embed.add_texts("abc");
  for (const bool with_key : {false, true}) {
    const auto code = with_key ? grpc::StatusCode::OK : grpc::StatusCode::UNAUTHENTICATED;
    const auto call = [&](auto method, const auto& request, auto* response) {
      grpc::ClientContext context;
      if (with_key) context.AddMetadata("authorization", "Bearer ann-secret");
      return (gateway_->stub.get()->*method)(&context, request, response).error_code();
    };
    using Stub = v1::GenerationService::Stub;
    EXPECT_EQ(call(&Stub::Score, score, &scored), code);
    EXPECT_EQ(call(&Stub::Embed, embed, &embedded), code);
    EXPECT_EQ(call(&Stub::Route, route, &routed), code);
  }
}

TEST_F(KeyedGatewayTest, OperatorsNeedNoKeyAtTheirDoorAndClientsDoAtTheirs) {
  StartWith({KeyOf("ann")});
  for (const bool admin : {false, true}) {
    const int at = admin ? gateway_->server->admin_port() : gateway_->server->port();
    const auto stub = v1::ClusterService::NewStub(
        grpc::CreateChannel(absl::StrCat("127.0.0.1:", at), grpc::InsecureChannelCredentials()));
    grpc::ClientContext context;
    v1::StatusResponse response;
    EXPECT_EQ(stub->Status(&context, {}, &response).error_code(),
              admin ? grpc::StatusCode::OK : grpc::StatusCode::UNAUTHENTICATED);
  }
}

TEST_F(KeyedGatewayTest, ExpertsBeyondTheKeyAreNeitherListedNorRoutedToNorNamed) {
  ApiKey law = KeyOf("law");
  law.experts = {"l*"};
  ApiKey none = KeyOf("none");
  none.experts.emplace();
  StartWith({law, none, KeyOf("all")}, {"law", "math"});

  const auto ids = [&](const std::string& id) {
    std::vector<std::string> names;
    const json page = Connect().Get("/v1/models", Of(id)).Json();
    for (const json& model : page["data"]) names.push_back(model["id"]);
    return names;
  };
  EXPECT_THAT(ids("all"), ::testing::ElementsAre("auto", "base", "law", "math"));
  EXPECT_THAT(ids("law"), ::testing::ElementsAre("auto", "base", "law"));
  EXPECT_THAT(ids("none"), ::testing::ElementsAre("auto", "base"));
  EXPECT_EQ(Connect().Get("/v1/models/law", Of("law")).code, 200);
  // Whether it is there or not.
  for (const char* name : {"math", "nowhere"}) {
    ExpectError(Connect().Get(absl::StrCat("/v1/models/", name), Of("law")), 403, name, "model");
    const Reply reply = Connect().Post("/v1/chat/completions", Chat(1, 3, {{"model", name}}), Of("law"));
    EXPECT_EQ(reply.code, 403) << reply.body;
    v1::GenerateRequest request = BaseRequest(1, 3);
    request.set_expert(name);
    EXPECT_EQ(Generate("law", request).error_code(), grpc::StatusCode::PERMISSION_DENIED);
  }
  // Every member of several counts.
  for (const char* model : {"mixture:law,math", "blend:law:0.5,nowhere:0.5"}) {
    ExpectError(Connect().Post("/v1/chat/completions", Chat(1, 3, {{"model", model}}), Of("law")), 403,
                "this request may use");
  }
  EXPECT_EQ(
      Connect().Post("/v1/chat/completions", Chat(1, 3, {{"model", "mixture:law,math"}}), Of("all")).code,
      200);
  // "m…" belongs to math.
  v1::GenerateRequest request = BaseRequest(1, 3);
  request.set_prompt("mmm");
  request.set_expert("auto");
  Answer answer;
  EXPECT_TRUE(Generate("all", request, &answer).ok());
  EXPECT_EQ(answer.route.experts(0).name(), "math");
  for (const std::string id : {"law", "none"}) {
    EXPECT_TRUE(Generate(id, request, &answer).ok());
    EXPECT_THAT(answer.route.DebugString(), Not(HasSubstr("math"))) << id;
  }
  // A request may ask for less than its key allows, and not for more.
  request.mutable_routing()->add_allowed_experts("math");
  EXPECT_TRUE(Generate("law", request, &answer).ok());
  EXPECT_THAT(answer.route.DebugString(), Not(HasSubstr("\"math\"")));
}

TEST_F(KeyedGatewayTest, TheKeyDecidesTenantAndPriority) {
  StartWith({KeyOf("ann")});
  v1::GenerateRequest request = BaseRequest(1, 3);
  request.mutable_context()->set_tenant("somebody else");
  request.mutable_context()->set_priority(90);
  EXPECT_TRUE(Generate("ann", request).ok());
  EXPECT_EQ(worker_.last_submit().tenant(), "t-ann");
  EXPECT_EQ(worker_.last_submit().priority(), 0);
  const std::string metrics = core().metrics->registry->Text();
  EXPECT_THAT(metrics, HasSubstr("coterie_tenant_requests_total{tenant=\"t-ann\"} 1"));
  EXPECT_THAT(metrics, Not(HasSubstr("somebody else")));
  EXPECT_THAT(metrics, HasSubstr("coterie_tenant_tokens_total{tenant=\"t-ann\"}"));
  EXPECT_THAT(metrics, Not(HasSubstr("secret")));
}

TEST_F(KeyedGatewayTest, QuotasAreRefusedWithTheTimeToWait) {
  ApiKey requests = KeyOf("requests"), tokens = KeyOf("tokens"), one = KeyOf("one");
  requests.requests_per_minute = 2;
  tokens.tokens_per_minute = 8;
  one.concurrent_requests = 1;
  StartWith({requests, tokens, one, KeyOf("free")});
  EXPECT_TRUE(Generate("requests").ok());
  EXPECT_EQ(Connect().Post("/v1/chat/completions", Chat(1, 3, {{"n", 3}}), Of("requests")).code, 200);
  EXPECT_EQ(Generate("requests").error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  const Reply refused = Connect().Post("/v1/chat/completions", Chat(1, 3), Of("requests"));
  ExpectError(refused, 429, "2 requests a minute");
  EXPECT_EQ(refused.Json()["error"]["code"], "rate_limit_exceeded");
  const int wait = std::stoi(refused.headers.at("retry-after"));
  EXPECT_GE(wait, 1);
  EXPECT_LE(wait, 30);
  EXPECT_GT(std::stoi(refused.headers.at("retry-after-ms")), 0);

  EXPECT_TRUE(Generate("tokens", BaseRequest(1, 30)).ok());
  EXPECT_THAT(Generate("tokens").error_message(), HasSubstr("8 tokens a minute"));

  // One after the other is never two at a time, however quick the client.
  for (int i = 0; i < 30; ++i) ASSERT_TRUE(Generate("one").ok()) << i;
  std::atomic<bool> refused_beside = false;
  grpc::ClientContext context;
  context.AddMetadata("authorization", "Bearer one-secret");
  const Answer slow = Ask(
      gateway_->stub.get(), BaseRequest(1, 200),
      [&](const Answer& so_far) {
        if (so_far.token_ids.empty() || refused_beside) return;
        const grpc::Status beside = Generate("one");
        EXPECT_EQ(beside.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
        EXPECT_THAT(beside.error_message(), HasSubstr("at most 1"));
        EXPECT_TRUE(Generate("free").ok());
        refused_beside = true;
      },
      &context);
  EXPECT_TRUE(slow.status.ok()) << slow.status.error_message();
  EXPECT_TRUE(refused_beside);
  EXPECT_TRUE(Generate("one").ok());
}

TEST_F(KeyedGatewayTest, TheFileIsFollowedUnderTraffic) {
  StartWith({KeyOf("ann"), KeyOf("bob")});
  std::atomic<bool> stop = false;
  std::atomic<int> n_answers = 0;
  std::thread traffic([&] {
    while (!stop) {
      ASSERT_TRUE(Generate("ann").ok());
      ++n_answers;
    }
  });
  ApiKey gone = KeyOf("bob");
  gone.revoked = true;
  for (int i = 0; i < 10; ++i) {
    Write({KeyOf("ann"), gone});
    EXPECT_TRUE(Eventually([&] { return !Generate("bob").ok(); })) << i;
    std::ofstream(keys_file()) << "{\"keys\": [";  // half written
    absl::SleepFor(absl::Milliseconds(20));
    EXPECT_FALSE(Generate("bob").ok());
    Write({KeyOf("ann"), KeyOf("bob")});
    EXPECT_TRUE(Eventually([&] { return Generate("bob").ok(); })) << i;
  }
  stop = true;
  traffic.join();
  EXPECT_GT(n_answers, 0);
}

TEST_F(KeyedGatewayTest, WithoutAFileNobodyIsAsked) {
  Start();
  EXPECT_EQ(Post("/v1/chat/completions", Chat(1, 3)).code, 200);
  EXPECT_EQ(Connect().Get("/metrics").code, 200);
  EXPECT_EQ(Connect().Post("/v1/chat/completions", Chat(1, 3), Bearer("whatever")).code, 200);
}

}  // namespace
}  // namespace coterie::gateway::testing
