#ifndef COTERIE_KERNELS_CPU_MIXTURE_H_
#define COTERIE_KERNELS_CPU_MIXTURE_H_

#include <span>
#include <vector>

namespace coterie::cpu {

// The mixture of several rows' distributions, p = Σ λ_i softmax(logits_i) (c-BTM, Gururangan et al. 2023), as
// logits: log p. Rows are added in their order, sums run in a fixed order, and no function of the C library
// takes part: the same bits on every machine.
//
// Owns scratch memory for one vocabulary; allocates nothing after construction. Not thread-safe.
class Mixture {
 public:
  explicit Mixture(int vocab_size);

  void Begin();
  // `logits` [vocab_size] with weight λ > 0.
  void Add(std::span<const float> logits, float weight);
  // log p [vocab_size], at least kLeastMixed; NaN throughout when a logit of a row was not finite. Valid
  // until Begin.
  std::span<const float> Logits();

 private:
  std::vector<double> p_;         // [vocab]
  std::vector<float> distances_;  // [vocab]
  std::vector<float> logits_;     // [vocab]
  bool finite_ = true;
};

}  // namespace coterie::cpu

#endif  // COTERIE_KERNELS_CPU_MIXTURE_H_
