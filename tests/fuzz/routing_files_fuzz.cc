// Any bytes as the two files that routing reads beside the catalogue; the first byte says which. What is
// accepted makes a policy, as the gateway makes one.
#include <cstddef>
#include <cstdint>
#include <utility>

#include "common/check.h"
#include "gateway/routing/routing_files.h"
#include "router/routing_policy.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr size_t kDim = 2;
  if (size == 0) return 0;
  coterie::RoutingOptions options;
  if (data[0] % 2 == 0) {
    auto rules =
        coterie::gateway::ParseRules({reinterpret_cast<const char*>(data) + 1, size - 1}, "rules.yaml");
    if (!rules.ok()) return 0;
    options.rules = *std::move(rules);
  } else {
    auto classifier = coterie::gateway::ParseClassifier({data + 1, size - 1}, "classifier.safetensors", kDim);
    if (!classifier.ok()) return 0;
    COTERIE_CHECK(classifier->bias.size() == classifier->classes.size() &&
                  classifier->weights.size() == classifier->classes.size() * kDim);
    options.selection = coterie::RoutingOptions::Selection::kClassifier;
    options.classifier = *std::move(classifier);
  }
  const auto policy = coterie::CreateRoutingPolicy(std::move(options));
  COTERIE_CHECK(policy.ok()) << policy.status();
  return 0;
}
