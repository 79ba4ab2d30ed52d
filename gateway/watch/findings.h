#ifndef COTERIE_GATEWAY_WATCH_FINDINGS_H_
#define COTERIE_GATEWAY_WATCH_FINDINGS_H_

#include <cstddef>
#include <string>
#include <vector>

#include "gateway/core/gateway_core.h"

namespace coterie::gateway {

// What a person should look at, a sentence each with its figures.
// Of the base model and of how the workers read it.
std::vector<std::string> BaseFindings(const GatewayCore& core);
// Of an expert: regret, canaries, drift, what of it cannot be used.
std::vector<std::string> FindingsOf(const GatewayCore& core, const CatalogueEntry& entry);
// Of the base, then of all experts, at most `limit`, in the order of their names; if there are more, how
// many.
std::vector<std::string> AllFindings(const GatewayCore& core, size_t limit);

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_WATCH_FINDINGS_H_
