#ifndef COTERIE_TESTS_ROUTER_ROUTER_TESTING_H_
#define COTERIE_TESTS_ROUTER_ROUTER_TESTING_H_

#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "router/expert_index.h"

namespace coterie {

inline std::vector<float> RandomUnit(size_t dim, std::mt19937* random) {
  std::normal_distribution<float> normal;
  std::vector<float> v(dim);
  double norm = 0;
  for (float& x : v) {
    x = normal(*random);
    norm += static_cast<double>(x) * x;
  }
  for (float& x : v) x = static_cast<float>(x / std::sqrt(norm));
  return v;
}

// A unit vector in three dimensions that has cosine `cosine` with (1, 0, 0), turned by `angle` about it.
inline std::vector<float> AtCosine(float cosine, float angle = 0) {
  const float rest = std::sqrt(1 - cosine * cosine);
  return {cosine, rest * std::cos(angle), rest * std::sin(angle)};
}

inline const std::vector<float> kAxis = {1, 0, 0};

inline IndexedExpert MakeExpert(std::string name, std::vector<float> prototypes,
                                std::vector<std::string> domains = {}) {
  IndexedExpert expert;
  expert.adapter = Sha256("adapter of " + name);
  expert.name = std::move(name);
  expert.prototypes = std::move(prototypes);
  expert.domains = std::move(domains);
  return expert;
}

// Experts in three dimensions; generation 7.
inline std::shared_ptr<const ExpertIndex> MakeIndex(std::vector<IndexedExpert> experts) {
  return ExpertIndex::Create({.dim = 3, .generation = 7}, std::move(experts)).value();
}

}  // namespace coterie

#endif  // COTERIE_TESTS_ROUTER_ROUTER_TESTING_H_
