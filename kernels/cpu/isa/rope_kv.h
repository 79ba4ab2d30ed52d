#ifndef COTERIE_KERNELS_CPU_ISA_ROPE_KV_H_
#define COTERIE_KERNELS_CPU_ISA_ROPE_KV_H_

#include "kernels/cpu/isa/rows.h"
#include "kernels/cpu/kernel_table.h"

// RoPE and the KV write of consecutive tokens of one block.
namespace coterie::cpu::COTERIE_ISA {

// Pairs (i, i + rotary_dim/2): x1' = x1·cos - x2·sin, x2' = x2·cos + x1·sin; the second product is rounded
// first.
inline void Rotate(float* head, const float* cos, const float* sin, int half) {
  ForVectors(half, [&](int64_t i, int n) {
    const F x1 = LoadUpTo(head + i, n);
    const F x2 = LoadUpTo(head + half + i, n);
    const F c = LoadUpTo(cos + i, n);
    const F s = LoadUpTo(sin + i, n);
    const F y1 = Fma(x1, c, Sub(Zero(), Mul(x2, s)));
    const F y2 = Fma(x2, c, Mul(x1, s));
    StoreUpTo(head + i, y1, n);
    StoreUpTo(head + half + i, y2, n);
  });
}

// F32 and F16, value by value: K [head_dim][16], V [16][v_stride].
template <class Element, void (*kRound)(Element*, F)>
inline void WriteSingles(const KvWriteArgs& a) {
  alignas(64) Element rounded[16];
  for (int t = 0; t < a.n_tokens; ++t) {
    const int slot = a.slot + t;
    Element* k = reinterpret_cast<Element*>(a.k_block) + slot;
    Element* v = reinterpret_cast<Element*>(a.v_block) + static_cast<int64_t>(slot) * a.v_stride;
    ForVectors(a.head_dim, [&](int64_t i, int n) {
      kRound(rounded, LoadUpTo(a.k + t * a.stride + i, n));
      for (int e = 0; e < n; ++e) k[(i + e) * kKeysPerBlock] = rounded[e];
      kRound(v + i, LoadUpTo(a.v + t * a.stride + i, n));
    });
  }
}

// BF16, two values per lane: K [head_dim / 2][16][2], V [8][v_stride][2].
inline void WritePairs(const KvWriteArgs& a) {
  alignas(64) uint16_t first[16], second[16];
  for (int t = 0; t < a.n_tokens; ++t) {
    uint8_t* k = a.k_block + (a.slot + t) * 4;
    ForVectors(a.head_dim, [&](int64_t i, int n) {
      RoundToBf16(first, LoadUpTo(a.k + t * a.stride + i, n));  // +0 beside an odd last dimension
      for (int e = 0; e < n; e += 2) std::memcpy(k + (i + e) * (kKeysPerBlock * 2), first + e, 4);
    });
  }
  for (int t = 0; t < a.n_tokens;) {
    const int slot = a.slot + t;
    const float* v = a.v + t * a.stride;
    float* to = reinterpret_cast<float*>(a.v_block) + static_cast<int64_t>(slot / 2) * a.v_stride;  // pairs
    if (slot % 2 == 1) {  // its neighbour was written by an earlier step
      ForVectors(a.head_dim, [&](int64_t i, int n) {
        RoundToBf16(second, LoadUpTo(v + i, n));
        const I kept = AndI(LoadI(to + i), Set1I(0xffff));
        Store(to + i, AsFloat(XorI(kept, AsInt(LoadBf16(second)))));
      });
      t += 1;
      continue;
    }
    const bool both = t + 1 < a.n_tokens;
    ForVectors(a.head_dim, [&](int64_t i, int n) {
      RoundToBf16(first, LoadUpTo(v + i, n));
      RoundToBf16(second, both ? LoadUpTo(v + a.stride + i, n) : Zero());
      Store(to + i, AsFloat(XorI(ShiftRight<16>(AsInt(LoadBf16(first))), AsInt(LoadBf16(second)))));
    });
    t += 2;
  }
}

inline void WriteKv(const KvWriteArgs& a) {
  switch (a.type) {
    case KvType::kF32:
      return WriteSingles<float, Store>(a);
    case KvType::kF16:
      return WriteSingles<uint16_t, StoreF16>(a);
    case KvType::kBF16:
      return WritePairs(a);
  }
}

// Whether a value is too large for binary16.
inline bool RoundsToInfinity(const float* x, int64_t n) {
  F largest = Zero();
  ForVectors(n, [&](int64_t i, int count) { largest = Max(largest, Abs(LoadUpTo(x + i, count))); });
  return ReduceMax(largest) >= 65520.0f;
}

inline void RopeKv(const RopeKvArgs& a) {
  const int half = a.rotary_dim / 2;
  const int64_t width = static_cast<int64_t>(a.n_heads + 2 * a.n_kv_heads) * a.head_dim;
  for (int t = 0; t < a.n_tokens; ++t) {
    const float* cos = a.cos + static_cast<int64_t>(t) * half;
    const float* sin = a.sin + static_cast<int64_t>(t) * half;
    for (int h = 0; h < a.n_heads + a.n_kv_heads; ++h) {
      float* head = a.qkv + t * width + static_cast<int64_t>(h) * a.head_dim;
      const float* norm = h < a.n_heads ? a.q_norm : a.k_norm;
      if (norm != nullptr) RmsNormRow(head, norm, a.eps, a.head_dim, head);
      Rotate(head, cos, sin, half);
    }
    // Before anything is written: no query attends a key of infinity (its weight would be 0), so the fault
    // would be forgotten.
    float* row = a.qkv + t * width;
    if (OutOfRange(SumOfSquares(row, width)) || (a.type == KvType::kF16 && RoundsToInfinity(row, width))) {
      Spoil(row, width);
    }
  }
  KvWriteArgs write;
  write.type = a.type;
  write.head_dim = a.head_dim;
  write.v_stride = a.v_stride;
  write.stride = width;
  write.n_tokens = a.n_tokens;
  write.slot = a.slot;
  for (int h = 0; h < a.n_kv_heads; ++h) {
    write.k = a.qkv + static_cast<int64_t>(a.n_heads + h) * a.head_dim;
    write.v = write.k + static_cast<int64_t>(a.n_kv_heads) * a.head_dim;
    write.k_block = a.k + h * a.k_head_bytes;
    write.v_block = a.v + h * a.v_head_bytes;
    WriteKv(write);
  }
}

}  // namespace coterie::cpu::COTERIE_ISA

#endif  // COTERIE_KERNELS_CPU_ISA_ROPE_KV_H_
