// Adapters are asked for as soon as it is known where they will be needed.
#include <array>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "tests/gateway/experts.h"
#include "tests/gateway/gateway_test_base.h"

namespace coterie::gateway::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

v1::GenerateRequest Question(const std::string& expert, uint32_t max_tokens = 5) {
  v1::GenerateRequest request = BaseRequest(1, max_tokens);
  request.set_prompt("a question");
  request.set_expert(expert);
  return request;
}

class PrefetchTest : public ::testing::Test {
 protected:
  PrefetchTest()
      : store_(StoreWith(folder_, {"algebra", "botany"})), algebra_(AdapterOf(*store_, "algebra")) {}
  ~PrefetchTest() override { std::filesystem::remove_all(folder_); }

  const std::filesystem::path folder_ = FreshFolder();
  std::unique_ptr<ExpertStore> store_;
  const Digest algebra_;
};

// Keeps the only place busy until it is destroyed.
class BusyPlace {
 public:
  BusyPlace(TestGateway* gateway, FakeWorker* worker)
      : client_([this, gateway] { Ask(gateway->stub.get(), BaseRequest(9, 4000), nullptr, &context_); }) {
    EXPECT_TRUE(Eventually([&] { return worker->submits() == 1; }));
  }
  ~BusyPlace() { End(); }
  void End() {
    context_.TryCancel();
    if (client_.joinable()) client_.join();
  }

 private:
  grpc::ClientContext context_;
  std::thread client_;
};

TEST_F(PrefetchTest, TheAdapterOfARequestThatWaitsForAdmissionIsAskedForOnce) {
  FakeWorker worker({});
  GatewayOptions options = QuickOptions({worker.address()});
  options.admission.max_running = 1;
  TestGateway gateway(options, true, std::move(store_));
  ASSERT_TRUE(gateway.Ready(1));
  BusyPlace busy(&gateway, &worker);
  std::array<Answer, 3> answers;
  std::vector<std::thread> clients;
  for (Answer& answer : answers) {
    clients.emplace_back([&] { answer = Ask(gateway.stub.get(), Question("algebra")); });
  }
  EXPECT_TRUE(Eventually([&] { return gateway.server->core().admission->waiting() == answers.size(); }));
  EXPECT_TRUE(Eventually([&] { return !worker.prefetches().empty(); }));
  EXPECT_EQ(worker.submits(), 1u);  // the adapter was asked for before any request that uses it
  busy.End();
  for (std::thread& client : clients) client.join();
  for (const Answer& answer : answers) EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_THAT(worker.prefetches(), ElementsAre(algebra_));
  EXPECT_EQ(gateway.server->core().workers->prefetches(), 1u);
}

