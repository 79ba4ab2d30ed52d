// Score, Embed, Route, Status, health, reflection, metrics, drain.
#include <arpa/inet.h>
#include <grpcpp/generic/generic_stub.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <future>
#include <string>
#include <thread>

#include "coterie/v1/cluster.grpc.pb.h"
#include "net/grpc_time.h"
#include "tests/gateway/gateway_test_base.h"

namespace coterie::gateway::testing {
namespace {

using ::testing::HasSubstr;

std::shared_ptr<grpc::Channel> ChannelTo(int port) {
  return grpc::CreateChannel("127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials());
}

// One unary call by its full name with raw bytes, for services whose protos are not ours.
grpc::Status CallRaw(int port, const std::string& method, const std::string& request, std::string* response) {
  grpc::GenericStub stub(ChannelTo(port));
  grpc::ClientContext context;
  context.set_deadline(net::GrpcDeadline(absl::Seconds(10)));
  const grpc::Slice slice(request);
  const grpc::ByteBuffer sent(&slice, 1);
  grpc::ByteBuffer received;
  std::promise<grpc::Status> done;
  stub.UnaryCall(&context, method, {}, &sent, &received,
                 [&](grpc::Status status) { done.set_value(status); });
  const grpc::Status status = done.get_future().get();
  grpc::Slice answer;
  if (status.ok() && received.DumpToSingleSlice(&answer).ok()) {
    response->assign(reinterpret_cast<const char*>(answer.begin()), answer.size());
  }
  return status;
}

// grpc.health.v1.HealthCheckResponse.status for `service`: 1 SERVING, 2 NOT_SERVING.
int HealthOf(int port, const std::string& service) {
  std::string request;
  if (!service.empty()) request = std::string("\x0a") + static_cast<char>(service.size()) + service;
  std::string response;
  const grpc::Status status = CallRaw(port, "/grpc.health.v1.Health/Check", request, &response);
  if (!status.ok()) return -static_cast<int>(status.error_code());
  return response.size() == 2 && response[0] == '\x08' ? response[1] : 0;
}

std::string HttpGet(int port, const std::string& path) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(static_cast<uint16_t>(port));
  EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  const std::string request = "GET " + path + " HTTP/1.0\r\n\r\n";
  EXPECT_EQ(send(fd, request.data(), request.size(), 0), static_cast<ssize_t>(request.size()));
  std::string page;
  char buffer[4096];
  for (ssize_t n; (n = recv(fd, buffer, sizeof(buffer), 0)) > 0;) page.append(buffer, static_cast<size_t>(n));
  close(fd);
  return page;
}

// The value of a series on a metrics page; -1 when it is not there.
double Metric(const std::string& page, const std::string& series) {
  const size_t at = page.find("\n" + series + " ");
  return at == std::string::npos ? -1 : std::stod(page.substr(at + series.size() + 2));
}

class ServicesTest : public ::testing::Test {
 protected:
  FakeWorker worker_{{}};
};

TEST_F(ServicesTest, ScoreGivesTheLogprobOfEachTokenOfTheCompletion) {
  TestGateway gateway(QuickOptions({worker_.address()}));
  ASSERT_TRUE(gateway.Ready(1));
  v1::ScoreRequest request;
  request.set_prompt("abc");
  request.set_completion("de");
  request.set_expert("base");
  grpc::ClientContext context;
  v1::ScoreResponse response;
  const grpc::Status status = gateway.stub->Score(&context, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  ASSERT_EQ(response.tokens_size(), 2);
  EXPECT_EQ(response.tokens(0).chosen().text(), "d");
  EXPECT_EQ(response.tokens(0).chosen().logprob(), -3.0f);
  EXPECT_EQ(response.tokens(1).chosen().text(), "e");
  EXPECT_EQ(response.total_logprob(), -7.0);
  EXPECT_EQ(response.usage().prompt_tokens(), 5u);
  EXPECT_EQ(response.route().worker(), "fake-0");
}

TEST_F(ServicesTest, StatusShowsWhatEndsAnswersAndAWorkerThatDisagrees) {
  FakeWorker::Options other;
  other.worker_id = "other";
  other.end_token_ids = {65, 256};
  FakeWorker disagrees(other);
  TestGateway gateway(QuickOptions({worker_.address(), disagrees.address()}));
  ASSERT_TRUE(gateway.Ready(2));
  grpc::ClientContext context;
  v1::StatusResponse status;
  const auto cluster = v1::ClusterService::NewStub(ChannelTo(gateway.server->port()));
  ASSERT_TRUE(cluster->Status(&context, {}, &status).ok());
  ASSERT_EQ(status.end_tokens_size(), 1);
  EXPECT_EQ(status.end_tokens(0).id(), 256u);
  EXPECT_EQ(status.end_tokens(0).text(), "<eos>");
  EXPECT_EQ(status.end_tokens(0).source(), "name");
  for (const v1::WorkerStatus& worker : status.workers()) {
    const bool agrees = worker.worker_id() == "fake-0";
    ASSERT_EQ(worker.end_tokens_size(), agrees ? 1 : 2);
    EXPECT_EQ(worker.end_tokens(agrees ? 0 : 1).text(), "<eos>");
  }
  ASSERT_EQ(status.findings_size(), 1);
  EXPECT_THAT(status.findings(0), HasSubstr(absl::StrCat("worker ", disagrees.address(),
                                                         " ends answers at 65 (A), 256 (<eos>), "
                                                         "this gateway's files say 256 (<eos>)")));
}

TEST_F(ServicesTest, OfALongQuestionBothEndsAreEmbeddedAndOfATextItsBeginning) {
  // Notes what it was asked to embed.
  class Noting final : public TextEmbedder {
   public:
    Noting(Mutex* mutex, std::vector<std::string>* texts) : mutex_(mutex), texts_(texts) {}
    void Embed(std::string_view text, Urgency urgency, CancelFlag cancelled, Done done) override {
      {
        MutexLock lock(mutex_);
        texts_->emplace_back(text);
      }
      done(FakeEmbedder::VectorOf(text));
    }
    size_t CountTokens(std::string_view text) const override { return text.size(); }
    size_t dim() const override { return FakeEmbedder::kDim; }
    const Digest& digest() const override { return digest_; }

   private:
    Mutex* const mutex_;
    std::vector<std::string>* const texts_;
    const Digest digest_ = Sha256("noting");
  };
  Mutex mutex;
  std::vector<std::string> texts;
  GatewayParts parts = FakeParts();
  parts.embedder = std::make_unique<Noting>(&mutex, &texts);
  GatewayOptions options = QuickOptions({worker_.address()});
  options.embed_max_bytes = 16;
  TestGateway gateway(options, std::move(parts));
  const std::string text = "abcdefg\u00e9 in the middle \u00e9tuvwxyz";  // é has two bytes
  v1::RouteRequest route;
  route.set_prompt(text);
  grpc::ClientContext first, second;
  v1::RouteResponse routed;
  ASSERT_TRUE(gateway.stub->Route(&first, route, &routed).ok());
  v1::EmbedRequest embed;
  embed.add_texts(text);
  v1::EmbedResponse embedded;
  ASSERT_TRUE(gateway.stub->Embed(&second, embed, &embedded).ok());
  const std::string ascii = "abcdefghijklmnopqrstuvwxyz";
  route.set_prompt(ascii);
  grpc::ClientContext third;
  ASSERT_TRUE(gateway.stub->Route(&third, route, &routed).ok());
  MutexLock lock(&mutex);
  // Of 16 bytes the beginning has eight, the line break one and the end seven.
  EXPECT_THAT(texts, ::testing::ElementsAre("abcdefg\ntuvwxyz", "abcdefg\u00e9 in the", "abcdefgh\ntuvwxyz"));
}

TEST_F(ServicesTest, ScoreWithoutInputBeginsAtTheSecondTokenAndWithItCoversTheInputWhenAsked) {
  TestGateway gateway(QuickOptions({worker_.address()}));
  ASSERT_TRUE(gateway.Ready(1));
  v1::ScoreRequest request;
  request.set_completion("xyz");
  request.set_expert("base");
  v1::ScoreResponse response;
  {
    grpc::ClientContext context;
    ASSERT_TRUE(gateway.stub->Score(&context, request, &response).ok());
    EXPECT_EQ(response.tokens_size(), 2);
  }
  request.set_prompt("abc");
  request.set_include_input(true);
  {
    grpc::ClientContext context;
    ASSERT_TRUE(gateway.stub->Score(&context, request, &response).ok());
    EXPECT_EQ(response.tokens_size(), 5);
  }
  request.clear_completion();
  grpc::ClientContext context;
  const grpc::Status status = gateway.stub->Score(&context, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "completion is empty: there is nothing to score");
}

TEST_F(ServicesTest, EmbedGivesUnitVectorsAndNamesTheModel) {
  TestGateway gateway(QuickOptions({worker_.address()}));
  v1::EmbedRequest request;
  request.add_texts("beta");
  request.add_texts("alpha");
  grpc::ClientContext context;
  v1::EmbedResponse response;
  ASSERT_TRUE(gateway.stub->Embed(&context, request, &response).ok());
  ASSERT_EQ(response.embeddings_size(), 2);
  EXPECT_EQ(response.embeddings(0).values(1), 1.0f);
  EXPECT_EQ(response.embeddings(1).values(0), 1.0f);
  EXPECT_EQ(response.model_digest(), Sha256("fake embedder").ToHex());

  for (int i = 0; i < 300; ++i) request.add_texts("x");
  grpc::ClientContext second;
  const grpc::Status status = gateway.stub->Embed(&second, request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(status.error_message(), "texts has 302 entries, at most 256 are allowed");
}

TEST_F(ServicesTest, RouteDecidesWithoutAWorker) {
  TestGateway gateway(QuickOptions({"127.0.0.1:1"}));  // nobody there
  v1::RouteRequest request;
  request.set_prompt("alpha");
  grpc::ClientContext context;
  v1::RouteResponse response;
  const grpc::Status status = gateway.stub->Route(&context, request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.decision().experts_size(), 0);  // no expert was published: the base
  EXPECT_FALSE(response.decision().reason().empty());
  EXPECT_EQ(response.decision().worker(), "");
}

TEST_F(ServicesTest, StatusSaysWhereTextsDependOnWhatRunsBesideThem) {
  FakeWorker::Options options;
  options.worker_id = "fast-prefill";
  options.batch_invariant = false;
  FakeWorker varies(options);
  TestGateway gateway(QuickOptions({worker_.address(), varies.address()}));
  ASSERT_TRUE(gateway.Ready(2));
  grpc::ClientContext context;
  v1::StatusResponse response;
  const auto stub = v1::ClusterService::NewStub(ChannelTo(gateway.server->port()));
  ASSERT_TRUE(stub->Status(&context, {}, &response).ok());
  ASSERT_EQ(response.workers_size(), 2);
  for (const v1::WorkerStatus& worker : response.workers()) {
    EXPECT_EQ(worker.batch_invariant(), worker.address() != varies.address()) << worker.address();
  }
}

TEST_F(ServicesTest, StatusNamesModelWorkersAndTheirHealth) {
  FakeWorker gone({});
  TestGateway gateway(QuickOptions({worker_.address(), gone.address()}));
  ASSERT_TRUE(gateway.Ready(2));
  gone.Kill();
  ASSERT_TRUE(Eventually([&] { return gateway.server->core().workers->ready() == 1; }));
  grpc::ClientContext context;
  v1::StatusResponse response;
  const auto stub = v1::ClusterService::NewStub(ChannelTo(gateway.server->port()));
  ASSERT_TRUE(stub->Status(&context, {}, &response).ok());
  EXPECT_EQ(response.base_model(), "fake");
  EXPECT_EQ(response.base_digest(), Sha256("base").ToHex());
  ASSERT_EQ(response.workers_size(), 2);
  for (const v1::WorkerStatus& worker : response.workers()) {
    if (worker.address() == worker_.address()) {
      EXPECT_EQ(worker.health(), v1::WORKER_HEALTH_READY);
    } else {
      EXPECT_NE(worker.health(), v1::WORKER_HEALTH_READY);
      EXPECT_THAT(worker.message(), HasSubstr(gone.address()));
    }
  }
}

TEST_F(ServicesTest, HealthAndReflectionAnswer) {
  TestGateway gateway(QuickOptions({worker_.address()}));
  EXPECT_EQ(HealthOf(gateway.server->port(), ""), 1);
  EXPECT_EQ(HealthOf(gateway.server->port(), "coterie.v1.GenerationService"), 1);
  EXPECT_EQ(HealthOf(gateway.server->port(), "no.such.Service"),
            -static_cast<int>(grpc::StatusCode::NOT_FOUND));
  // Reflection is a stream; that the method exists is enough here.
  std::string response;
  const grpc::Status status =
      CallRaw(gateway.server->port(), "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
              "\x3a\x00", &response);
  EXPECT_NE(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
}

TEST_F(ServicesTest, MetricsCountWhatHappened) {
  FakeWorker::Options options;
  options.worker_id = "chatty";
  options.bytes_between_workers = 0;
  GatewayOptions quick = QuickOptions({worker_.address()});
  quick.metrics_listen = "127.0.0.1:0";
  TestGateway gateway(quick);
  ASSERT_TRUE(gateway.Ready(1));
  ASSERT_TRUE(Ask(gateway.stub.get(), BaseRequest(1, 25)).status.ok());
  v1::GenerateRequest bad = BaseRequest(1, 5);
  bad.set_expert("nobody");
  Ask(gateway.stub.get(), bad);
  const std::string page = HttpGet(gateway.server->metrics_port(), "/metrics");
  EXPECT_EQ(Metric(page, "coterie_requests_total{code=\"OK\",rpc=\"Generate\"}"), 1);
  EXPECT_EQ(Metric(page, "coterie_requests_total{code=\"NOT_FOUND\",rpc=\"Generate\"}"), 1);
  EXPECT_EQ(Metric(page, "coterie_generated_tokens_total"), 25);
  EXPECT_EQ(Metric(page, "coterie_prompt_tokens_total"), 7);
  EXPECT_EQ(Metric(page, "coterie_time_to_first_token_seconds_count"), 1);
  EXPECT_EQ(Metric(page, "coterie_time_per_output_token_seconds_count"), 1);
  EXPECT_EQ(Metric(page, "coterie_request_seconds_count"), 2);
  EXPECT_EQ(Metric(page, "coterie_expert_requests_total{expert=\"base\"}"), 1);
  EXPECT_EQ(Metric(page, "coterie_expert_tokens_total{expert=\"base\"}"), 25);
  EXPECT_EQ(Metric(page, "coterie_expert_time_to_first_token_seconds_count{expert=\"base\"}"), 1);
  EXPECT_EQ(Metric(page, "coterie_requests_running"), 0);
  EXPECT_EQ(Metric(page, "coterie_workers{health=\"ready\"}"), 1);
  EXPECT_EQ(Metric(page, "coterie_bytes_between_workers_total"), 0);
}

TEST_F(ServicesTest, BytesBetweenWorkersAreSummedAndNeverFall) {
  FakeWorker::Options options;
  options.bytes_between_workers = 1000;
  auto a = std::make_unique<FakeWorker>(options);
  options.bytes_between_workers = 234;
  FakeWorker b(options);
  GatewayOptions quick = QuickOptions({a->address(), b.address()});
  quick.metrics_listen = "127.0.0.1:0";
  TestGateway gateway(quick);
  ASSERT_TRUE(gateway.Ready(2));
  const auto bytes = [&] {
    return Metric(HttpGet(gateway.server->metrics_port(), "/metrics"), "coterie_bytes_between_workers_total");
  };
  EXPECT_EQ(bytes(), 1234);
  const int port = a->port();
  a->Kill();
  options.port = port;
  options.bytes_between_workers = 66;
  ASSERT_TRUE(Eventually([&] { return gateway.server->core().workers->ready() == 1; }));
  EXPECT_EQ(bytes(), 1234);
  a = std::make_unique<FakeWorker>(options);
  ASSERT_TRUE(gateway.Ready(2));
  EXPECT_EQ(bytes(), 1300);
}

TEST_F(ServicesTest, DrainingFinishesWhatRunsAndRefusesTheRest) {
  TestGateway gateway(QuickOptions({worker_.address()}));
  ASSERT_TRUE(gateway.Ready(1));
  std::thread drain;
  bool clean = false;
  int health_while_draining = 0;
  Answer refused;
  const Answer answer = Ask(gateway.stub.get(), BaseRequest(5, 200), [&](const Answer& so_far) {
    if (drain.joinable() || so_far.token_ids.empty()) return;
    drain = std::thread([&] { clean = gateway.server->Drain(absl::Seconds(10)); });
    EXPECT_TRUE(Eventually([&] { return HealthOf(gateway.server->port(), "") != 1; }));
    health_while_draining = HealthOf(gateway.server->port(), "coterie.v1.GenerationService");
    refused = Ask(gateway.stub.get(), BaseRequest(6, 5));
  });
  drain.join();
  EXPECT_TRUE(clean);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.text, FakeText(5, 200));
  EXPECT_EQ(health_while_draining, 2);
  EXPECT_EQ(refused.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(refused.status.error_message(), "this gateway is draining; ask another one");
}

TEST_F(ServicesTest, AnAnswerThatOutlastsTheDrainIsCutOff) {
  TestGateway gateway(QuickOptions({worker_.address()}));
  ASSERT_TRUE(gateway.Ready(1));
  std::thread drain;
  bool clean = true;
  const Answer answer = Ask(gateway.stub.get(), BaseRequest(5, 4000), [&](const Answer& so_far) {
    if (drain.joinable() || so_far.token_ids.empty()) return;
    drain = std::thread([&] { clean = gateway.server->Drain(absl::Milliseconds(200)); });
  });
  drain.join();
  EXPECT_FALSE(clean);
  EXPECT_FALSE(answer.status.ok());
  EXPECT_TRUE(Eventually([&] { return worker_.live_sequences() == 0; }));
}

}  // namespace
}  // namespace coterie::gateway::testing
