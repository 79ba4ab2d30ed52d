// More work than there is room for: whose turn it is, who is refused, and what is left when clients give up.
#include <algorithm>
#include <atomic>
#include <deque>
#include <list>
#include <thread>

#include "coterie/v1/expert.grpc.pb.h"
#include "tests/gateway/async_answer.h"
#include "tests/gateway/experts.h"
#include "tests/gateway/gateway_test_base.h"

namespace coterie::gateway::testing {
namespace {

using ::testing::HasSubstr;
using Kind = Admission::Kind;

// Embeds questions at once (with `all`: neither), and other texts when it is let go.
class HoldingEmbedder final : public TextEmbedder {
 public:
  explicit HoldingEmbedder(bool all = false) : all_(all) {}
  void Embed(std::string_view text, Urgency urgency, CancelFlag cancelled, Done done) override {
    if (all_ || urgency == Urgency::kBulk) {
      MutexLock lock(&mutex_);
      ++n_begun_;
      if (holding_) {
        held_.push_back({std::move(cancelled), std::move(done)});
        return;
      }
    }
    done(FakeEmbedder::VectorOf(text));
  }
  size_t CountTokens(std::string_view text) const override { return text.size(); }
  void LetGo() {
    std::vector<std::pair<CancelFlag, Done>> held;
    {
      MutexLock lock(&mutex_);
      holding_ = false;
      held.swap(held_);
    }
    for (auto& [cancelled, done] : held) done(FakeEmbedder::VectorOf("a"));
  }
  void Stop() override { LetGo(); }
  int n_begun() const {
    MutexLock lock(&mutex_);
    return n_begun_;
  }
  int n_wanted() const {
    MutexLock lock(&mutex_);
    return static_cast<int>(
        std::count_if(held_.begin(), held_.end(), [](const auto& one) { return !one.first.is_set(); }));
  }
  size_t dim() const override { return FakeEmbedder::kDim; }
  const Digest& digest() const override { return digest_; }

