#include "gateway/access/access_metrics.h"

namespace coterie::gateway {

AccessMetrics::AccessMetrics(MetricsRegistry* registry)
    : registry_(registry),
      keys(registry->Gauge("coterie_keys", "Keys of the keys file that are neither revoked nor expired.")),
      reload_failures(registry->Counter("coterie_keys_reload_failures_total",
                                        "Looks at a keys file that could not be read or is broken.")),
      tenant_refusals(registry, "coterie_tenant_quota_refusals_total",
                      "Requests beyond a quota of their key, by tenant.", "tenant", 100),
      tenant_tokens(registry, "coterie_tenant_tokens_total",
                    "Tokens of prompts and answers of requests with a key, by tenant.", "tenant", 100) {}

void AccessMetrics::CountRefusal(const char* reason) {
  registry_
      ->Counter("coterie_access_refusals_total",
                "Requests that their key, or the want of one, did not allow.", {{"reason", reason}})
      .Increment();
}

}  // namespace coterie::gateway
