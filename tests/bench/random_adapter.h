#ifndef COTERIE_TESTS_BENCH_RANDOM_ADAPTER_H_
#define COTERIE_TESTS_BENCH_RANDOM_ADAPTER_H_

#include <cstdint>
#include <vector>

#include "kernels/lora.h"
#include "model/format/model_config.h"

namespace coterie::bench {

// Random low-rank pairs for every linear layer, bfloat16, small beside the base's products.
class RandomAdapter {
 public:
  RandomAdapter(const ModelConfig& config, int rank, uint64_t seed);

  const std::vector<HostLora>& pairs() const { return pairs_; }  // borrow this object's memory

 private:
  HostMatrix Matrix(int n_out, int n_in, uint64_t* seed);

  std::vector<std::vector<uint16_t>> storage_;
  std::vector<HostLora> pairs_;
};

// Bytes of such an adapter in bfloat16.
size_t AdapterBytes(const ModelConfig& config, int rank);

}  // namespace coterie::bench

#endif  // COTERIE_TESTS_BENCH_RANDOM_ADAPTER_H_