 private:
  const bool all_;
  const Digest digest_ = Sha256("holding");
  mutable Mutex mutex_;
  bool holding_ = true;
  int n_begun_ = 0;
  std::vector<std::pair<CancelFlag, Done>> held_;
};

v1::EmbedRequest Texts(int n) {
  v1::EmbedRequest request;
  for (int i = 0; i < n; ++i) request.add_texts("b");
  return request;
}

uint64_t Refused(const Admission& admission, const std::string& kind, const std::string& reason) {
  for (const Admission::Refused& refused : admission.refused()) {
    if (refused.kind == kind && refused.reason == reason) return refused.n;
  }
  return 0;
}

absl::Duration Median(std::vector<absl::Duration> all) {
  std::nth_element(all.begin(), all.begin() + static_cast<ptrdiff_t>(all.size() / 2), all.end());
  return all[all.size() / 2];
}

class OverloadTest : public ::testing::Test {
 protected:
  static v1::GenerateRequest Of(const std::string& tenant, uint64_t seed, uint32_t max_tokens) {
    v1::GenerateRequest request = BaseRequest(seed, max_tokens);
    request.mutable_context()->set_tenant(tenant);
    return request;
  }
};

TEST_F(OverloadTest, EmbedsWaitTheirTurnAndLeaveNothingBehindWhenTheirClientsGo) {
  FakeWorker worker({});
  GatewayParts parts = FakeParts();
  auto owned = std::make_unique<HoldingEmbedder>();
  HoldingEmbedder* const embedder = owned.get();
  parts.embedder = std::move(owned);
  TestGateway gateway(QuickOptions({worker.address()}), std::move(parts));
  ASSERT_TRUE(gateway.Ready(1));
  const Admission& admission = *gateway.server->core().admission;

  constexpr size_t kCalls = 8;
  std::deque<grpc::ClientContext> contexts(kCalls);
  std::vector<grpc::Status> statuses(kCalls);
  std::vector<std::thread> clients;
  for (size_t i = 0; i < kCalls; ++i) {
    clients.emplace_back([&, i] {
      v1::EmbedResponse response;
      statuses[i] = gateway.stub->Embed(&contexts[i], Texts(256), &response);
    });
  }
  EXPECT_TRUE(Eventually([&] { return admission.waiting(Kind::kEmbed) == 7 * 256; }));
  EXPECT_EQ(admission.running(Kind::kEmbed), 256u);
  // The one that runs has a few of its texts in the encoder's queue, not all.
  EXPECT_TRUE(Eventually([&] { return embedder->n_begun() == 32; }));
  // Meanwhile others are served.
  grpc::ClientContext route_context;
  v1::RouteRequest route;
  route.set_prompt("a question");
  v1::RouteResponse routed;
  EXPECT_TRUE(gateway.stub->Route(&route_context, route, &routed).ok());
  v1::GenerateRequest question = BaseRequest(1, 5);
  question.set_expert("auto");
  EXPECT_TRUE(Ask(gateway.stub.get(), question).status.ok());

  for (grpc::ClientContext& context : contexts) context.TryCancel();
  for (std::thread& client : clients) client.join();
  for (const grpc::Status& status : statuses) EXPECT_EQ(status.error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_TRUE(Eventually([&] { return admission.idle(); }));
  EXPECT_EQ(embedder->n_wanted(), 0);
  embedder->LetGo();
  EXPECT_LE(embedder->n_begun(), 8 * 32);
  // Whoever comes now finds an idle gateway.
  grpc::ClientContext context;
  v1::EmbedResponse response;
  EXPECT_TRUE(gateway.stub->Embed(&context, Texts(100), &response).ok());
  EXPECT_EQ(response.embeddings_size(), 100);
}

TEST_F(OverloadTest, ARouteCostsTheMessagesItMayEmbed) {
  FakeWorker worker({});
  GatewayParts parts = FakeParts();
  auto owned = std::make_unique<HoldingEmbedder>(/*all=*/true);
  HoldingEmbedder* const embedder = owned.get();
  parts.embedder = std::move(owned);
  GatewayOptions options = QuickOptions({worker.address()});
  options.admission.max_routing = 64;
  TestGateway gateway(std::move(options), std::move(parts));
  const Admission& admission = *gateway.server->core().admission;
  const auto cost_of = [&](const std::string& expert, int n_messages) {
    v1::RouteRequest request;
    request.set_expert(expert);
    for (int i = 0; i < n_messages; ++i) {
      for (const char* role : {"user", "assistant"}) {
        v1::ChatMessage* message = request.mutable_chat()->add_messages();
        message->set_role(role);
        message->set_content(absl::StrCat("message ", i));
      }
    }
    grpc::ClientContext context;
    std::thread client([&] {
      v1::RouteResponse response;
      gateway.stub->Route(&context, request, &response);
    });
    EXPECT_TRUE(Eventually([&] { return embedder->n_wanted() > 0; }));
    const uint32_t cost = admission.running(Kind::kRoute);
    context.TryCancel();
    client.join();
    EXPECT_TRUE(Eventually([&] { return admission.idle() && embedder->n_wanted() == 0; }));
    return cost;
  };
  EXPECT_EQ(cost_of("auto", 1), 1u);
  EXPECT_EQ(cost_of("auto", 5), 5u);
  EXPECT_EQ(cost_of("auto", 40), 16u);  // no more are read
}

TEST_F(OverloadTest, EmbedAndRouteAreRefusedAtTheSameDoor) {
  FakeWorker worker({});
  GatewayOptions options = QuickOptions({worker.address()});
  options.admission.max_embedding_waiting = 0;
  GatewayParts parts = FakeParts();
  auto owned = std::make_unique<HoldingEmbedder>();
  HoldingEmbedder* const embedder = owned.get();
  parts.embedder = std::move(owned);
  TestGateway gateway(std::move(options), std::move(parts));
  Admission* const admission = gateway.server->core().admission;
  grpc::ClientContext first, second, third, fourth;
  v1::EmbedResponse response, other;
  std::thread client([&] { EXPECT_TRUE(gateway.stub->Embed(&first, Texts(256), &response).ok()); });
  EXPECT_TRUE(Eventually([&] { return admission->running(Kind::kEmbed) == 256; }));
  const grpc::Status full = gateway.stub->Embed(&second, Texts(1), &other);
  EXPECT_EQ(full.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(full.error_message(), HasSubstr("256 texts to embed run and 0 wait, at most 0 may"));
  EXPECT_THAT(full.error_message(), HasSubstr("--max-embedding-waiting"));
  EXPECT_FALSE(full.error_details().empty());
  EXPECT_EQ(Refused(*admission, "embed", "queue_full"), 1u);
  embedder->LetGo();
  client.join();

  admission->Drain();
  EXPECT_EQ(gateway.stub->Embed(&third, Texts(1), &other).error_code(), grpc::StatusCode::UNAVAILABLE);
  v1::RouteRequest route;
  route.set_prompt("a question");
  v1::RouteResponse routed;
  EXPECT_EQ(gateway.stub->Route(&fourth, route, &routed).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(Refused(*admission, "route", "draining"), 1u);
}

TEST_F(OverloadTest, ANoisyTenantDoesNotShutAQuietOneOut) {
  FakeWorker::Options worker_options;
  worker_options.seats = 4;
  worker_options.max_waiting = 1000;
  worker_options.step = absl::Milliseconds(2);
  FakeWorker worker(worker_options);
  GatewayOptions options = QuickOptions({worker.address()});
  options.admission.max_running = 16;
  options.admission.max_waiting = 64;
  options.admission.max_unstarted = 2;  // this worker does not know tenants
  TestGateway gateway(options);
  ASSERT_TRUE(gateway.Ready(1));
  const auto quiet_stub = ConnectTo(gateway.server->port());
  constexpr int kQuestions = 24;
  std::vector<absl::Duration> alone, beside;
  const auto ask = [&](std::vector<absl::Duration>* times) {
    const MonotonicTime begin = MonotonicNow();
    const Answer answer = Ask(quiet_stub.get(), Of("quiet", 1, 20));
    times->push_back(MonotonicNow() - begin);
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
  };
  for (int i = 0; i < kQuestions; ++i) ask(&alone);

  std::atomic<bool> stop = false;
  std::list<AsyncAnswer> noise;
  std::thread noisy([&] {
    for (uint64_t i = 0; !stop; ++i) {
      noise.emplace_back(gateway.stub.get(), Of("noisy", i, 20));
      absl::SleepFor(absl::Microseconds(6667));
      if (noise.size() > 400) noise.pop_front();
    }
  });
  const Admission& admission = *gateway.server->core().admission;
  // The noisy one alone has everything.
  EXPECT_TRUE(Eventually([&] { return worker.submits() > 200; }, absl::Seconds(60)));
  for (int i = 0; i < kQuestions; ++i) ask(&beside);
  stop = true;
  noisy.join();
  noise.clear();
  EXPECT_TRUE(Eventually([&] { return admission.idle(); }));
  RecordProperty("median_alone_ms", static_cast<int>(absl::ToInt64Milliseconds(Median(alone))));
  RecordProperty("median_beside_ms", static_cast<int>(absl::ToInt64Milliseconds(Median(beside))));
}

TEST_F(OverloadTest, ReadersThatStandStillLendTheirPlaces) {
  FakeWorker::Options worker_options;
  worker_options.max_waiting = 1000;
  FakeWorker worker(worker_options);
  GatewayOptions options = QuickOptions({worker.address()});
  options.admission.max_running = 8;
  options.admission.max_waiting = 64;
  options.admission.max_paused = 32;
  TestGateway gateway(options);
  ASSERT_TRUE(gateway.Ready(1));
  const Admission& admission = *gateway.server->core().admission;
  std::list<AsyncAnswer> slow;
  for (uint64_t i = 0; i < 60; ++i) {
    v1::GenerateRequest request = Of("slow", i, 4000);
    request.mutable_sampling()->set_logprobs(20);  // a token fills much of HTTP/2's window
    slow.emplace_back(gateway.stub.get(), request, /*reads=*/false);
  }
  // Half of 32 of one connection; of the rest each was ended when it stood still.
  EXPECT_TRUE(
      Eventually([&] { return admission.paused() == 16 && admission.running() == 0; }, absl::Seconds(60)));
  EXPECT_EQ(admission.waiting(), 0u);
  EXPECT_EQ(Refused(admission, "answer", "too_many_paused"), 44u);
  const auto honest = ConnectTo(gateway.server->port());
  for (uint64_t i = 0; i < 28; ++i) {
    const Answer answer = Ask(honest.get(), Of("slow", i, 20));
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
  }
  slow.clear();
  EXPECT_TRUE(Eventually([&] { return admission.idle() && worker.live_sequences() == 0; }));
}

// They hold no place here, but one at their worker.
TEST_F(OverloadTest, ReadersThatStandStillDoNotFillTheWorkers) {
  FakeWorker::Options worker_options;
  worker_options.max_waiting = 40;  // and 16 that run: room for 28 that stand still
  FakeWorker worker(worker_options);
  GatewayOptions options = QuickOptions({worker.address()});
  options.admission.max_running = 8;
  TestGateway gateway(options);
  ASSERT_TRUE(gateway.Ready(1));
  const Admission& admission = *gateway.server->core().admission;
  std::list<AsyncAnswer> slow;
  const std::unique_ptr<v1::GenerationService::Stub> stubs[] = {ConnectTo(gateway.server->port()),
                                                                ConnectTo(gateway.server->port()),
                                                                ConnectTo(gateway.server->port())};
  for (uint64_t i = 0; i < 120; ++i) {
    v1::GenerateRequest request = Of("slow" + std::to_string(i % 3), i, 4000);
    request.mutable_sampling()->set_logprobs(20);
    slow.emplace_back(stubs[i % 3].get(), request, /*reads=*/false);
  }
  EXPECT_TRUE(
      Eventually([&] { return admission.paused() == 28 && admission.running() == 0; }, absl::Seconds(60)));
  for (uint64_t i = 0; i < 28; ++i) {
    const Answer answer = Ask(gateway.stub.get(), Of("honest", i, 20));
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
  }
  slow.clear();
  EXPECT_TRUE(Eventually([&] { return admission.idle() && worker.live_sequences() == 0; }));
}

TEST_F(OverloadTest, UploadsThatSendNothingMakeRoomForOthers) {
  FakeWorker worker({});
  GatewayOptions options = QuickOptions({worker.address()});
  options.admin_listen = "127.0.0.1:0";
  options.upload_idle_timeout = absl::Milliseconds(300);
  const auto folder = FreshFolder();
  TestGateway gateway(options, /*with_embedder=*/true, StoreWith(folder, {"alpha"}));
  const auto stub = v1::ExpertService::NewStub(grpc::CreateChannel(
      "127.0.0.1:" + std::to_string(gateway.server->admin_port()), grpc::InsecureChannelCredentials()));
  v1::PublishExpertRequest header;
  header.mutable_header()->set_name("beta");
  for (const char* name :
       {"adapter_config.json", "adapter_model.safetensors", "expert.yaml", "prototypes.safetensors"}) {
    auto* const file = header.mutable_header()->add_files();
    file->set_name(name);
    file->set_size_bytes(1);
  }
  std::list<grpc::ClientContext> contexts;
  v1::PublishExpertResponse response;
  const auto begin = [&] {
    contexts.emplace_back().set_deadline(net::GrpcDeadline(absl::Seconds(60)));
    auto upload = stub->Publish(&contexts.back(), &response);
    upload->Write(header);
    return upload;
  };
  // As many as may be under way, and one more after they were given up.
  std::vector<std::unique_ptr<grpc::ClientWriter<v1::PublishExpertRequest>>> idle;
  for (int i = 0; i < 8; ++i) idle.push_back(begin());
  for (const auto& upload : idle) {
    const grpc::Status status = upload->Finish();  // without an end of the client's own
    EXPECT_EQ(status.error_code(), grpc::StatusCode::CANCELLED) << status.error_message();
  }
  EXPECT_EQ(begin()->Finish().error_code(), grpc::StatusCode::CANCELLED);
  std::filesystem::remove_all(folder);
}

TEST_F(OverloadTest, UploadsBeyondTheirPlacesAreRefusedAtOnce) {
  FakeWorker worker({});
  GatewayOptions options = QuickOptions({worker.address()});
  options.admin_listen = "127.0.0.1:0";
  const auto folder = FreshFolder();
  TestGateway gateway(options, /*with_embedder=*/true, StoreWith(folder, {"alpha"}));
  const auto stub = v1::ExpertService::NewStub(grpc::CreateChannel(
      "127.0.0.1:" + std::to_string(gateway.server->admin_port()), grpc::InsecureChannelCredentials()));
  // Not even a header is sent.
  std::deque<grpc::ClientContext> contexts(100);
  std::deque<v1::PublishExpertResponse> responses(contexts.size());
  std::vector<std::unique_ptr<grpc::ClientWriter<v1::PublishExpertRequest>>> uploads;
  std::atomic<int> n_refused = 0;
  std::vector<std::thread> waiting;
  for (size_t i = 0; i < contexts.size(); ++i) {
    uploads.push_back(stub->Publish(&contexts[i], &responses[i]));
    waiting.emplace_back([&n_refused, upload = uploads.back().get()] {
      const grpc::Status status = upload->Finish();
      n_refused += status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED;
    });
  }
  EXPECT_TRUE(Eventually([&] { return n_refused >= 84; }));
  grpc::ClientContext context;
  v1::ListExpertsResponse listed;
  EXPECT_TRUE(stub->List(&context, {}, &listed).ok());
  for (grpc::ClientContext& one : contexts) one.TryCancel();
  for (std::thread& thread : waiting) thread.join();
  EXPECT_LT(n_refused, 100);
  std::filesystem::remove_all(folder);
}

TEST_F(OverloadTest, WorkIsDoneForThoseWhoStillWaitForIt) {
  constexpr uint32_t kTokens = 20;
  FakeWorker::Options worker_options;
  worker_options.seats = 2;
  worker_options.max_waiting = 1000;
  worker_options.step = absl::Milliseconds(5);
  FakeWorker worker(worker_options);  // 20 answers a second
  TestGateway gateway(QuickOptions({worker.address()}));
  ASSERT_TRUE(gateway.Ready(1));
  std::list<AsyncAnswer> answers;
  const MonotonicTime begin = MonotonicNow();
  for (uint64_t i = 0; MonotonicNow() < begin + absl::Seconds(6); ++i) {
    answers.emplace_back(gateway.stub.get(), Of("t", i, kTokens), /*reads=*/true, absl::Seconds(2));
    absl::SleepFor(begin + absl::Microseconds(5556) * static_cast<double>(i) - MonotonicNow());
  }
  uint64_t useful = 0, refused = 0, late = 0;
  for (AsyncAnswer& answer : answers) {
    const grpc::Status status = answer.Wait();
    if (status.ok()) {
      useful += answer.n_tokens();
    } else if (status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED) {
      ++refused;
      EXPECT_FALSE(status.error_details().empty()) << status.error_message();
    } else {
      ++late;
    }
  }
  const double share = static_cast<double>(useful) / static_cast<double>(worker.tokens_sent());
  RecordProperty("asked", static_cast<int>(answers.size()));
  RecordProperty("answered", static_cast<int>(useful / kTokens));
  RecordProperty("refused", static_cast<int>(refused));
  RecordProperty("late", static_cast<int>(late));
  RecordProperty("useful_percent", static_cast<int>(100 * share));
  // How much of the work was of use depends on the machine as well; that late ones are refused does not.
  EXPECT_GT(Refused(*gateway.server->core().admission, "answer", "late"), 0u);
}

}  // namespace
}  // namespace coterie::gateway::testing
