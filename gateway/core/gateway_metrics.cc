#include "gateway/core/gateway_metrics.h"

#include <cmath>
#include <string>

namespace coterie::gateway {
namespace {

std::vector<double> LinearBuckets(double first, double step, int n) {
  std::vector<double> buckets;
  buckets.reserve(static_cast<size_t>(n));
  // Rounded: they are labels, and 0.6000000000000001 is none that a person writes.
  for (int i = 0; i < n; ++i) buckets.push_back(std::round((first + step * i) * 1e6) / 1e6);
  return buckets;
}

// 1 ms to 32 s, 0.5 ms to 1 s, 10 ms to 10 min, 0.1 ms to 0.4 s.
const std::vector<double>& FirstToken() {
  static const auto* const buckets = new std::vector<double>(DoublingBuckets(0.001, 16));
  return *buckets;
}
const std::vector<double>& PerToken() {
  static const auto* const buckets = new std::vector<double>(DoublingBuckets(0.0005, 12));
  return *buckets;
}
const std::vector<double>& WholeAnswer() {
  static const auto* const buckets = new std::vector<double>(DoublingBuckets(0.01, 17));
  return *buckets;
}
const std::vector<double>& Short() {
  static const auto* const buckets = new std::vector<double>(DoublingBuckets(0.0001, 13));
  return *buckets;
}

}  // namespace

GatewayMetrics::GatewayMetrics(MetricsRegistry* r)
    : registry(r),
      time_to_first_token(r->Histogram("coterie_time_to_first_token_seconds",
                                       "From the request's acceptance to its first token.", FirstToken())),
      time_per_output_token(r->Histogram("coterie_time_per_output_token_seconds",
                                         "Mean time between an answer's tokens, first one left out.",
                                         PerToken())),
      end_to_end(
          r->Histogram("coterie_request_seconds", "From acceptance to the answer's end.", WholeAnswer())),
      queue(r->Histogram("coterie_queue_seconds", "From acceptance until a worker began the prompt.",
                         FirstToken())),
      embed(r->Histogram("coterie_embed_seconds", "Embedding one text.", Short())),
      route(r->Histogram("coterie_route_seconds", "Search and policy for one request.",
                         DoublingBuckets(0.000005, 14))),
      router_score(r->Histogram("coterie_router_score_ratio", "Score of the chosen expert.",
                                LinearBuckets(0.05, 0.05, 20))),
      router_margin(r->Histogram("coterie_router_margin_ratio", "Best score minus second best.",
                                 LinearBuckets(0.02, 0.02, 20))),
      prompt_tokens(r->Counter("coterie_prompt_tokens_total", "Tokens of prompts.")),
      generated_tokens(r->Counter("coterie_generated_tokens_total", "Tokens of answers.")),
      cached_prompt_tokens(r->Counter("coterie_cached_prompt_tokens_total",
                                      "Prompt tokens found in a worker's prefix cache.")),
      failovers_same_numerics(r->Counter("coterie_failovers_total",
                                         "Answers that went on on another worker after theirs was lost.",
                                         {{"numerics", "same"}})),
      failovers_other_numerics(r->Counter("coterie_failovers_total",
                                          "Answers that went on on another worker after theirs was lost.",
                                          {{"numerics", "other"}})),
      reattachments(r->Counter("coterie_reattachments_total",
                               "Answers whose connection to the worker broke and was taken up again.")),
      abstained(r->Counter("coterie_router_abstained_total", "Requests for \"auto\" that got the base.")),
      experts(r),
      tenant_requests(r, "coterie_tenant_requests_total", "Requests by tenant.", "tenant", 100) {}

void GatewayMetrics::CountRequest(const char* rpc, const Status& status) {
  registry
      ->Counter("coterie_requests_total", "Requests by RPC and the status they ended with.",
                {{"rpc", rpc}, {"code", absl::StatusCodeToString(status.code())}})
      .Increment();
}

}  // namespace coterie::gateway
