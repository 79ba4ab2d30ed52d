// Prompts that are scored under other experts while nobody waits.
#include "gateway/watch/shadow_traffic.h"

#include <string>

#include "coterie/v1/cluster.grpc.pb.h"
#include "coterie/v1/expert.grpc.pb.h"
#include "gateway/watch/findings.h"
#include "gateway/watch/live_metrics.h"
#include "tests/gateway/experts.h"
#include "tests/gateway/gateway_test_base.h"

namespace coterie::gateway::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

// A model whose template renders no message without content.
class WantsContent final : public FakeTextModel {
  StatusOr<std::vector<int32_t>> EncodeChat(std::span<const ChatMessage> messages,
                                            size_t max_tokens) const override {
    for (const ChatMessage& message : messages) {
      if (message.content.empty()) return absl::InvalidArgumentError("a message is empty");
    }
    return FakeTextModel::EncodeChat(messages, max_tokens);
  }
};

class ShadowTrafficTest : public ::testing::Test {
 protected:
  ~ShadowTrafficTest() override {
    gateway_.reset();
    std::filesystem::remove_all(folder_);
  }

  // Every routed request is taken; algebra loses 3 nats per token, botany 2, the base 2.5.
  void Start(FakeWorker::Options worker = {}, ShadowOptions shadow = {}) {
    auto store = StoreWith(folder_, {"algebra", "botany"});
    algebra_ = AdapterOf(*store, "algebra");
    botany_ = AdapterOf(*store, "botany");
    worker.losses[algebra_] = 3.0f;
    worker.losses[botany_] = 2.0f;
    worker.losses[Digest()] = 2.5f;
    worker_ = std::make_unique<FakeWorker>(worker);
    GatewayOptions options = QuickOptions({worker_->address()});
    options.admin_listen = "127.0.0.1:0";
    options.catalogue_poll = absl::Milliseconds(10);
    options.shadow = shadow;
    options.shadow.share = 1;
    options.shadow.poll = absl::Milliseconds(5);
    options.shadow.quiet = absl::Milliseconds(10);
    GatewayParts parts = FakeParts(true, std::move(store));
    if (text_ != nullptr) parts.text = std::move(text_);
    gateway_ = std::make_unique<TestGateway>(options, std::move(parts));
    ASSERT_TRUE(gateway_->Ready(1));
    experts_ = v1::ExpertService::NewStub(grpc::CreateChannel(
        "127.0.0.1:" + std::to_string(gateway_->server->admin_port()), grpc::InsecureChannelCredentials()));
    store_ = ExpertStore::Open(folder_ / "store", TestOptions()).value();
  }
  // A folder with other weights of algebra, to be published as another process would.
  std::filesystem::path WriteVersion(const std::string& weights) {
    const auto source = folder_ / weights;
    WriteExpert(source, {.name = "algebra", .version = "2", .weights = weights});
    const std::vector<float> prototype = FakeEmbedder::VectorOf("algebra");
    std::ofstream(source / kPrototypesFile, std::ios::binary)
        << SafetensorsOf("prototypes", {1, static_cast<int64_t>(prototype.size())}, prototype);
    return source;
  }
  void WaitForGeneration(uint64_t generation) {
    ASSERT_TRUE(Eventually(
        [&] { return gateway_->server->core().routers->Current()->catalogue().generation == generation; }));
  }
  v1::ExpertInfo Get(const std::string& name) {
    grpc::ClientContext context;
    v1::GetExpertRequest request;
    request.set_name(name);
    v1::GetExpertResponse response;
    const grpc::Status status = experts_->Get(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response.expert();
  }
  // By "family label".
  std::map<std::string, double> Metrics() {
    std::map<std::string, double> values;
    for (const prometheus::MetricFamily& family : LiveMetrics(&gateway_->server->core()).Collect()) {
      for (const prometheus::ClientMetric& metric : family.metric) {
        std::string key = family.name;
        for (const auto& label : metric.label) absl::StrAppend(&key, " ", label.value);
        values[key] = metric.gauge.value + metric.counter.value;
      }
    }
    return values;
  }
  v1::GenerateRequest QuestionTo(const std::string& expert, const std::string& prompt = "a question") {
    v1::GenerateRequest request = BaseRequest(1, 3);
    request.set_prompt(prompt);
    request.set_expert(expert);
    return request;
  }
  void MustAsk(const v1::GenerateRequest& request) {
    const Answer answer = Ask(gateway_->stub.get(), request);
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
  }
  ShadowTraffic* shadow() { return gateway_->server->core().shadow; }
  ExpertRegret RegretOf(const std::string& expert) {
    return shadow()->Of(*gateway_->server->core().routers->Current()->catalogue().Find(expert));
  }
  bool WaitForScored(uint64_t n) {
    return Eventually([&] { return shadow()->counts().scored == n; });
  }

  const std::filesystem::path folder_ = FreshFolder();
  Digest algebra_, botany_;
  std::unique_ptr<const TextModel> text_;  // of the gateway, where it is not the usual one
  std::unique_ptr<FakeWorker> worker_;
  std::unique_ptr<TestGateway> gateway_;
  std::unique_ptr<v1::ExpertService::Stub> experts_;
  std::unique_ptr<ExpertStore> store_;
};

TEST_F(ShadowTrafficTest, APromptIsScoredUnderTheChosenExpertTheRunnerUpAndTheBase) {
  Start();
  MustAsk(QuestionTo("auto"));
  ASSERT_TRUE(WaitForScored(1));
  const std::vector<v1::Submit> scores = worker_->scores();
  ASSERT_EQ(scores.size(), 3u);
  EXPECT_EQ(scores[0].adapters(0).digest(), algebra_.ToBytes());
  EXPECT_EQ(scores[1].adapters_size(), 0);
  EXPECT_EQ(scores[2].adapters(0).digest(), botany_.ToBytes());
  for (const v1::Submit& score : scores) {
    EXPECT_EQ(score.prompt_ids_size(), 10);  // "a question", nothing of the answer
    EXPECT_EQ(score.prompt_logprobs_from(), 1u);
    EXPECT_EQ(score.priority(), -100);
    EXPECT_EQ(score.trace_id(), "");
  }
  const ExpertRegret regret = RegretOf("algebra");
  EXPECT_EQ(regret.n(), 1u);
  EXPECT_DOUBLE_EQ(regret.chosen().mean(), 3);
  EXPECT_DOUBLE_EQ(regret.runner_up().mean(), 2);
  EXPECT_DOUBLE_EQ(regret.base().mean(), 2.5);
  EXPECT_DOUBLE_EQ(regret.regret().mean(), 1);
  EXPECT_EQ(RegretOf("botany").n(), 0u);
  // Clients' metrics know nothing of it.
  EXPECT_EQ(ExpertCounter(gateway_->server->core(), "coterie_expert_requests_total", "algebra"), 1);
  EXPECT_EQ(ExpertCounter(gateway_->server->core(), "coterie_expert_requests_total", "botany"), 0);
}

TEST_F(ShadowTrafficTest, OfAConversationOnlyWhatWasAskedLastIsScored) {
  Start();
  v1::GenerateRequest request = QuestionTo("auto");
  const auto say = [&](const char* role, const char* content) {
    v1::ChatMessage* message = request.mutable_chat()->add_messages();
    message->set_role(role);
    message->set_content(content);
  };
  say("system", "be brief");
  say("user", "a question");
  MustAsk(request);
  ASSERT_TRUE(WaitForScored(1));
  for (const v1::Submit& score : worker_->scores()) {
    // Everything before the question is read, nothing after it.
    std::string text;
    for (const uint32_t id : score.prompt_ids()) text += static_cast<char>(id);
    EXPECT_EQ(text, "system: be brief\nuser: a question");
    EXPECT_EQ(score.prompt_logprobs_from(), text.size() - std::string("a question").size());
  }
  EXPECT_EQ(RegretOf("algebra").n(), 1u);
}

TEST_F(ShadowTrafficTest, AConversationWhoseQuestionCannotBeToldApartIsNotTaken) {
  text_ = std::make_unique<WantsContent>();
  Start();
  v1::GenerateRequest request = QuestionTo("auto");
  v1::ChatMessage* message = request.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content("a question");
  MustAsk(request);
  MustAsk(QuestionTo("auto"));
  ASSERT_TRUE(Eventually([&] { return shadow()->counts().scored > 0 && shadow()->waiting() == 0; }));
  for (const v1::Submit& score : worker_->scores()) EXPECT_EQ(score.prompt_ids_size(), 10);  // the prompt's
}

TEST_F(ShadowTrafficTest, AQuestionBeyondTheKeptTokensIsNotTaken) {
  Start({}, {.max_tokens = 16});
  v1::GenerateRequest request = QuestionTo("auto");
  v1::ChatMessage* message = request.mutable_chat()->add_messages();
  message->set_role("system");
  message->set_content("at great length");
  message = request.mutable_chat()->add_messages();
  message->set_role("user");
  message->set_content("a question");
  MustAsk(request);
  EXPECT_EQ(shadow()->waiting(), 0u);
  EXPECT_EQ(worker_->scores().size(), 0u);
}

TEST_F(ShadowTrafficTest, OfALongPromptTheFirstTokensAreKept) {
  Start({}, {.max_tokens = 16});
  MustAsk(QuestionTo("auto", "a" + std::string(99, 'x')));
  ASSERT_TRUE(WaitForScored(1));
  for (const v1::Submit& score : worker_->scores()) EXPECT_EQ(score.prompt_ids_size(), 16);
}

TEST_F(ShadowTrafficTest, PrivateOnesAndThoseThatWereNotRoutedAreNotTaken) {
  Start();
  v1::GenerateRequest salted = QuestionTo("auto");
  salted.mutable_context()->set_cache_salt("mine");
  MustAsk(salted);
  v1::GenerateRequest opted_out = QuestionTo("auto");
  opted_out.mutable_context()->set_no_shadow(true);
  MustAsk(opted_out);
  MustAsk(QuestionTo("algebra"));
  MustAsk(QuestionTo("base"));
  MustAsk(QuestionTo("auto", "zebra"));  // abstains: no expert was chosen
  EXPECT_EQ(shadow()->waiting(), 0u);
  MustAsk(QuestionTo("auto"));
  ASSERT_TRUE(WaitForScored(1));
  EXPECT_EQ(worker_->scores().size(), 3u);
}

TEST_F(ShadowTrafficTest, NothingIsScoredWhileAnybodyIsServedAndScoringMakesWayAtOnce) {
  FakeWorker::Options worker;
  worker.score_steps = 100;  // 200 ms each
  Start(worker);
  // While this answer is under way its own prompt waits.
  v1::GenerateRequest busy = QuestionTo("auto");
  busy.mutable_sampling()->set_max_tokens(100);
  const Answer first = Ask(gateway_->stub.get(), busy, [&](const Answer& so_far) {
    if (!so_far.token_ids.empty() && so_far.token_ids.size() < 90) {
      EXPECT_EQ(worker_->scores().size(), 0u);
      EXPECT_EQ(shadow()->waiting(), 1u);
    }
  });
  EXPECT_TRUE(first.status.ok());
  ASSERT_TRUE(Eventually([&] { return worker_->scores().size() == 1; }));
  const uint64_t cancels = worker_->cancels();
  v1::GenerateRequest urgent = QuestionTo("base");
  urgent.mutable_sampling()->set_max_tokens(50);
  bool alone = false;
  const Answer answer = Ask(gateway_->stub.get(), urgent, [&](const Answer& so_far) {
    if (so_far.token_ids.size() >= 10) alone = alone || worker_->live_sequences() == 1;
  });
  EXPECT_TRUE(answer.status.ok());
  EXPECT_TRUE(alone) << "the score went on beside the answer";
  EXPECT_GT(worker_->cancels(), cancels);
  // It goes on afterwards, from where it was.
  ASSERT_TRUE(WaitForScored(1));
  EXPECT_EQ(worker_->scores().size(), 4u);
}

TEST_F(ShadowTrafficTest, ScoringMakesWayForWhatAnotherGatewaySends) {
  FakeWorker::Options worker;
  worker.score_steps = 15'000;  // 30 s
  Start(worker);
  TestGateway other(QuickOptions({worker_->address()}));
  ASSERT_TRUE(other.Ready(1));
  MustAsk(QuestionTo("auto"));
  ASSERT_TRUE(Eventually([&] { return worker_->scores().size() == 1; }));
  v1::GenerateRequest request = QuestionTo("base");
  request.mutable_sampling()->set_max_tokens(1000);
  bool alone = false;
  const Answer answer = Ask(other.stub.get(), request, [&](const Answer& so_far) {
    if (so_far.token_ids.size() >= 10) alone = alone || worker_->live_sequences() == 1;
  });
  EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_TRUE(alone) << "the score went on beside the answer";
  EXPECT_EQ(shadow()->waiting(), 1u);  // to be tried again
}

TEST_F(ShadowTrafficTest, ADrainWaitsForNoScore) {
  FakeWorker::Options worker;
  worker.score_steps = 15'000;  // 30 s
  Start(worker);
  MustAsk(QuestionTo("auto"));
  ASSERT_TRUE(Eventually([&] { return worker_->live_sequences() == 1; }));
  EXPECT_TRUE(gateway_->server->Drain(absl::Seconds(20)));
  EXPECT_TRUE(Eventually([&] { return worker_->live_sequences() == 0; }));
  EXPECT_EQ(worker_->scores().size(), 1u);
}

TEST_F(ShadowTrafficTest, WhatWaitsIsBoundedAndTheNewestIsDropped) {
  Start({}, {.max_waiting = 2});
  v1::GenerateRequest busy = QuestionTo("base");
  busy.mutable_sampling()->set_max_tokens(300);
  bool asked = false;
  const Answer answer = Ask(gateway_->stub.get(), busy, [&](const Answer& so_far) {
    if (asked || so_far.token_ids.empty()) return;
    asked = true;
    for (int i = 0; i < 5; ++i) MustAsk(QuestionTo("auto"));
    EXPECT_EQ(shadow()->waiting(), 2u);
    EXPECT_EQ(shadow()->counts().dropped, 3u);
  });
  EXPECT_TRUE(asked);
  EXPECT_TRUE(answer.status.ok());
  EXPECT_TRUE(WaitForScored(2));
}

TEST_F(ShadowTrafficTest, ACanaryIsComparedWithTheLiveVersionOnTheSamePrompts) {
  FakeWorker::Options worker;
  const auto source = WriteVersion("better weights");
  const Digest canary = HashAdapter(source, {}).value();
  worker.losses[canary] = 2.75f;
  Start(worker);
  WaitForGeneration(store_->Publish(source, 0.5).value().generation);
  for (int i = 0; i < 4; ++i) {
    v1::GenerateRequest request = QuestionTo("auto");
    request.mutable_context()->set_trace_id(absl::StrCat("trace-", i));
    MustAsk(request);
  }
  ASSERT_TRUE(WaitForScored(4));
  const ExpertRegret regret = RegretOf("algebra");
  EXPECT_EQ(regret.canary_minus_chosen().n(), 4u);
  EXPECT_DOUBLE_EQ(regret.canary_minus_chosen().mean(), -0.25);
  EXPECT_DOUBLE_EQ(regret.chosen().mean(), 3);  // the live version's, whichever answered

  grpc::ClientContext context;
  v1::ListExpertsResponse list;
  ASSERT_TRUE(experts_->List(&context, {}, &list).ok());
  EXPECT_EQ(list.experts(0).shadow().prompts(), 4u);
  EXPECT_EQ(list.experts(0).shadow().canary_difference(), -0.25);
  EXPECT_EQ(list.experts(0).shadow().runner_up_loss(), 2);
  EXPECT_FALSE(list.experts(1).has_shadow());

  // Another live version: what was learnt of the one before is not said of it.
  WaitForGeneration(store_->Promote("algebra").value().generation);
  EXPECT_FALSE(Get("algebra").has_shadow());
  EXPECT_EQ(Metrics().count("coterie_shadow_regret_nats algebra"), 0u);
}

TEST_F(ShadowTrafficTest, OfACanaryOrAnExpertThatIsGoneNothingIsSaidAnyMore) {
  FakeWorker::Options worker;
  const auto source = WriteVersion("better weights");
  worker.losses[HashAdapter(source, {}).value()] = 2.75f;
  Start(worker);
  WaitForGeneration(store_->Publish(source, 0.5).value().generation);
  for (int i = 0; i < 30; ++i) MustAsk(QuestionTo("auto"));
  ASSERT_TRUE(WaitForScored(30));
  ASSERT_EQ(Get("algebra").findings_size(), 1);
  EXPECT_THAT(Get("algebra").findings(0), HasSubstr("its canary does better"));

  const auto expect_no_canary = [&] {
    EXPECT_EQ(Get("algebra").shadow().prompts(), 30u);  // these still tell of the live version
    EXPECT_EQ(Get("algebra").shadow().canary_prompts(), 0u);
    EXPECT_THAT(Get("algebra").findings(0), Not(HasSubstr("canary")));
    EXPECT_EQ(Metrics().count("coterie_shadow_canary_difference_nats algebra"), 0u);
  };
  WaitForGeneration(store_->Publish(WriteVersion("other weights"), 0.5).value().generation);
  expect_no_canary();
  WaitForGeneration(store_->RollBack("algebra").value().generation);
  expect_no_canary();

  WaitForGeneration(store_->Remove("algebra").value());
  for (const auto& [name, value] : Metrics()) EXPECT_THAT(name, Not(HasSubstr("algebra")));
  EXPECT_THAT(AllFindings(gateway_->server->core(), 100), ElementsAre());
}

TEST_F(ShadowTrafficTest, WhatIsKnownOfTheLiveVersionIsNotShownOfAnotherOne) {
  FakeWorker::Options worker;
  const auto source = WriteVersion("better weights");
  const Digest canary = HashAdapter(source, {}).value();
  worker.resident = {canary};
  Start(worker);
  WaitForGeneration(store_->Publish(source, 0.5).value().generation);
  MustAsk(QuestionTo("auto"));
  ASSERT_TRUE(WaitForScored(1));
  EXPECT_TRUE(Get("algebra").has_shadow());
  EXPECT_THAT(Get("algebra").resident_on(), ElementsAre());
  const v1::ExpertInfo info = Get("algebra@" + canary.ToHex());
  EXPECT_EQ(info.digest(), canary.ToHex());
  EXPECT_FALSE(info.has_shadow());
  EXPECT_THAT(info.resident_on(), ElementsAre("fake-0"));
}

TEST_F(ShadowTrafficTest, ASignificantRegretShowsInTheStatusAndTheFiguresInTheMetrics) {
  Start();
  for (int i = 0; i < 30; ++i) MustAsk(QuestionTo("auto"));
  ASSERT_TRUE(WaitForScored(30));
  const auto cluster = v1::ClusterService::NewStub(grpc::CreateChannel(
      "127.0.0.1:" + std::to_string(gateway_->server->port()), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  v1::StatusResponse status;
  ASSERT_TRUE(cluster->Status(&context, {}, &status).ok());
  ASSERT_EQ(status.findings_size(), 1);
  EXPECT_THAT(status.findings(0),
              HasSubstr("expert algebra: the base does better on the questions routed to it, by 0.500 nats"));
  EXPECT_THAT(status.findings(0), HasSubstr("the runner-up does better"));
  EXPECT_THAT(AllFindings(gateway_->server->core(), 0),
              ElementsAre("and 1 more; `coterie experts list` has them all"));

  std::map<std::string, double> values = Metrics();
  for (const auto& [name, value] : values) EXPECT_THAT(name, Not(HasSubstr("question")));
  EXPECT_EQ(values["coterie_shadow_prompts_total scored"], 30);
  EXPECT_EQ(values["coterie_shadow_regret_nats algebra"], 1);
  EXPECT_EQ(values["coterie_shadow_base_loss_nats algebra"], 2.5);
  EXPECT_EQ(values.count("coterie_shadow_canary_difference_nats algebra"), 0u);
}

TEST_F(ShadowTrafficTest, WhatIsOutOfBoundsIsRefusedAndNoShareMeansNothing) {
  GatewayOptions options = QuickOptions({"127.0.0.1:1"});
  options.shadow.share = 1.5;
  EXPECT_EQ(GatewayServer::Start(options, FakeParts()).status(),
            absl::InvalidArgumentError("shadow share 1.5 is not in [0, 1]"));
  options.shadow.share = 0.5;
  options.shadow.max_tokens = 1;
  EXPECT_EQ(GatewayServer::Start(options, FakeParts()).status().code(), absl::StatusCode::kInvalidArgument);
  options.shadow = {.share = 0};
  EXPECT_EQ(TestGateway(options).server->core().shadow, nullptr);
}

}  // namespace
}  // namespace coterie::gateway::testing
