// Which worker gets a request, and what becomes of one that no worker takes.
#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include "absl/synchronization/notification.h"
#include "tests/gateway/experts.h"
#include "tests/gateway/gateway_test_base.h"

namespace coterie::gateway::testing {
namespace {

using ::testing::HasSubstr;

FakeWorker::Options WithRoom(const std::string& id, uint32_t n_tokens) {
  FakeWorker::Options options;
  options.worker_id = id;
  options.max_sequence_tokens = n_tokens;
  options.kv_blocks = (n_tokens + 15) / 16;
  return options;
}

// Nothing here may wait for a worker: if it did, the test would never end.
GatewayOptions Patient(const std::vector<std::string>& workers) {
  GatewayOptions options = QuickOptions(workers);
  options.session.worker_wait = absl::Hours(1);
  return options;
}

TEST(PlacingTest, AnAnswerLongerThanTheWorkersRoomEndsThereByItsLength) {
  FakeWorker worker(WithRoom("w0", 100));
  TestGateway gateway(Patient({worker.address()}));
  ASSERT_TRUE(gateway.Ready(1));
  const Answer answer = Ask(gateway.stub.get(), BaseRequest(1, 3000));
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_EQ(answer.finish.reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(answer.text, FakeText(1, 93));  // the prompt has 7
}

TEST(PlacingTest, InAMixedFleetALongAnswerGoesToTheWorkerThatHoldsIt) {
  FakeWorker small(WithRoom("small", 100)), large(WithRoom("large", 2000)), tiny(WithRoom("tiny", 50));
  TestGateway gateway(Patient({small.address(), large.address(), tiny.address()}));
  ASSERT_TRUE(gateway.Ready(3));
  for (uint64_t seed = 0; seed < 6; ++seed) {
    const Answer answer = Ask(gateway.stub.get(), BaseRequest(seed, 300));
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_EQ(answer.finish.worker(), "large");
    EXPECT_EQ(answer.text, FakeText(seed, 300));
    EXPECT_NE(Ask(gateway.stub.get(), BaseRequest(seed, 60)).finish.worker(), "tiny");
  }
  large.Kill();
  ASSERT_TRUE(Eventually([&] { return gateway.server->core().workers->ready() == 2; }));
  const Answer answer = Ask(gateway.stub.get(), BaseRequest(1, 300));
  EXPECT_EQ(answer.finish.worker(), "small");
  EXPECT_EQ(answer.finish.reason(), v1::FINISH_REASON_LENGTH);
  EXPECT_EQ(answer.text, FakeText(1, 93));
}

TEST(PlacingTest, APromptThatNoWorkerHoldsIsRefusedAtOnceWithTheLimit) {
  FakeWorker small(WithRoom("small", 20)), smaller(WithRoom("smaller", 10));
  TestGateway gateway(Patient({small.address(), smaller.address()}));
  ASSERT_TRUE(gateway.Ready(2));
  v1::GenerateRequest request = BaseRequest(1, 5);
  request.set_prompt(std::string(20, 'a'));
  const Answer answer = Ask(gateway.stub.get(), request);
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(answer.status.error_message(),
            "the prompt has 20 tokens and no worker has room for it: at most 20 tokens of prompt and answer "
            "together; shorten the prompt to 19 tokens or fewer, or start a worker with more (--kv-tokens, "
            "--max-context)");
  EXPECT_EQ(small.submits() + smaller.submits(), 0u);
  request.set_prompt(std::string(19, 'a'));
  const Answer fits = Ask(gateway.stub.get(), request);
  EXPECT_TRUE(fits.status.ok()) << fits.status.error_message();
  EXPECT_EQ(fits.text.size(), 1u);

  v1::ScoreRequest score;
  score.set_expert("base");
  score.set_completion(std::string(30, 'a'));
  grpc::ClientContext context;
  v1::ScoreResponse response;
  EXPECT_EQ(gateway.stub->Score(&context, score, &response).error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

FakeWorker::Options Full(const std::string& id) {
  FakeWorker::Options options;
  options.worker_id = id;
  options.max_waiting = 0;
  return options;
}

TEST(PlacingTest, AFullQueueIsNoFailOverAndTheRouteNamesWhoAnswers) {
  FakeWorker full(Full("full")), free_one({.worker_id = "free"});
  TestGateway gateway(Patient({full.address(), free_one.address()}));
  ASSERT_TRUE(gateway.Ready(2));
  for (uint64_t seed = 0; full.submits() == 0 || seed < 8; ++seed) {
    v1::GenerateRequest request = BaseRequest(seed, 10);
    request.mutable_context()->set_trace_id("trace " + std::to_string(seed));
    const Answer answer = Ask(gateway.stub.get(), request);
    ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_EQ(answer.route.worker(), "free");
    EXPECT_EQ(answer.finish.worker(), "free");
    EXPECT_TRUE(answer.notices.empty());
  }
  const GatewayMetrics* metrics = gateway.server->core().metrics;
  EXPECT_EQ(metrics->failovers_same_numerics.Value() + metrics->failovers_other_numerics.Value(), 0);
}

TEST(PlacingTest, AFullClusterIsWalkedOnlySoFar) {
  std::vector<std::unique_ptr<FakeWorker>> workers;
  std::vector<std::string> addresses;
  for (int i = 0; i < 8; ++i) {
    workers.push_back(std::make_unique<FakeWorker>(Full("w" + std::to_string(i))));
    addresses.push_back(workers.back()->address());
  }
  GatewayOptions options = Patient(addresses);
  options.session.queue_wait = absl::ZeroDuration();
  TestGateway gateway(options);
  ASSERT_TRUE(gateway.Ready(8));
  const Answer answer = Ask(gateway.stub.get(), BaseRequest(1, 10));
  EXPECT_EQ(answer.status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(answer.status.error_message(), HasSubstr("the worker's queue is full"));
  EXPECT_FALSE(answer.status.error_details().empty());  // when to try again
  uint64_t n_submits = 0;
  for (const auto& worker : workers) n_submits += worker->submits();
  EXPECT_EQ(n_submits, 3u);
}

// A gateway knows of its own answers only: another one's may fill a worker.
TEST(PlacingTest, AQuestionWaitsAWhileForAPlaceInAFullQueue) {
  FakeWorker::Options one_place;
  one_place.max_waiting = 1;
  FakeWorker worker(one_place);
  TestGateway first(QuickOptions({worker.address()}));
  GatewayOptions patient = QuickOptions({worker.address()});
  patient.session.queue_wait = patient.session.worker_wait = absl::Hours(1);
  TestGateway second(patient);
  ASSERT_TRUE(first.Ready(1));
  ASSERT_TRUE(second.Ready(1));
  absl::Notification began, refused;
  std::thread holder([&] {
    const Answer answer = Ask(first.stub.get(), BaseRequest(1, 2000), [&](const Answer& so_far) {
      if (so_far.token_ids.empty() || began.HasBeenNotified()) return;
      began.Notify();
      refused.WaitForNotification();  // unread, it holds its place
    });
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
  });
  began.WaitForNotification();
  std::thread asker([&] {
    const Answer answer = Ask(second.stub.get(), BaseRequest(2, 10));
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
    EXPECT_EQ(answer.text, FakeText(2, 10));
  });
  EXPECT_TRUE(Eventually([&] { return worker.submits() >= 2; }));
  refused.Notify();
  holder.join();
  asker.join();
}

TEST(PlacingTest, AnAnswerThatLostItsWorkerWaitsForAPlaceElsewhere) {
  FakeWorker::Options one_place;
  one_place.worker_id = "narrow";
  one_place.max_waiting = 1;
  one_place.reattach_grace = absl::Milliseconds(1);
  FakeWorker narrow(one_place);
  auto wide = std::make_unique<FakeWorker>(FakeWorker::Options{.worker_id = "wide"});
  GatewayOptions options = QuickOptions({narrow.address(), wide->address()});
  options.session.worker_wait = absl::Minutes(5);
  TestGateway gateway(options);
  ASSERT_TRUE(gateway.Ready(2));
  // Long answers until each worker has one.
  struct Client {
    grpc::ClientContext context;
    Answer answer;
    std::thread thread;
    std::atomic<bool> narrow = false, begun = false;
  };
  std::deque<Client> clients;
  const auto on = [&](bool is_narrow) {
    return std::count_if(clients.begin(), clients.end(),
                         [&](const Client& client) { return client.begun && client.narrow == is_narrow; });
  };
  while (on(true) == 0 || on(false) == 0) {
    const uint64_t seed = clients.size();
    Client& client = clients.emplace_back();
    client.thread = std::thread([&client, &gateway, seed] {
      client.answer = Ask(
          gateway.stub.get(), BaseRequest(seed, 2000),
          [&client](const Answer& so_far) {
            if (so_far.token_ids.empty()) return;
            client.narrow = so_far.route.worker() == "narrow";
            client.begun = true;
          },
          &client.context);
    });
    ASSERT_TRUE(Eventually([&] { return client.begun.load(); }));
  }
  const uint64_t refusals_before = narrow.submits();
  wide->Kill();
  // They ask the other one, which is full, and wait.
  EXPECT_TRUE(Eventually([&] { return narrow.submits() > refusals_before; }));
  // Once there is a place they go on, one after the other.
  for (Client& client : clients) {
    if (client.narrow) client.context.TryCancel();
  }
  for (size_t i = 0; i < clients.size(); ++i) {
    clients[i].thread.join();
    if (clients[i].narrow) continue;
    EXPECT_TRUE(clients[i].answer.status.ok()) << clients[i].answer.status.error_message();
    EXPECT_EQ(clients[i].answer.text, FakeText(i, 2000));
  }
}

}  // namespace
}  // namespace coterie::gateway::testing
