// Floods of every kind against real processes. What has to hold is asserted; how long it takes on this
// machine is printed.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <list>
#include <thread>
#include <utility>

#include "common/clock.h"
#include "tests/cluster/cluster_fixture.h"
#include "tests/gateway/async_answer.h"
#include "tests/net/http2_frames.h"
#include "tests/net/raw_client.h"
#include "tests/real_models.h"

namespace coterie::cluster {
namespace {

using gateway::testing::AsyncAnswer;
using gateway::testing::ConnectTo;

// How long a flood lasts: COTERIE_FLOOD_SECONDS, else short enough for every day.
absl::Duration FloodTime() {
  const char* seconds = std::getenv("COTERIE_FLOOD_SECONDS");
  return absl::Seconds(seconds == nullptr ? 6 : std::max(1, std::atoi(seconds)));
}

absl::Duration Quantile(std::vector<absl::Duration> all, double q) {
  if (all.empty()) return absl::ZeroDuration();
  std::sort(all.begin(), all.end());
  return all[std::min(all.size() - 1, static_cast<size_t>(q * static_cast<double>(all.size())))];
}

void Say(const char* what, double value, const char* unit) {
  std::printf("  %s: %.3g %s\n", what, value, unit);
}
void Say(const char* what, absl::Duration value) { Say(what, absl::ToDoubleSeconds(value), "s"); }

v1::GenerateRequest Of(const std::string& tenant, uint64_t seed, uint32_t max_tokens) {
  v1::GenerateRequest request = Question("base", seed, max_tokens);
  request.mutable_context()->set_tenant(tenant);
  return request;
}

class OverloadTest : public ClusterTest {
 protected:
  // Until the first token of each of `n` questions, asked one after the other.
  static std::vector<absl::Duration> FirstTokens(v1::GenerationService::Stub* stub,
                                                 const v1::GenerateRequest& request, int n) {
    std::vector<absl::Duration> times;
    for (int i = 0; i < n; ++i) {
      const MonotonicTime begin = MonotonicNow();
      std::optional<absl::Duration> first;
      const Answer answer = gateway::testing::Ask(stub, request, [&](const Answer& so_far) {
        if (!first && !so_far.token_ids.empty()) first = MonotonicNow() - begin;
      });
      EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
      times.push_back(first.value_or(absl::InfiniteDuration()));
    }
    return times;
  }
};

TEST_F(OverloadTest, FloodOfEmbeds) {
  const auto worker = StartWorker("w0", {"--fake-step-time=1ms"});
  std::vector<std::string> more;
  const auto real = coterie::testing::RealModels() / "all-MiniLM-L6-v2";
  if (std::filesystem::exists(real / "model.safetensors")) more.push_back("--embedder=" + real.string());
  const auto gateway = StartGateway({worker->address()}, more);
  const v1::GenerateRequest question = Question("auto", 1, 2);
  const auto ask = [&](std::vector<absl::Duration>* times) {
    for (const absl::Duration time : FirstTokens(gateway->generation.get(), question, 8))
      times->push_back(time);
  };

  v1::EmbedRequest flood;
  for (int i = 0; i < 256; ++i) {
    std::string text;
    while (text.size() < 600) text += "word" + std::to_string(i * 37 % 101) + " of many ";
    flood.add_texts(text);
  }
  const auto texts = [&] { return MetricSum(gateway->Metrics(), "coterie_embedder_texts_total"); };
  const auto flooder = ConnectTo(gateway->port);
  std::vector<absl::Duration> alone, beside;
  bool flooded_to_the_end = true;
  // In turns, since what else the machine does changes.
  for (int round = 0; round < 3; ++round) {
    ask(&alone);
    std::deque<grpc::ClientContext> contexts(8);
    std::vector<std::thread> calls;
    const double before = texts();
    for (grpc::ClientContext& context : contexts) {
      calls.emplace_back([&] {
        v1::EmbedResponse response;
        flooder->Embed(&context, flood, &response);
      });
    }
    EXPECT_TRUE(Eventually([&] { return texts() > before; }));
    ask(&beside);
    flooded_to_the_end &= MetricSum(gateway->Metrics(), "coterie_embed_texts_running") > 0;
    for (grpc::ClientContext& context : contexts) context.TryCancel();
    for (std::thread& call : calls) call.join();
    EXPECT_TRUE(Eventually([&] {
      const std::string page = gateway->Metrics();
      return MetricSum(page, "coterie_embed_texts_running") +
                 MetricSum(page, "coterie_embed_texts_waiting") ==
             0;
    }));
  }
  // Nothing is embedded for nobody, once the pass that had begun is over.
  double last = texts();
  EXPECT_TRUE(Eventually([&] {
    absl::SleepFor(absl::Seconds(1));
    const double before_it = std::exchange(last, texts());
    return before_it == last;
  }));
  const absl::Duration cpu = gateway->process->CpuTime();
  absl::SleepFor(absl::Seconds(1));
  std::printf("flood of 8 x Embed of 256 texts%s\n", flooded_to_the_end ? "" : " (over before its end)");
  Say("first token alone, median", Quantile(alone, 0.5));
  Say("first token meanwhile, median", Quantile(beside, 0.5));
  Say("first token meanwhile, longest", Quantile(beside, 1));
  Say("CPU in a second, a second after the cancel", gateway->process->CpuTime() - cpu);
}

TEST_F(OverloadTest, NoisyTenant) {
  const auto worker = StartWorker("w0", {"--fake-step-time=8ms", "--max-seqs=8"});
  const auto gateway = StartGateway({worker->address()});
  const auto quiet = ConnectTo(gateway->port);
  const auto ask = [&](std::vector<absl::Duration>* times) {
    const MonotonicTime begin = MonotonicNow();
    const Answer answer = gateway::testing::Ask(quiet.get(), Of("quiet", 1, 30));
    times->push_back(MonotonicNow() - begin);
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
  };
  std::vector<absl::Duration> alone, beside;
  for (int i = 0; i < 24; ++i) ask(&alone);
  std::atomic<bool> stop = false;
  std::list<AsyncAnswer> noise;
  std::thread noisy([&] {
    const MonotonicTime begin = MonotonicNow();
    for (uint64_t i = 0; !stop; ++i) {  // 150 a second
      noise.emplace_back(gateway->generation.get(), Of("noisy", i, 30));
      absl::SleepFor(begin + absl::Microseconds(6667) * static_cast<double>(i) - MonotonicNow());
    }
  });
  EXPECT_TRUE(Eventually([&] { return MetricSum(gateway->Metrics(), "coterie_requests_waiting") > 200; }));
  for (int i = 0; i < 24; ++i) ask(&beside);
  stop = true;
  noisy.join();
  std::printf("a noisy tenant at 150/s, %zu requests in all\n", noise.size());
  noise.clear();
  Say("quiet one alone, median", Quantile(alone, 0.5));
  Say("quiet one meanwhile, median", Quantile(beside, 0.5));
  Say("quiet one meanwhile, longest", Quantile(beside, 1));
}

TEST_F(OverloadTest, NineTimesTheLoadWithDeadlines) {
  constexpr uint32_t kTokens = 30;
  const absl::Duration flood_time = FloodTime();
  const absl::Duration deadline = std::min(absl::Seconds(10), flood_time / 3);
  const auto worker = StartWorker("w0", {"--fake-step-time=8ms", "--max-seqs=4"});
  const auto gateway = StartGateway({worker->address()});
  const auto run = [&](double per_second) {
    std::list<AsyncAnswer> answers;
    const MonotonicTime begin = MonotonicNow();
    uint64_t n_before_half = 0;
    for (uint64_t i = 0; MonotonicNow() < begin + flood_time; ++i) {
      n_before_half += MonotonicNow() < begin + flood_time / 2;
      answers.emplace_back(gateway->generation.get(), Of("t", i, kTokens), /*reads=*/true, deadline);
      absl::SleepFor(begin + absl::Seconds(static_cast<double>(i) / per_second) - MonotonicNow());
    }
    uint64_t n = 0, n_ok = 0;
    for (AsyncAnswer& answer : answers) {
      const bool ok = answer.Wait().ok();
      n_ok += ok && n >= n_before_half;
      ++n;
    }
    return static_cast<double>(n_ok) / absl::ToDoubleSeconds(flood_time / 2);
  };
  const auto made = [&] { return MetricSum(gateway->Metrics(), "coterie_generated_tokens_total"); };
  constexpr double kCapacity = 4 / (kTokens * 0.008);
  const double peak = run(kCapacity);
  const double before = made();
  const double ok_before = MetricSum(gateway->Metrics(), "coterie_time_per_output_token_seconds_count");
  const double overloaded = run(9 * kCapacity);
  const double useful =
      kTokens * (MetricSum(gateway->Metrics(), "coterie_time_per_output_token_seconds_count") - ok_before);
  std::printf("9 x load with deadlines of %s\n", absl::FormatDuration(deadline).c_str());
  Say("goodput at the limit", peak, "per second");
  Say("goodput at nine times that", overloaded, "per second");
  Say("share of the tokens that were of use", useful / (made() - before), "");
  EXPECT_GT(MetricSum(gateway->Metrics(), "coterie_admission_refused_total"), 0);
}

TEST_F(OverloadTest, SlowReaders) {
  UseLongContext();
  const auto worker = StartWorker("w0", {"--fake-step-time=1ms", "--kv-tokens=131072", "--max-seqs=16"});
  const auto gateway = StartGateway({worker->address()});
  const auto slow_stub = ConnectTo(gateway->port), honest = ConnectTo(gateway->port);
  std::list<AsyncAnswer> slow;
  for (uint64_t i = 0; i < 1290; ++i) {
    v1::GenerateRequest request = Of("slow" + std::to_string(i % 7), i, 5000);
    request.mutable_sampling()->set_logprobs(20);
    slow.emplace_back(slow_stub.get(), request, /*reads=*/false, absl::Minutes(5));
  }
  std::vector<absl::Duration> times;
  for (uint64_t i = 0; i < 28; ++i) {
    const MonotonicTime begin = MonotonicNow();
    const Answer answer = gateway::testing::Ask(honest.get(), Of("honest", i, 20));
    times.push_back(MonotonicNow() - begin);
    EXPECT_TRUE(answer.status.ok()) << answer.status.error_message();
  }
  const std::string page = gateway->Metrics();
  std::printf("1,290 readers on one connection that do not read\n");
  Say("honest request, median", Quantile(times, 0.5));
  Say("honest request, longest", Quantile(times, 1));
  Say("paused", MetricSum(page, "coterie_requests_paused"), "");
  slow.clear();
  EXPECT_TRUE(Eventually([&] {
    const std::string now = gateway->Metrics();
    return MetricSum(now, "coterie_requests_running") + MetricSum(now, "coterie_requests_waiting") +
               MetricSum(now, "coterie_requests_paused") ==
           0;
  }));
}

TEST_F(OverloadTest, TwentyThousandResets) {
  constexpr size_t kStreams = 20;
  const auto worker = StartWorker("w0", {"--fake-step-time=20ms", "--max-seqs=32"});
  const auto gateway = StartGateway({worker->address()});
  const std::vector<v1::GenerateRequest> questions = Questions("base", kStreams, 200);
  const size_t before = gateway->process->ResidentBytes();
  std::list<AsyncAnswer> answers;
  for (const v1::GenerateRequest& question : questions) {
    answers.emplace_back(gateway->generation.get(), question);
  }
  absl::SleepFor(absl::Milliseconds(500));
  v1::GenerateRequest request = Question("base", 1, 100);
  const std::string message = net::testing::GrpcMessage(request.SerializeAsString());
  net::testing::RawClient flood(gateway->port);
  ASSERT_TRUE(flood.Send(std::string(net::testing::kPreface).append(net::testing::kEmptySettings)));
  int n_sent = 0;
  for (uint32_t stream = 1; n_sent < 20'000; stream += 20) {
    std::string bytes;
    for (uint32_t i = 0; i < 20; i += 2) {
      bytes += net::testing::OpenAndReset(stream + i, "/coterie.v1.GenerationService/Generate", message);
    }
    if (!flood.Send(bytes)) break;
    n_sent += 10;
  }
  size_t most = 0;
  absl::Duration gap;
  for (AsyncAnswer& answer : answers) {
    most = std::max(most, gateway->process->ResidentBytes());
    const grpc::Status status = answer.Wait();
    EXPECT_TRUE(status.ok()) << status.error_message();
    EXPECT_EQ(answer.n_tokens(), 200u);
    gap = std::max(gap, answer.longest_gap());
  }
  const std::string page = gateway->Metrics();
  EXPECT_EQ(MetricSum(page, "coterie_failovers_total"), 0);
  EXPECT_TRUE(Eventually([&] { return MetricSum(gateway->Metrics(), "coterie_requests_running") == 0; }));
  absl::SleepFor(absl::Seconds(3));
  std::printf("a connection that resets as it opens\n");
  Say("resets sent before it was cut off", n_sent, "");
  Say("longest gap in 20 answers", gap);
  Say("memory before", static_cast<double>(before) / 1e6, "MB");
  Say("memory at the most", static_cast<double>(most) / 1e6, "MB");
  Say("memory afterwards", static_cast<double>(gateway->process->ResidentBytes()) / 1e6, "MB");
}

}  // namespace
}  // namespace coterie::cluster
