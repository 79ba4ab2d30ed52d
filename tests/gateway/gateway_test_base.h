#ifndef COTERIE_TESTS_GATEWAY_GATEWAY_TEST_BASE_H_
#define COTERIE_TESTS_GATEWAY_GATEWAY_TEST_BASE_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "common/clock.h"
#include "gateway/gateway_server.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/gateway/client.h"
#include "tests/gateway/fake_text_model.h"
#include "tests/gateway/fake_worker.h"
#include "tests/gateway/tcp_proxy.h"

namespace coterie::gateway::testing {

// Polls until `condition` holds; false after `timeout`.
template <typename Condition>
bool Eventually(Condition condition, absl::Duration timeout = absl::Seconds(10)) {
  const MonotonicTime until = MonotonicNow() + timeout;
  while (MonotonicNow() < until) {
    if (condition()) return true;
    absl::SleepFor(absl::Milliseconds(5));
  }
  return condition();
}

// Options for tests: every port is free to choose and failures are noticed fast.
inline GatewayOptions QuickOptions(const std::vector<std::string>& workers) {
  GatewayOptions options;
  options.listen = "127.0.0.1:0";
  options.admin_listen = "";
  options.metrics_listen = "";
  options.http.listen = "";
  options.workers = absl::StrJoin(workers, ",");
  options.link.heartbeat_interval = absl::Milliseconds(100);
  options.link.silence_timeout = absl::Milliseconds(800);
  options.link.reattach_grace = absl::Milliseconds(600);
  options.link.max_backoff = absl::Milliseconds(200);
  options.session.worker_wait = absl::Seconds(2);
  options.shadow.share = 0;  // workers do what they are asked and nothing else
  return options;
}

inline GatewayParts FakeParts(bool with_embedder = true, std::unique_ptr<ExpertStore> store = nullptr) {
  GatewayParts parts;
  parts.text = std::make_unique<FakeTextModel>();
  if (with_embedder) parts.embedder = std::make_unique<FakeEmbedder>();
  parts.store = std::move(store);
  return parts;
}

struct TestGateway {
  explicit TestGateway(GatewayOptions options, bool with_embedder = true,
                       std::unique_ptr<ExpertStore> store = nullptr)
      : TestGateway(std::move(options), FakeParts(with_embedder, std::move(store))) {}
  TestGateway(GatewayOptions options, GatewayParts parts) {
    auto started = GatewayServer::Start(std::move(options), std::move(parts));
    EXPECT_TRUE(started.ok()) << started.status();
    server = *std::move(started);
    stub = ConnectTo(server->port());
  }
  // Waits until `n` workers are ready.
  bool Ready(size_t n) {
    return Eventually([&] { return server->core().workers->ready() >= n; });
  }

  std::unique_ptr<GatewayServer> server;
  std::unique_ptr<v1::GenerationService::Stub> stub;
};

}  // namespace coterie::gateway::testing

#endif  // COTERIE_TESTS_GATEWAY_GATEWAY_TEST_BASE_H_
