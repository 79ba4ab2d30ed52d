#ifndef COTERIE_TESTS_BENCH_STEP_COST_H_
#define COTERIE_TESTS_BENCH_STEP_COST_H_

#include <cstdint>
#include <vector>

#include "kernels/create.h"
#include "kernels/dtype.h"
#include "model/format/model_config.h"

namespace coterie::bench {

// How the matrices of a base are held on a GPU: as they are in the file, or by the choice made at load.
struct WeightFormat {
  DType layers = DType::kBF16;
  DType embedding = DType::kBF16;
  CudaBackendOptions::Weights load = CudaBackendOptions::Weights::kAsStored;
};

// A step of decode: one token of each sequence.
struct DecodeStep {
  int batch = 1;
  int context = 1;         // positions that each sequence attends to, its new one included
  std::vector<int> ranks;  // of the adapters that the step uses, each once; they change every linear layer
};

// The fewest bytes of device memory that a step can move, computed on paper: each weight, each adapter and
// each key and value of a context is read once, whatever the batch; what an op hands on is written once and
// read once, operands of products as bfloat16, everything else as float32.
struct StepBytes {
  double weights = 0;
  double adapters = 0;
  double kv = 0;
  double activations = 0;
  double total() const { return weights + adapters + kv + activations; }
};
// `n_layers` of the config's, with the head.
StepBytes LeastBytes(const ModelConfig& config, int n_layers, const WeightFormat& format,
                     const DecodeStep& step);

// Bytes of a matrix on the device, without padding.
double MatrixBytesOnPaper(DType dtype, CudaBackendOptions::Weights load, int64_t n_out, int64_t n_in);

// The products of one layer, as the decoder fuses them.
struct ProductShape {
  int64_t n_out = 0, n_in = 0;
};
std::vector<ProductShape> LayerProducts(const ModelConfig& config);

}  // namespace coterie::bench

#endif  // COTERIE_TESTS_BENCH_STEP_COST_H_
