// The first passes over rows of logits: their largest values, adjusted logits, mixtures.
#include "kernels/cuda/launch.h"
#include "kernels/cuda/row_math.h"
#include "kernels/cuda/sampler_steps.h"

namespace coterie::cuda {
namespace {

__device__ inline float Penalise(const RowSpec& spec, uint32_t count, float logit) {
  if (count == 0) return logit;
  logit = logit > 0 ? logit / spec.repetition_penalty : logit * spec.repetition_penalty;
  const uint32_t n_in_answer = count & ~kSeenToken;
  if (n_in_answer > 0) {
    logit -= static_cast<float>(n_in_answer) * spec.frequency_penalty + spec.presence_penalty;
  }
  return logit;
}

// Writes the chunk's adjusted logits to `to`. Whether this thread met one that was not finite before a mask
// could hide it.
__device__ bool AdjustTokens(const SamplingData& data, const RowSpec& spec, const float* from, int begin,
                             int end, float* to) {
  const int64_t vocab_size = data.vocab_size;
  const uint32_t* const counts = spec.penalised ? data.counts + spec.seat * vocab_size : nullptr;
  const uint32_t* const mask = spec.mask < 0 ? nullptr
                                             : BehindHeader<uint32_t>(data, data.header->masks_at) +
                                                   static_cast<int64_t>(spec.mask) * ((vocab_size + 31) / 32);
  bool broken = false;
  const auto adjust = [&](int id, float bias) {
    float logit = from[id];
    if (counts != nullptr) logit = Penalise(spec, counts[id], logit);
    logit += bias;
    broken |= !IsFinite(logit);
    const bool allowed = mask == nullptr || (mask[id / 32] >> (id % 32) & 1) != 0;
    to[id] = allowed ? logit : kMaskedLogit;
  };
#pragma unroll 4
  for (int id = begin + Thread(); id < end; id += NumThreads()) adjust(id, 0.0f);
  BlockBarrier();
  const LogitBias* const biases = BehindHeader<LogitBias>(data, data.header->biases_at);
  for (int at = spec.bias_begin + Thread(); at < spec.bias_end; at += NumThreads()) {
    const LogitBias bias = biases[at];
    if (bias.token >= begin && bias.token < end) adjust(bias.token, bias.bias);
  }
  BlockBarrier();
  return broken;
}

// The tops of the logits, and of those that are adjusted here: not yet of mixtures.
__global__ void FindTops(SamplingData data, const float* logits, SamplerScratch scratch) {
  const Chunk chunk(data, scratch);
  if (chunk.row >= data.header->n_rows) return;
  const RowSpec& spec = Rows(data)[chunk.row];
  uint64_t* const shared = SharedMemory<uint64_t>();
  const float* const row = logits + chunk.row * static_cast<int64_t>(data.vocab_size);
  const uint64_t top = TopOfTokens(row, chunk.begin, chunk.end, false, shared);
  if (Thread() == 0) *chunk.At(scratch.tops, kOfLogits) = top;
  if (spec.mixed() || !spec.adjusted) return;
  float* const adjusted = scratch.adjusted + chunk.row * static_cast<int64_t>(data.vocab_size);
  const bool broken = AdjustTokens(data, spec, row, chunk.begin, chunk.end, adjusted);
  const uint64_t adjusted_top = TopOfTokens(adjusted, chunk.begin, chunk.end, broken, shared);
  if (Thread() == 0) *chunk.At(scratch.tops, kOfAdjusted) = adjusted_top;
}

// The masses of rows that are to be mixed.
__global__ void SumMixed(SamplingData data, const float* logits, SamplerScratch scratch) {
  const Chunk chunk(data, scratch);
  if (chunk.row >= data.header->n_rows || !Rows(data)[chunk.row].mixed()) return;
  const uint64_t top = chunk.TopOfRow(scratch.tops, kOfLogits);
  if (top == kBrokenRow) return;
  const float* const row = logits + chunk.row * static_cast<int64_t>(data.vocab_size);
  const float best = LogitOfTop(top);
  uint64_t sum = 0;
  ForTokens<2>(row, chunk.begin, chunk.end,
               [&](int, float x) { sum += DeviceMassOf(WeightOf(best, x, 1.0f)); });
  sum = BlockReduce(sum, SharedMemory<uint64_t>(), Plus());
  if (Thread() == 0) *chunk.At(scratch.sums, kToMix) = sum;
}

// The logits of mixtures, in `adjusted` where the first row stands, and adjusted themselves where the second
// does.
__global__ void MixRows(SamplingData data, const float* logits, SamplerScratch scratch) {
  const Chunk chunk(data, scratch);
  if (chunk.row >= data.header->n_rows) return;
  const RowSpec* const specs = Rows(data) + chunk.row;
  if (!specs->mixed() || specs->mix_rows == 0) return;
  uint64_t* const shared = SharedMemory<uint64_t>();
  double* const shares = reinterpret_cast<double*>(shared + kWarpLanes);  // [mix_rows]
  float* const tops = reinterpret_cast<float*>(shares + kMaxMixRows);     // [mix_rows]
  bool broken = false;
  for (int i = WarpId(); i < specs->mix_rows; i += NumWarps()) {
    const Chunk other = chunk.OfRow(chunk.row + i);
    const uint64_t top = other.TopOfRow(scratch.tops, kOfLogits);
    const uint64_t sum = other.SumOfRow(scratch.sums, kToMix);  // of no meaning where the row is broken
    broken |= top == kBrokenRow;
    if (LaneId() != 0) continue;
    tops[i] = LogitOfTop(top);
    shares[i] = static_cast<double>(specs[i].mix_weight) / WeightOfMass(sum);
  }
  broken = BlockReduce<uint64_t>(broken ? 1 : 0, shared, Larger()) != 0;  // shares are seen by all, too
  uint64_t top = kBrokenRow, adjusted_top = kBrokenRow;
  if (!broken) {
    const int64_t vocab_size = data.vocab_size;
    float* const mixed = scratch.adjusted + chunk.row * vocab_size;
    for (int id = chunk.begin + Thread(); id < chunk.end; id += NumThreads()) {
      double p = 0;
      const float* from = logits + chunk.row * vocab_size + id;
      for (int i = 0; i < specs->mix_rows; ++i, from += vocab_size) {
        p += shares[i] * static_cast<double>(WeightOf(tops[i], *from, 1.0f));
      }
      mixed[id] = MixedLogit(p);
    }
    BlockBarrier();
    top = TopOfTokens(mixed, chunk.begin, chunk.end, false, shared);
    if (specs->adjusted) {
      float* const adjusted = mixed + vocab_size;
      broken = AdjustTokens(data, *specs, mixed, chunk.begin, chunk.end, adjusted);
      adjusted_top = TopOfTokens(adjusted, chunk.begin, chunk.end, broken, shared);
    }
  }
  if (Thread() != 0) return;
  *chunk.At(scratch.tops, kOfMixture) = top;
  *chunk.At(scratch.tops, kOfAdjusted) = adjusted_top;
}

}  // namespace

void EnqueueTops(const SamplingData& data, const float* logits, int rows, bool mixtures,
                 const SamplerScratch& scratch, cudaStream_t stream) {
  const unsigned grid = static_cast<unsigned>(rows) * static_cast<unsigned>(scratch.n_chunks);
  const auto threads = static_cast<unsigned>(scratch.shape.chunk_threads);
  constexpr size_t kReduceBytes = kWarpLanes * sizeof(uint64_t);
  Launch(FindTops, grid, threads, kReduceBytes, stream, data, logits, scratch);
  if (!mixtures) return;
  Launch(SumMixed, grid, threads, kReduceBytes, stream, data, logits, scratch);
  Launch(MixRows, grid, threads, kReduceBytes + kMaxMixRows * (sizeof(double) + sizeof(float)), stream, data,
         logits, scratch);
}

}  // namespace coterie::cuda