TEST_F(PrefetchTest, NothingIsAskedForThatTheWorkerHoldsOrNobodyKnows) {
  FakeWorker::Options holder;
  holder.resident = {algebra_};
  FakeWorker worker(holder);
  GatewayOptions options = QuickOptions({worker.address()});
  options.admission.max_running = 1;
  TestGateway gateway(options, true, std::move(store_));
  ASSERT_TRUE(gateway.Ready(1));
  BusyPlace busy(&gateway, &worker);
  std::vector<Answer> answers(4);
  std::vector<std::thread> clients;
  const std::array<std::string, 4> experts = {"algebra", "nobody", "base", "algebra"};
  for (size_t i = 0; i < experts.size(); ++i) {
    clients.emplace_back([&, i] {
      v1::GenerateRequest request = Question(experts[i]);
      if (i == 3) request.mutable_routing()->add_allowed_experts("botany");  // algebra is not permitted
      answers[i] = Ask(gateway.stub.get(), request);
    });
  }
  EXPECT_TRUE(Eventually([&] { return gateway.server->core().admission->waiting() == experts.size(); }));
  busy.End();
  for (std::thread& client : clients) client.join();
  EXPECT_TRUE(answers[0].status.ok()) << answers[0].status.error_message();
  EXPECT_EQ(answers[1].status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_TRUE(answers[2].status.ok());
  EXPECT_EQ(answers[3].status.error_code(), grpc::StatusCode::PERMISSION_DENIED);
  EXPECT_THAT(worker.prefetches(), IsEmpty());
}

TEST_F(PrefetchTest, TheRoutedAdapterIsAskedForWhileThePromptIsStillTokenised) {
  FakeWorker worker({});
  GatewayParts parts = FakeParts(true, std::move(store_));
  // Tokenising takes as long as the adapter is not asked for.
  std::atomic<bool> asked_before = false;
  parts.text = std::make_unique<FakeTextModel>(
      4096, [&] { asked_before = Eventually([&] { return !worker.prefetches().empty(); }); });
  TestGateway gateway(QuickOptions({worker.address()}), std::move(parts));
  ASSERT_TRUE(gateway.Ready(1));
  const Answer answer = Ask(gateway.stub.get(), Question("auto"));
  EXPECT_TRUE(asked_before);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_THAT(worker.prefetches(), ElementsAre(algebra_));
  EXPECT_EQ(answer.text, FakeText(1, 5, algebra_.ToBytes()));
  // Where the request goes counts on what is on its way.
  EXPECT_THAT(answer.route.placement_reason(), ::testing::HasSubstr("adapter on its way"));
}

// Time enough to ask another worker before the answer moves there, on a busy machine too.
GatewayOptions SlowToGiveUp(const std::vector<std::string>& workers) {
  GatewayOptions options = QuickOptions(workers);
  options.link.silence_timeout = absl::Seconds(3);  // half of it until the other is asked
  options.link.reattach_grace = absl::Milliseconds(1500);
  return options;
}

// Two workers; once an answer of algebra is under way, its worker is broken.
template <typename Break>
Answer AskAndBreak(TestGateway* gateway, std::array<FakeWorker*, 2> workers, Break do_break, size_t* other) {
  bool broken = false;
  return Ask(gateway->stub.get(), Question("algebra", 300), [&](const Answer& so_far) {
    if (broken || so_far.token_ids.size() < 40) return;
    broken = true;
    const size_t own = so_far.route.worker() == "w0" ? 0 : 1;
    *other = 1 - own;
    do_break(workers[own]);
  });
}

TEST_F(PrefetchTest, WhenAWorkerFallsSilentTheNextOneIsAskedBeforeTheAnswerMoves) {
  FakeWorker w0({.worker_id = "w0"}), w1({.worker_id = "w1"});
  const std::array<FakeWorker*, 2> workers = {&w0, &w1};
  TestGateway gateway(SlowToGiveUp({w0.address(), w1.address()}), true, std::move(store_));
  ASSERT_TRUE(gateway.Ready(2));
  size_t other = 0;
  const Answer answer = AskAndBreak(
      &gateway, workers, [](FakeWorker* worker) { worker->Freeze(); }, &other);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.text, FakeText(1, 300, algebra_.ToBytes()));
  EXPECT_EQ(answer.finish.worker(), other == 0 ? "w0" : "w1");
  // Once a request for the adapter was sent no hint follows it, so this one came before.
  EXPECT_THAT(workers[other]->prefetches(), ElementsAre(algebra_));
}

TEST_F(PrefetchTest, WhenAConnectionBreaksTheNextWorkerIsAskedBeforeTheAnswerMoves) {
  FakeWorker w0({.worker_id = "w0"}), w1({.worker_id = "w1"});
  const std::array<FakeWorker*, 2> workers = {&w0, &w1};
  TestGateway gateway(SlowToGiveUp({w0.address(), w1.address()}), true, std::move(store_));
  ASSERT_TRUE(gateway.Ready(2));
  size_t other = 0;
  const Answer answer = AskAndBreak(
      &gateway, workers, [](FakeWorker* worker) { worker->Kill(); }, &other);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.text, FakeText(1, 300, algebra_.ToBytes()));
  EXPECT_THAT(workers[other]->prefetches(), ElementsAre(algebra_));
}

}  // namespace
}  // namespace coterie::gateway::testing
