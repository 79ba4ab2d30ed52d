#ifndef COTERIE_TESTS_BENCH_MADE_WEIGHTS_H_
#define COTERIE_TESTS_BENCH_MADE_WEIGHTS_H_

#include <cstdint>
#include <vector>

#include "kernels/dtype.h"

namespace coterie::bench {

// Random blocks of one type, from which rows of weights are cut: drawing every weight of an 8B base by itself
// would take a minute.
class WeightPool {
 public:
  // `deviation`: of the values.
  WeightPool(DType dtype, double deviation, uint64_t seed);

  // Writes a row of `n` values; `row_seed` decides where in the pool it begins.
  void FillRow(uint64_t row_seed, int64_t n, uint8_t* row) const;

 private:
  const DType dtype_;
  int64_t n_blocks_ = 0;
  std::vector<uint8_t> blocks_;
};

uint64_t MixBits(uint64_t x);  // of splitmix64

}  // namespace coterie::bench

#endif  // COTERIE_TESTS_BENCH_MADE_WEIGHTS_H_
