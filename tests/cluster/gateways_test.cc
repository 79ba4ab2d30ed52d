// Several gateways over the same workers.
#include "tests/cluster/cluster_fixture.h"

namespace coterie::cluster {
namespace {

class GatewaysTest : public ClusterTest {};

TEST_F(GatewaysTest, TwoShareTheWorkersThroughALossAndNoByteGoesBetweenWorkers) {
  std::vector<std::unique_ptr<WorkerProcess>> workers;
  std::vector<std::string> addresses;
  for (const char* id : {"w0", "w1", "w2"}) {
    workers.push_back(StartWorker(id));
    addresses.push_back(workers.back()->address());
  }
  const auto first = StartGateway(addresses);
  auto second = StartGateway(addresses);
  v1::PublishExpertResponse published;
  ASSERT_TRUE(Publish(*first, {.name = "one", .adapter = "llama-qv"}, &published).ok());
  ASSERT_TRUE(Publish(*second, {.name = "two", .adapter = "llama-all-linear"}, &published).ok());
  EXPECT_TRUE(Eventually([&] {
    return Generation(*first) == published.catalogue_generation() &&
           Generation(*second) == published.catalogue_generation();
  }));

  std::vector<v1::GenerateRequest> requests = Questions("one", 12);
  for (size_t i = 0; i < requests.size(); ++i) {
    if (i % 3 == 1) requests[i].set_expert("two");
    if (i % 3 == 2) requests[i].set_expert("base");
  }
  const std::vector<std::string> expected = AskAll(*first, requests);
  EXPECT_EQ(AskAll(*second, requests), expected);

  Asking asking({first->generation.get(), second->generation.get()}, requests);
  ASSERT_TRUE(asking.WaitForTokens(20));
  // The busiest of one gateway: loss of an idle one would show nothing.
  WorkerProcess* lost = nullptr;
  uint32_t most = 0;
  EXPECT_TRUE(Eventually([&] {
    const v1::StatusResponse status = first->Status();
    for (int i = 0; i < status.workers_size(); ++i) {
      if (status.workers(i).running() <= most) continue;
      most = status.workers(i).running();
      for (const auto& worker : workers) {
        if (worker->id == status.workers(i).worker_id()) lost = worker.get();
      }
    }
    return lost != nullptr;
  }));
  ASSERT_NE(lost, nullptr);
  lost->process->Kill();
  EXPECT_EQ(Texts(asking.Join()), expected);

  // A gateway that dies takes no answers of the other with it.
  Asking of_first({first->generation.get()}, requests);
  Asking of_second({second->generation.get()}, requests);
  ASSERT_TRUE(of_first.WaitForTokens(20));
  second->process->Kill();
  EXPECT_EQ(Texts(of_first.Join()), expected);
  of_second.Join();

  EXPECT_EQ(MetricSum(first->Metrics(), "coterie_bytes_between_workers_total"), 0);
  for (const auto& worker : workers) {
    if (worker.get() == lost) continue;
    EXPECT_EQ(MetricSum(worker->Metrics(), "coterie_worker_bytes_between_workers_total"), 0);
    EXPECT_GT(MetricSum(worker->Metrics(), "coterie_worker_generated_tokens_total"), 0);
  }
}

}  // namespace
}  // namespace coterie::cluster
