#ifndef COTERIE_ROUTER_EXPERT_MAP_H_
#define COTERIE_ROUTER_EXPERT_MAP_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "router/expert_index.h"

namespace coterie {

// Where the experts of an index lie in a plane, for people to look at; nothing is routed by it. The plane is
// spanned by the two directions in which the experts differ most (principal components of their mean
// prototypes), so neighbours on the map are neighbours in what they know, as far as two numbers can say.
struct ExpertMap {
  using Point = std::array<float, 2>;

  std::vector<float> centre;               // [dim], lies at (0, 0)
  std::array<std::vector<float>, 2> axes;  // [2][dim], unit norm, at right angles
  std::vector<uint32_t> experts;  // of the index, in its order; those without prototypes are not here
  std::vector<uint32_t> offsets;  // [experts.size() + 1], in points
  std::vector<Point> points;      // of each expert its prototypes, or some of them evenly chosen
  bool complete = true;           // every expert with prototypes is here

  // Where an embedding ([dim]) falls.
  Point Project(std::span<const float> embedding) const;
};

struct ExpertMapOptions {
  size_t max_points =
      4096;  // of all experts together; beyond as many experts, some evenly chosen ones are drawn
  size_t max_points_of_expert = 64;
};

// The same index gives the same map. The index has a dimension, as every one that a gateway with an embedder
// makes.
ExpertMap DrawExpertMap(const ExpertIndex& index, const ExpertMapOptions& options);

}  // namespace coterie

#endif  // COTERIE_ROUTER_EXPERT_MAP_H_
