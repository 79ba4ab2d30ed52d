#ifndef COTERIE_COMMON_MEMBER_WEIGHTS_H_
#define COTERIE_COMMON_MEMBER_WEIGHTS_H_

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "common/status.h"

// How much each of several experts weighs in one answer.
namespace coterie {

// Weights that sum to 1 as whole parts of kWeightParts that do, too; 0 for those below half a part. So equal
// choices share prefixes, whose keys hold the weights. At most kWeightParts of them.
inline constexpr int kWeightParts = 32;
std::vector<float> RoundWeights(std::span<const float> weights);

// One weight for each member (16 at most, 1 at least), rounded as above: as given, divided by their sum, or
// equal ones where none is given. InvalidArgument, naming the field (field(i) is the i-th weight's, `all`
// that of the members), its value and the limit, for one that is not above 0 and finite, for some that are
// given and some that are not, and for a sum that is not 1 within 1/64.
StatusOr<std::vector<float>> CompleteWeights(std::span<const std::optional<float>> given,
                                             const std::function<std::string(size_t i)>& field,
                                             const std::string& all);

}  // namespace coterie

#endif  // COTERIE_COMMON_MEMBER_WEIGHTS_H_
