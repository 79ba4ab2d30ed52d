#include "common/check.h"
#include "kernels/cuda/device_code.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/row_values.h"

// Norm, rotation and the KV write, fused: a warp has one head of Q of one token, or one head of K with the
// same of V. Nothing passes between warps, so that a step of decode is spread over many of them.
//
// A token's key of a head is NaN where its key or value of that head holds anything out of range, and its
// value is then 0: every later query gets NaN by the key's score, and no query that must not see the key gets
// NaN by 0 · NaN.
namespace coterie::cuda {
namespace {

constexpr int kRopeWarps = 4;

struct RopeKvArgs {
  StepData step;
  KvLayout kv;
  int layer, n_heads;
  const float* q_norm;  // [head_dim], or null
  const float* k_norm;
  float eps;
  const float* cos;  // [n_positions, rotary_dim / 2]
  const float* sin;
  int rotary_dim;
  float* qkv;  // [rows, (n_heads + 2 n_kv_heads) · head_dim]
};

// The values of a head in a warp: lane l has pairs l, l + 32, … up to head_dim / 2. The first ones rotate.
template <int kPairs>
struct HeadValues {
  float first[kPairs], second[kPairs];
};

// f(slot, pair, element of first, element of second) for each of this lane's pairs. Those that rotate stand
// half of rotary_dim apart (half-split), the others side by side.
template <int kPairs, class Body>
__device__ void ForPairs(int head_dim, int rotary_dim, Body f) {
  const int half = rotary_dim / 2;
#pragma unroll
  for (int slot = 0; slot < kPairs; ++slot) {
    const int pair = LaneId() + slot * kWarpLanes;
    if (pair >= head_dim / 2) continue;
    const int first = pair < half ? pair : 2 * pair;
    f(slot, pair, first, pair < half ? first + half : first + 1);
  }
}

template <int kPairs>
__device__ HeadValues<kPairs> LoadHead(const float* head, int head_dim, int rotary_dim) {
  HeadValues<kPairs> values = {};
  ForPairs<kPairs>(head_dim, rotary_dim, [&](int slot, int, int first, int second) {
    values.first[slot] = head[first];
    values.second[slot] = head[second];
  });
  return values;
}

template <int kPairs>
__device__ void NormAndRotate(const RopeKvArgs& a, const float* norm, int position,
                              HeadValues<kPairs>& values) {
  const int head_dim = a.kv.head_dim, half = a.rotary_dim / 2;
  if (norm != nullptr) {
    float squares = 0;
    for (int slot = 0; slot < kPairs; ++slot) {
      squares = Fma(values.first[slot], values.first[slot], squares);
      squares = Fma(values.second[slot], values.second[slot], squares);
    }
    const float inverse = InverseRms(WarpSum(squares), head_dim, a.eps);
    ForPairs<kPairs>(head_dim, a.rotary_dim, [&](int slot, int, int first, int second) {
      values.first[slot] = values.first[slot] * inverse * norm[first];
      values.second[slot] = values.second[slot] * inverse * norm[second];
    });
  }
  const int64_t at = static_cast<int64_t>(position) * half;
  ForPairs<kPairs>(head_dim, a.rotary_dim, [&](int slot, int pair, int, int) {
    if (pair >= half) return;
    const float c = a.cos[at + pair], s = a.sin[at + pair];
    const float x1 = values.first[slot], x2 = values.second[slot];
    values.first[slot] = Fma(x1, c, -(x2 * s));
    values.second[slot] = Fma(x2, c, x1 * s);
  });
}

// Whether all values of a head, in all lanes, are in range.
template <int kPairs>
__device__ bool AllInRange(const HeadValues<kPairs>& values) {
  bool in_range = true;
  for (int slot = 0; slot < kPairs; ++slot) {
    in_range =
        in_range && fabsf(values.first[slot]) < kValueLimit && fabsf(values.second[slot]) < kValueLimit;
  }
  return Ballot(!in_range) == 0;
}

template <int kPairs>
__device__ void WriteKeyAndValue(const RopeKvArgs& a, int row, int position, int kv_head, const float* qkv) {
  const KvLayout& kv = a.kv;
  const int head_dim = kv.head_dim;
  const float* const k_from = qkv + static_cast<int64_t>(a.n_heads + kv_head) * head_dim;
  const float* const v_from = k_from + static_cast<int64_t>(kv.n_kv_heads) * head_dim;
  HeadValues<kPairs> k = LoadHead<kPairs>(k_from, head_dim, a.rotary_dim);
  const HeadValues<kPairs> v = LoadHead<kPairs>(v_from, head_dim, 0);
  NormAndRotate(a, a.k_norm, position, k);
  const bool k_in_range = AllInRange(k), v_in_range = AllInRange(v);
  const bool spoilt = !k_in_range || !v_in_range;

  const int seat = a.step.seats[a.step.sequences[row]];
  const int block =
      a.step.block_table[static_cast<int64_t>(seat) * a.step.max_blocks + position / kKvBlockTokens];
  const int64_t slot_at = static_cast<int64_t>(position % kKvBlockTokens) * head_dim;
  uint16_t* const k_to = kv.blocks + KvHeadOffset(kv, a.layer, block, 0, kv_head) + slot_at;
  uint16_t* const v_to = kv.blocks + KvHeadOffset(kv, a.layer, block, 1, kv_head) + slot_at;
  ForPairs<kPairs>(head_dim, a.rotary_dim, [&](int slot, int, int first, int second) {
    k_to[first] = FloatToBf16(spoilt ? NotANumber() : k.first[slot]);
    k_to[second] = FloatToBf16(spoilt ? NotANumber() : k.second[slot]);
  });
  ForPairs<kPairs>(head_dim, 0, [&](int slot, int pair, int, int) {
    reinterpret_cast<uint32_t*>(v_to)[pair] = spoilt ? 0 : PackBf16(v.first[slot], v.second[slot]);
  });
}

template <int kPairs>
__global__ void RopeAndKvRows(RopeKvArgs a) {
  const int row = static_cast<int>(blockIdx.x);
  const int unit = static_cast<int>(blockIdx.y) * kRopeWarps + WarpId();  // heads of Q, then of K with V
  if (row >= *a.step.n_tokens || unit >= a.n_heads + a.kv.n_kv_heads) return;
  const int head_dim = a.kv.head_dim;
  const int position = a.step.positions[row];
  float* const qkv = a.qkv + static_cast<int64_t>(row) * (a.n_heads + 2 * a.kv.n_kv_heads) * head_dim;
  if (unit >= a.n_heads) {
    WriteKeyAndValue<kPairs>(a, row, position, unit - a.n_heads, qkv);
    return;
  }
  float* const head = qkv + static_cast<int64_t>(unit) * head_dim;
  HeadValues<kPairs> q = LoadHead<kPairs>(head, head_dim, a.rotary_dim);
  NormAndRotate(a, a.q_norm, position, q);
  ForPairs<kPairs>(head_dim, a.rotary_dim, [&](int slot, int, int first, int second) {
    head[first] = InRange(q.first[slot]);
    head[second] = InRange(q.second[slot]);
  });
}

}  // namespace

void RopeAndKvWrite(const StepData& step, int rows, int layer, int n_heads, const float* q_norm,
                    const float* k_norm, float eps, const float* cos, const float* sin, int rotary_dim,
                    float* qkv, const KvLayout& kv, cudaStream_t stream) {
  if (rows == 0) return;
  COTERIE_CHECK(kv.head_dim % 2 == 0 && kv.head_dim <= 256) << "head_dim " << kv.head_dim;
  COTERIE_CHECK(rotary_dim % 2 == 0 && rotary_dim <= kv.head_dim) << "rotary_dim " << rotary_dim;
  const RopeKvArgs args = {step, kv, layer, n_heads, q_norm, k_norm, eps, cos, sin, rotary_dim, qkv};
  const int n_units = n_heads + kv.n_kv_heads;
  const dim3 grid(static_cast<unsigned>(rows),
                  static_cast<unsigned>((n_units + kRopeWarps - 1) / kRopeWarps));
  const int pairs = (kv.head_dim / 2 + kWarpLanes - 1) / kWarpLanes;
  Launch(pairs == 1   ? RopeAndKvRows<1>
         : pairs == 2 ? RopeAndKvRows<2>
                      : RopeAndKvRows<4>,
         grid, kRopeWarps * kWarpLanes, 0, stream, args);
}

}  // namespace coterie::cuda
