#include <algorithm>

#include "common/check.h"
#include "kernels/cuda/fast_products.h"
#include "kernels/cuda/linear_division.h"
#include "kernels/cuda/linear_product.h"
#include "kernels/cuda/ops.h"

namespace coterie::cuda {

size_t LoraScratchFloats(int max_entries, int max_adapters, int max_rank, int64_t max_n_in) {
  const int small_entries = std::min(max_entries, kSmallRows * max_adapters);
  return static_cast<size_t>(max_rank) *
         (static_cast<size_t>(max_entries) + static_cast<size_t>(small_entries) * ShrinkChunks(max_n_in));
}

size_t SplitScratchFloats(int max_rows, int n_processors) {
  const size_t places = static_cast<size_t>(n_processors) * kSplitTurns;
  return places * (kKParts + 1) * static_cast<size_t>(SmallTokens(max_rows)) * kStripOutputs;
}

void LinearLora(const uint16_t* x, int rows, const CudaMatrix& w, const float* bias, bool accumulate,
                const LoraWork* work, const LoraSite& site, const LoraScratch& scratch, float* y,
                int n_processors, cudaStream_t stream, FastProducts* fast) {
  const auto is_fast = [&](const WeightSegment& segment) {
    return fast != nullptr && fast->Takes(rows, segment);
  };
  LinearProduct product;
  product.bias = bias;
  product.accumulate = accumulate;
  product.y_pitch = w.n_out();
  const bool adapters = work != nullptr && site.n_targets > 0;
  if (adapters) {
    COTERIE_CHECK_EQ(scratch.max_rank % kLoraRankStep, 0) << "the scratch of products with adapters";
    product.lora = {*work, site, scratch, x, static_cast<int>(w.n_in())};
  }
  product.adapters =
      adapters && rows <= kSmallRows && std::none_of(w.segments().begin(), w.segments().end(), is_fast);
  product.shrink = product.adapters;
  product.x = x;
  product.rows = rows;
  product.y = y;
  product.split = scratch.split;
  for (const WeightSegment& segment : w.segments()) {
    product.w = segment;
    if (is_fast(segment)) {
      fast->Run(x, rows, segment, bias, accumulate, y, w.n_out());
      continue;
    }
    if (rows > kSmallRows && LinearLarge(product, stream)) continue;
    LinearSmall(product, n_processors, stream);
    product.shrink = false;  // t is there for the next segment
  }
  if (adapters && !product.adapters) LoraRows(product.lora, rows, y, w.n_out(), n_processors, stream);
}

}  // namespace coterie::cuda
