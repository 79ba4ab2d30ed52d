#ifndef COTERIE_GATEWAY_CORE_EXPERT_HOLDERS_H_
#define COTERIE_GATEWAY_CORE_EXPERT_HOLDERS_H_

#include <string>
#include <vector>

#include "gateway/upstream/worker_pool.h"
#include "model/store/catalogue_entry.h"

namespace coterie::gateway {

// Ids of the workers that hold this version in device slots: its adapter, or those of all its members.
inline std::vector<std::string> HoldersOf(const WorkerPool& workers, const ExpertVersion& version) {
  if (!version.is_composite()) return workers.Holders({&version.adapter, 1});
  std::vector<Digest> adapters;
  for (const ExpertMember& member : version.members) adapters.push_back(member.adapter);
  return workers.Holders(adapters);
}

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_CORE_EXPERT_HOLDERS_H_
