// Clients that ask and do not read.
#include "common/clock.h"
#include "tests/cluster/cluster_fixture.h"

namespace coterie::cluster {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr size_t kGrowth = size_t{512} << 20;  // AddressSanitizer keeps 256 MiB of what was freed
#else
constexpr size_t kGrowth = size_t{48} << 20;
#endif
constexpr size_t kReaders = 16;
constexpr uint32_t kEndless = 60'000;  // tokens: more than the test lets anybody read

// With the log-probabilities of 20 others a token is about a kilobyte on the wire: a reader that stands still
// is felt after the 64 KiB of its HTTP/2 window.
v1::GenerateRequest WideQuestion(uint64_t seed, uint32_t max_tokens) {
  v1::GenerateRequest request = Question("base", seed, max_tokens);
  request.mutable_sampling()->set_logprobs(20);
  return request;
}

class SlowReaderTest : public ClusterTest {};

TEST_F(SlowReaderTest, WhatNobodyReadsPilesUpNowhereAndOthersGoOn) {
  UseLongContext();
  const auto worker = StartWorker(
      "w0", {"--fake-step-time=1ms", "--kv-tokens=131072", "--max-seqs=32", "--max-batch-tokens=256"});
  const auto gateway = StartGateway({worker->address()});
  // Until its windows are full.
  const v1::GenerateRequest late_request = WideQuestion(7, 600);
  const std::vector<std::string> expected = AskAll(*gateway, {late_request});
  const std::vector<v1::GenerateRequest> others = Questions("base", 4, 60);
  const std::vector<std::string> others_expected = AskAll(*gateway, others);
  const size_t worker_before = worker->process->ResidentBytes();
  const size_t gateway_before = gateway->process->ResidentBytes();
  const auto generated = [&] {
    return MetricSum(worker->Metrics(), "coterie_worker_generated_tokens_total");
  };
  const double generated_before = generated();

  std::deque<grpc::ClientContext> contexts(kReaders);
  std::vector<std::unique_ptr<grpc::ClientReader<v1::GenerateResponse>>> readers;
  for (size_t i = 0; i < kReaders; ++i) {
    readers.push_back(gateway->generation->Generate(&contexts[i], WideQuestion(i, kEndless)));
  }
  grpc::ClientContext late_context;
  const auto late = gateway->generation->Generate(&late_context, late_request);

  // They all come to a stand, far from their ends: the worker makes no more tokens (its /metrics
  // lag by half a second).
  double last = -1;
  MonotonicTime since = MonotonicNow();
  EXPECT_TRUE(Eventually([&] {
    const double now = generated();
    if (now != last) since = MonotonicNow();
    last = now;
    return now > generated_before + 10 * kReaders && MonotonicNow() - since > absl::Milliseconds(1500);
  }));
  EXPECT_LT(last - generated_before, 2000.0 * (kReaders + 1));
  // Nor do others wait for them.
  EXPECT_EQ(AskAll(*gateway, others), others_expected);
  // All their 60,000 tokens would be a gigabyte.
  EXPECT_LT(worker->process->ResidentBytes(), worker_before + kGrowth);
  EXPECT_LT(gateway->process->ResidentBytes(), gateway_before + kGrowth);
  RecordProperty("tokens_piled_up", static_cast<int>(last - generated_before));
  RecordProperty("worker_growth_kib",
                 static_cast<int>((static_cast<int64_t>(worker->process->ResidentBytes()) -
                                   static_cast<int64_t>(worker_before)) /
                                  1024));
  RecordProperty("gateway_growth_kib",
                 static_cast<int>((static_cast<int64_t>(gateway->process->ResidentBytes()) -
                                   static_cast<int64_t>(gateway_before)) /
                                  1024));

  // One of them reads at last: nothing is missing.
  std::string text;
  v1::GenerateResponse response;
  while (late->Read(&response)) text += response.delta().text();
  const grpc::Status status = late->Finish();
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(text, expected[0]);

  // The rest give up, and their seats are free again.
  for (size_t i = 0; i < kReaders; ++i) {
    contexts[i].TryCancel();
    readers[i]->Finish();
  }
  EXPECT_TRUE(Eventually([&] {
    const std::string page = worker->Metrics();
    return MetricSum(page, "coterie_worker_sequences_running") == 0 &&
           MetricSum(page, "coterie_worker_sequences_waiting") == 0 &&
           MetricSum(page, "coterie_worker_sequences_paused") == 0;
  }));
}

}  // namespace
}  // namespace coterie::cluster
