#ifndef COTERIE_KERNELS_CUDA_SAMPLER_STEPS_H_
#define COTERIE_KERNELS_CUDA_SAMPLER_STEPS_H_

#include <cstdint>

#include "kernels/cuda/row_math.h"
#include "kernels/cuda/sampler.h"

namespace coterie::cuda {

// Planes of SamplerScratch::tops and ::sums.
enum TopsPlane { kOfLogits = 0, kOfAdjusted = 1, kOfMixture = 2 };
enum SumsPlane { kToMix = 0, kToDraw = 1, kToReport = 2 };

// A block's part of a row. Blocks go row by row, each with all its chunks.
struct Chunk {
  int row, number, begin, end;
  int n_chunks, max_rows;

  __device__ Chunk(const SamplingData& data, const SamplerScratch& scratch)
      : Chunk(data, scratch, static_cast<int>(blockIdx.x) / scratch.n_chunks,
              static_cast<int>(blockIdx.x) % scratch.n_chunks) {}
  __device__ Chunk(const SamplingData& data, const SamplerScratch& scratch, int row, int number = 0)
      : row(row),
        number(number),
        begin(number * scratch.shape.chunk_tokens),
        end(begin + scratch.shape.chunk_tokens < data.vocab_size ? begin + scratch.shape.chunk_tokens
                                                                 : data.vocab_size),
        n_chunks(scratch.n_chunks),
        max_rows(scratch.max_rows) {}
  __device__ Chunk OfRow(int other) const {
    Chunk chunk = *this;
    chunk.row = other;
    return chunk;
  }

  // In [planes, max_rows, n_chunks]: this row's first chunk.
  __device__ uint64_t* FirstAt(uint64_t* values, int plane) const {
    return values + (static_cast<int64_t>(plane) * max_rows + row) * n_chunks;
  }
  __device__ uint64_t* At(uint64_t* values, int plane) const { return FirstAt(values, plane) + number; }
  // In [planes, max_rows, n_chunks, kSampleBins].
  __device__ uint64_t* BinsOfRowAt(uint64_t* bins, int plane) const {
    return bins + (static_cast<int64_t>(plane) * max_rows + row) * n_chunks * kSampleBins;
  }
  __device__ uint64_t* BinsAt(uint64_t* bins, int plane) const {
    return BinsOfRowAt(bins, plane) + number * kSampleBins;
  }
  // Of all chunks, by every warp for itself: a barrier would take longer.
  __device__ uint64_t TopOfRow(uint64_t* tops, int plane) const {
    return Over(FirstAt(tops, plane), Larger());
  }
  __device__ uint64_t SumOfRow(uint64_t* sums, int plane) const { return Over(FirstAt(sums, plane), Plus()); }

 private:
  template <class Op>
  __device__ uint64_t Over(const uint64_t* first, Op op) const {
    uint64_t value = 0;
    for (int i = LaneId(); i < n_chunks; i += kWarpLanes) value = op(value, first[i]);
    for (int step = kWarpLanes / 2; step > 0; step /= 2) value = op(value, ShuffleXor(value, step));
    return value;
  }
};

// Enqueues what comes before rows are drawn: sampler_tops.cu.
void EnqueueTops(const SamplingData& data, const float* logits, int rows, bool mixtures,
                 const SamplerScratch& scratch, cudaStream_t stream);

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_SAMPLER_STEPS_H_
