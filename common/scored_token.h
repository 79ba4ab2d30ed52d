#ifndef COTERIE_COMMON_SCORED_TOKEN_H_
#define COTERIE_COMMON_SCORED_TOKEN_H_

#include <cstdint>

namespace coterie {

struct ScoredToken {
  int32_t token = 0;
  float logprob = 0;  // natural, of the raw distribution
};

}  // namespace coterie

#endif  // COTERIE_COMMON_SCORED_TOKEN_H_
