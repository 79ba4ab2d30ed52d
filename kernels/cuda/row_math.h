#ifndef COTERIE_KERNELS_CUDA_ROW_MATH_H_
#define COTERIE_KERNELS_CUDA_ROW_MATH_H_

#include <cstdint>

#include "kernels/cuda/device_code.h"
#include "kernels/cuda/sampling_data.h"
#include "kernels/token_weights.h"

// What the sampler's kernels compute of one row of logits. Order never matters: masses are whole numbers,
// and tokens have a total order.
namespace coterie::cuda {

// Replaces masked logits, as on the CPU: finite, but below all that matter.
constexpr float kMaskedLogit = -3.40282346638528859812e+38f;

__device__ inline int Thread() { return static_cast<int>(threadIdx.x); }
__device__ inline int NumThreads() { return static_cast<int>(blockDim.x); }

__device__ inline bool IsFinite(float x) { return (BitsOfFloat(x) & 0x7F800000u) != 0x7F800000u; }

// Unsigned numbers in the order of floats; both zeros are one. Those of infinities and NaN are the lowest and
// the highest.
__device__ inline uint32_t OrderOf(float x) {
  const uint32_t bits = BitsOfFloat(x + 0.0f);
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}
__device__ inline float FloatOfOrder(uint32_t order) {
  return FloatOfBits((order >> 31) != 0 ? order & 0x7FFFFFFFu : ~order);
}

// The largest logit of a row and, of equal ones, the lowest id: the largest of these numbers. kBrokenRow
// where a logit is not finite.
constexpr uint64_t kBrokenRow = UINT64_MAX;
__device__ inline uint64_t TopOf(float logit, int id) {
  return static_cast<uint64_t>(OrderOf(logit)) << 32 | static_cast<uint32_t>(~id);
}
__device__ inline float LogitOfTop(uint64_t top) { return FloatOfOrder(static_cast<uint32_t>(top >> 32)); }
__device__ inline int IdOfTop(uint64_t top) { return static_cast<int>(~static_cast<uint32_t>(top)); }

__device__ inline float DistanceBelow(float top, float logit, float temperature) {
  const float difference = top - logit;
  return temperature == 1.0f ? difference : difference / temperature;  // by 1 it is the same
}
__device__ inline float WeightOf(float top, float logit, float temperature) {
  return ExpOfNegative<float, int32_t>(DistanceBelow(top, logit, temperature));
}
__device__ inline uint64_t DeviceMassOf(float weight) { return RoundToUint64(weight * 0x1p41f); }
static_assert(kUnitBits == 41);

__device__ inline const RowSpec* Rows(const SamplingData& data) {
  return reinterpret_cast<const RowSpec*>(data.header + 1);
}
template <class T>
__device__ inline const T* BehindHeader(const SamplingData& data, int bytes) {
  return reinterpret_cast<const T*>(reinterpret_cast<const unsigned char*>(data.header) + bytes);
}

// `op` over what all threads of the block give, in every thread. `shared` [32].
template <class T, class Op>
__device__ inline T BlockReduce(T value, T* shared, Op op) {
  for (int step = kWarpLanes / 2; step > 0; step /= 2) value = op(value, ShuffleXor(value, step));
  BlockBarrier();  // a result before this one was read
  if (LaneId() == 0) shared[WarpId()] = value;
  BlockBarrier();
  value = shared[0];
  for (int warp = 1; warp < NumWarps(); ++warp) value = op(value, shared[warp]);
  return value;
}
struct Larger {
  __device__ uint64_t operator()(uint64_t a, uint64_t b) const { return a > b ? a : b; }
};
struct Smaller {
  __device__ uint64_t operator()(uint64_t a, uint64_t b) const { return a < b ? a : b; }
};
struct Plus {
  __device__ uint64_t operator()(uint64_t a, uint64_t b) const { return a + b; }
};

// Calls f(id, logit) for tokens [begin, end) of `row`, dealt out to the block's threads, each thread's ids
// ascending. kQuads loads of 16 bytes are under way in each thread before the first is used; a row may begin
// anywhere.
template <int kQuads, class F>
__device__ inline void ForTokens(const float* row, int begin, int end, F f) {
  const int n_odd = static_cast<int>((0 - reinterpret_cast<uintptr_t>(row + begin) / sizeof(float)) % 4);
  const int head = begin + (n_odd < end - begin ? n_odd : end - begin);
  const int n_quads = (end - head) / 4;
  const float4* const quads = reinterpret_cast<const float4*>(row + head);
  if (Thread() < head - begin) f(begin + Thread(), row[begin + Thread()]);
  for (int first = Thread(); first < n_quads; first += kQuads * NumThreads()) {
    float4 values[kQuads] = {};
#pragma unroll
    for (int q = 0; q < kQuads; ++q) {
      const int at = first + q * NumThreads();
      if (at < n_quads) values[q] = quads[at];
    }
#pragma unroll
    for (int q = 0; q < kQuads; ++q) {
      const int at = first + q * NumThreads();
      if (at >= n_quads) break;
      f(head + 4 * at, values[q].x);
      f(head + 4 * at + 1, values[q].y);
      f(head + 4 * at + 2, values[q].z);
      f(head + 4 * at + 3, values[q].w);
    }
  }
  const int tail = head + 4 * n_quads + Thread();
  if (tail < end) f(tail, row[tail]);
}

// The top of tokens [begin, end): see TopOf. In every thread.
__device__ inline uint64_t TopOfTokens(const float* row, int begin, int end, bool broken, uint64_t* shared) {
  float best = -INFINITY;
  int best_id = begin;
  ForTokens<4>(row, begin, end, [&](int id, float x) {
    broken |= !IsFinite(x);
    if (x > best) best = x, best_id = id;
  });
  return BlockReduce(broken ? kBrokenRow : TopOf(best, best_id), shared, Larger());
}

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_ROW_MATH_H_
