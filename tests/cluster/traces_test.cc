// One trace through a client, a gateway and its workers: real processes, heard by an OTLP receiver.
#include <map>

#include "absl/strings/escaping.h"
#include "tests/cluster/cluster_fixture.h"
#include "tests/net/trace/otlp_receiver.h"

namespace coterie::cluster {
namespace {

using gateway::testing::Answer;
using net::testing::OtlpReceiver;
using Received = OtlpReceiver::Received;

constexpr char kTrace[] = "4bf92f3577b34da6a3ce929d0e0e4736";
constexpr char kCaller[] = "00f067aa0ba902b7";

class TracesTest : public ClusterTest {
 protected:
  std::vector<std::string> Flag() const { return {"--otlp-endpoint=" + receiver_.url()}; }
  static Answer AskTraced(const GatewayProcess& gateway, const v1::GenerateRequest& request,
                          const std::function<void(const Answer&)>& each = nullptr) {
    grpc::ClientContext context;
    context.AddMetadata("traceparent", std::string("00-") + kTrace + "-" + kCaller + "-01");
    return gateway::testing::Ask(gateway.generation.get(), request, each, &context);
  }
  static Received Child(const std::vector<Received>& spans, const Received& parent, std::string_view name) {
    for (const Received& span : spans) {
      if (span.span.name() == name && span.span.parent_span_id() == parent.span.span_id()) return span;
    }
    ADD_FAILURE() << "no " << name << " below " << parent.span.name();
    return {};
  }
  static double Seconds(const Received& span) {
    return static_cast<double>(span.span.end_time_unix_nano() - span.span.start_time_unix_nano()) * 1e-9;
  }

  const OtlpReceiver receiver_;
};

TEST_F(TracesTest, AColdAdapterAndAFailOverAreSeenInOneTrace) {
  std::vector<std::string> flags = Flag();
  flags.push_back("--fake-load-time=250ms");
  std::map<std::string, std::unique_ptr<WorkerProcess>> workers;
  for (const char* id : {"w0", "w1"}) workers[id] = StartWorker(id, flags);
  const auto gateway = StartGateway({workers["w0"]->address(), workers["w1"]->address()}, Flag());
  v1::PublishExpertResponse published;
  ASSERT_TRUE(Publish(*gateway, {}, &published).ok());
  ASSERT_TRUE(gateway->Ready(2));

  std::string lost;
  const Answer answer = AskTraced(*gateway, Question("one", 7), [&](const Answer& so_far) {
    if (!lost.empty() || so_far.token_ids.size() < 20) return;
    lost = so_far.route.worker();
    workers[lost]->process->Kill();
  });
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  ASSERT_FALSE(lost.empty());
  // The gateway's and the second worker's; what the first one had recorded died with it.
  receiver_.WaitFor("Generate");
  const std::vector<Received> spans = receiver_.WaitFor("sequence");
  for (const Received& span : spans) EXPECT_EQ(absl::BytesToHexString(span.span.trace_id()), kTrace);

  ASSERT_EQ(receiver_.Named("Generate").size(), 1u);
  const Received root = receiver_.Named("Generate")[0];
  EXPECT_EQ(absl::BytesToHexString(root.span.parent_span_id()), kCaller);
  EXPECT_EQ(root.service, "coterie-gateway");
  ASSERT_NE(root.Event("fail-over"), nullptr);
  ASSERT_NE(root.Event("first token"), nullptr);

  const std::vector<Received> attempts = receiver_.Named("attempt");
  ASSERT_EQ(attempts.size(), 2u);
  EXPECT_EQ(attempts[0].Attribute("coterie.worker"), lost);
  EXPECT_EQ(attempts[0].span.status().code(), 2u);
  EXPECT_EQ(attempts[1].span.parent_span_id(), root.span.span_id());

  ASSERT_EQ(receiver_.Named("sequence").size(), 1u);
  const Received sequence = Child(spans, attempts[1], "sequence");
  EXPECT_EQ(sequence.service, "coterie-worker");
  EXPECT_EQ(sequence.Attribute("coterie.worker"), lost == "w0" ? "w1" : "w0");
  EXPECT_EQ(sequence.Attribute("coterie.finish"), "length");
  // Nobody had asked that worker for the adapter, unless it was told to load it ahead while the loss was
  // open.
  const Received queue = Child(spans, sequence, "queue");
  const Received load = Child(spans, queue, "adapter load");
  EXPECT_GT(Seconds(load), 0.05);
  EXPECT_LE(Seconds(load), Seconds(queue));
  EXPECT_EQ(load.Attribute("coterie.expert"), "one");
  const Received prefill = Child(spans, sequence, "prefill"), decode = Child(spans, sequence, "decode");
  EXPECT_GE(prefill.span.start_time_unix_nano(), queue.span.end_time_unix_nano());
  EXPECT_EQ(decode.span.start_time_unix_nano(), prefill.span.end_time_unix_nano());
  EXPECT_EQ(decode.Attribute("coterie.answer_tokens"), "160");
}

TEST_F(TracesTest, AWorkerTracesWhatItsGatewayTracesAndNothingElse) {
  const auto worker = StartWorker("w0", Flag());
  const auto gateway =
      StartGateway({worker->address()}, {"--otlp-endpoint=" + receiver_.url(), "--trace-sample=0"});
  ASSERT_TRUE(gateway->Ready(1));
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(gateway::testing::Ask(gateway->generation.get(), Question("base", i, 5)).status.ok());
  }
  ASSERT_TRUE(AskTraced(*gateway, Question("base", 9, 5)).status.ok());
  receiver_.WaitFor("Generate");
  receiver_.WaitFor("sequence");
  EXPECT_EQ(receiver_.Named("Generate").size(), 1u);
  EXPECT_EQ(receiver_.Named("sequence").size(), 1u);
  EXPECT_TRUE(Eventually([&] {
    return MetricSum(worker->Metrics(), "coterie_trace_spans_total{result=\"sent\"}") >= 4;
  })) << worker->Metrics();
}

}  // namespace
}  // namespace coterie::cluster
