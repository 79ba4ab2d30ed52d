#ifndef COTERIE_COMMON_GANG_PLAN_H_
#define COTERIE_COMMON_GANG_PLAN_H_

#include <cstdint>
#include <string>
#include <vector>

namespace coterie {

// One of the workers that answer a mixture together because none of them can hold all its members.
struct GangWorker {
  std::string name;     // for messages
  std::string address;  // where the others reach it: a numeric IP address and the port of its gRPC service
  std::vector<uint32_t> members;  // of the whole mixture, that it computes; ascending
};

// What each worker of a gang is told with its own part of the sequence. Every worker computes the rows of its
// members; the first one, the leader, mixes all rows' distributions, draws the token and tells the others.
struct GangPlan {
  std::string group;                // names the gang; drawn anew for each attempt
  std::string token;                // whoever does not know it cannot meet the others
  uint32_t rank = 0;                // of this worker
  std::vector<GangWorker> workers;  // by rank
  std::vector<float> weights;       // of all members of the mixture; they sum to 1
  // Each row tells the leader so many of its largest logits and the mass of all others, and the token is one
  // of those told. 0: all logits, and the text is that of one worker with all members, bit for bit.
  uint32_t top_tokens = 0;
};

}  // namespace coterie

#endif  // COTERIE_COMMON_GANG_PLAN_H_
