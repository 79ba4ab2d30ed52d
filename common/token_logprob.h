#ifndef COTERIE_COMMON_TOKEN_LOGPROB_H_
#define COTERIE_COMMON_TOKEN_LOGPROB_H_

#include <cstdint>

namespace coterie {

struct TokenLogprob {
  int32_t token = 0;
  float logprob = 0;  // natural, of the raw distribution (of a mixture: of p)
};

}  // namespace coterie

#endif  // COTERIE_COMMON_TOKEN_LOGPROB_H_
