#include "tests/bench/step_cost.h"

#include "tests/bench/random_adapter.h"

namespace coterie::bench {

double MatrixBytesOnPaper(DType dtype, CudaBackendOptions::Weights load, int64_t n_out, int64_t n_in) {
  using Weights = CudaBackendOptions::Weights;
  if (BlockElements(dtype) == 1 && load == Weights::kFp8) {
    return static_cast<double>(n_out) * static_cast<double>(n_in + 4);  // and a scale for each output
  }
  if (BlockElements(dtype) == 1 && load == Weights::kQ8_0) dtype = DType::kQ8_0;
  return static_cast<double>(n_out) * static_cast<double>(RowBytes(dtype, n_in));
}

std::vector<ProductShape> LayerProducts(const ModelConfig& c) {
  return {{c.q_size() + 2 * c.kv_size(), c.hidden_size},
          {c.hidden_size, c.q_size()},
          {2 * c.ffn_size, c.hidden_size},
          {c.hidden_size, c.ffn_size}};
}

StepBytes LeastBytes(const ModelConfig& c, int n_layers, const WeightFormat& format, const DecodeStep& step) {
  const double d = c.hidden_size, q = c.q_size(), kv = c.kv_size(), f = c.ffn_size, vocab = c.vocab_size;
  StepBytes bytes;
  for (const ProductShape& p : LayerProducts(c)) {
    bytes.weights += MatrixBytesOnPaper(format.layers, format.load, p.n_out, p.n_in);
  }
  bytes.weights *= n_layers;
  bytes.weights += MatrixBytesOnPaper(format.embedding, format.load, c.vocab_size, c.hidden_size);

  ModelConfig part = c;
  part.n_layers = n_layers;
  for (const int rank : step.ranks) bytes.adapters += static_cast<double>(AdapterBytes(part, rank));

  bytes.kv = 2.0 * 2 * kv * n_layers * step.batch * (step.context + 1);  // K and V, and the new ones written

  const double norm = 4 * d + 2 * d + 2 * d;                              // x read, operand written and read
  const double attention = 2 * 4 * (q + 2 * kv) + 2 * 4 * q + 2 * 2 * q;  // qkv, rotated q, operand
  const double residual = 2 * (4 * d + 4 * d);                            // x += O and x += down
  const double ffn = 2 * 4 * 2 * f + 2 * 2 * f;                           // gate and up, operand
  const double layer = 2 * norm + attention + residual + ffn;
  bytes.activations = step.batch * (n_layers * layer + 4 * d + norm + 2 * 4 * vocab);
  return bytes;
}

}  // namespace coterie::bench
