#ifndef COTERIE_KERNELS_CPU_ISA_SIMD_HIGHWAY_H_
#define COTERIE_KERNELS_CPU_ISA_SIMD_HIGHWAY_H_

#include <hwy/highway.h>

#include <cstdint>
#include <cstring>

#include "kernels/formats/half.h"

// Sixteen lanes as four vectors of 128 bits, by Highway: NEON on Arm, and on x86 so that the same code runs
// where the tests do. Contract: simd_portable.h and simd_plain.h. Compiled only for instruction sets with a
// fused multiply-add of their own, and twice for Arm: with and without its dot product of bytes.
namespace coterie::cpu::COTERIE_ISA {

namespace hn = hwy::HWY_NAMESPACE;

static_assert(HWY_NATIVE_FMA,
              "Highway's MulAdd would round twice: compile for an instruction set that has fma");

// Register tiles of linear.h: 8 chains of four lanes and their 8 dot products leave half of the 32 registers
// of NEON for codes and constants.
constexpr int kQuantisedTileRows = 2;
constexpr int kWideTileRows = 2;
constexpr int kWideTilePanels = 1;
constexpr int kWideRows = 1;
constexpr int kFloatTileRows = 4;
constexpr int kCodeExcess = 128;     // CentreCodes (simd_plain.h)
constexpr int kScoreTileBlocks = 1;  // blocks of 16 keys in a tile of 12 query vectors (attention.h)
constexpr int kPairTileRows = 4;
constexpr int kPairTileVectors = 1;

constexpr hn::FixedTag<float, 4> kF;
constexpr hn::FixedTag<int32_t, 4> kI;
constexpr hn::FixedTag<uint32_t, 4> kU;
constexpr hn::FixedTag<int16_t, 8> kI16;
constexpr hn::FixedTag<uint8_t, 16> kU8;
using F4 = hn::Vec<decltype(kF)>;
using I4 = hn::Vec<decltype(kI)>;

struct F {
  F4 v[4];
};
struct I {
  I4 v[4];
};

// One operation on each quarter.
template <class Op>
inline F EachF(Op op) {
  return {{op(0), op(1), op(2), op(3)}};
}
template <class Op>
inline I EachI(Op op) {
  return {{op(0), op(1), op(2), op(3)}};
}

inline F Set1(float x) {
  return EachF([&](int) { return hn::Set(kF, x); });
}
inline F Zero() { return Set1(0.0f); }
inline F Load(const float* p) {
  return EachF([&](int i) { return hn::LoadU(kF, p + 4 * i); });
}
inline void Store(float* p, F a) {
  for (int i = 0; i < 4; ++i) hn::StoreU(a.v[i], kF, p + 4 * i);
}

inline F Add(F a, F b) {
  return EachF([&](int i) { return hn::Add(a.v[i], b.v[i]); });
}
inline F Sub(F a, F b) {
  return EachF([&](int i) { return hn::Sub(a.v[i], b.v[i]); });
}
inline F Mul(F a, F b) {
  return EachF([&](int i) { return hn::Mul(a.v[i], b.v[i]); });
}
inline F Div(F a, F b) {
  return EachF([&](int i) { return hn::Div(a.v[i], b.v[i]); });
}
inline F Fma(F a, F b, F c) {
  return EachF([&](int i) { return hn::MulAdd(a.v[i], b.v[i], c.v[i]); });
}
inline F Abs(F a) {
  return EachF([&](int i) { return hn::Abs(a.v[i]); });
}
inline F SelectGreater(F a, F b, F x, F y) {
  return EachF([&](int i) { return hn::IfThenElse(hn::Gt(a.v[i], b.v[i]), x.v[i], y.v[i]); });
}
// By comparison, since the maximum of NEON gives NaN where either operand is NaN.
inline F Max(F a, F b) { return SelectGreater(a, b, a, b); }
inline F Min(F a, F b) { return SelectGreater(b, a, a, b); }

inline I Set1I(int32_t x) {
  return EachI([&](int) { return hn::Set(kI, x); });
}
inline I ZeroI() { return Set1I(0); }
inline I LoadI(const void* p) {
  const auto* bytes = static_cast<const uint8_t*>(p);
  return EachI([&](int i) { return hn::BitCast(kI, hn::LoadU(kU8, bytes + 16 * i)); });
}
inline F SelectLanes(int lo, int hi, F x, F y) {
  alignas(16) static constexpr int32_t kLane[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const I4 below = hn::Set(kI, lo - 1);
  const I4 above = hn::Set(kI, hi);
  return EachF([&](int i) {
    const I4 lane = hn::Load(kI, kLane + 4 * i);
    const auto chosen = hn::And(hn::Gt(lane, below), hn::Gt(above, lane));
    return hn::IfThenElse(hn::RebindMask(kF, chosen), x.v[i], y.v[i]);
  });
}
inline I Broadcast4Bytes(const void* p) {
  int32_t x;
  std::memcpy(&x, p, 4);
  return Set1I(x);
}
inline I Broadcast4BytesTwice(const void* first, const void* second) {
  const I4 low = Broadcast4Bytes(first).v[0];
  const I4 high = Broadcast4Bytes(second).v[0];
  return {{low, low, high, high}};
}
inline I AddUpperHalf(I a) { return {{hn::Add(a.v[0], a.v[2]), hn::Add(a.v[1], a.v[3]), a.v[2], a.v[3]}}; }
inline I AddI(I a, I b) {
  return EachI([&](int i) { return hn::Add(a.v[i], b.v[i]); });
}
inline I SubI(I a, I b) {
  return EachI([&](int i) { return hn::Sub(a.v[i], b.v[i]); });
}
inline I AndI(I a, I b) {
  return EachI([&](int i) { return hn::And(a.v[i], b.v[i]); });
}
inline I XorI(I a, I b) {
  return EachI([&](int i) { return hn::Xor(a.v[i], b.v[i]); });
}
inline I MaxI(I a, I b) {
  return EachI([&](int i) { return hn::Max(a.v[i], b.v[i]); });
}
inline I MinI(I a, I b) {
  return EachI([&](int i) { return hn::Min(a.v[i], b.v[i]); });
}
inline I AddBytes(I a, I b) {
  return EachI(
      [&](int i) { return hn::BitCast(kI, hn::Add(hn::BitCast(kU8, a.v[i]), hn::BitCast(kU8, b.v[i]))); });
}
inline I AddProduct16(I acc, I a, I b) {
  return EachI([&](int i) { return hn::Add(acc.v[i], hn::Mul(a.v[i], b.v[i])); });
}
template <int kBits>
inline I ShiftLeft(I a) {
  return EachI([&](int i) { return hn::ShiftLeft<kBits>(a.v[i]); });
}
template <int kBits>
inline I ShiftRight(I a) {
  return EachI([&](int i) { return hn::BitCast(kI, hn::ShiftRight<kBits>(hn::BitCast(kU, a.v[i]))); });
}
template <int kBits>
inline I ShiftRightSigned(I a) {
  return EachI([&](int i) { return hn::ShiftRight<kBits>(a.v[i]); });
}
// NEON's conversion saturates, and makes NaN a zero.
inline I ToInt(F a) {
  const F4 limit = hn::Set(kF, 2147483648.0f);
  const I4 outside = hn::Set(kI, INT32_MIN);
  return EachI([&](int i) {
    const auto within = hn::RebindMask(kI, hn::Lt(hn::Abs(a.v[i]), limit));
    return hn::IfThenElse(within, hn::NearestInt(a.v[i]), outside);
  });
}
inline F ToFloat(I a) {
  return EachF([&](int i) { return hn::ConvertTo(kF, a.v[i]); });
}
inline F AsFloat(I a) {
  return EachF([&](int i) { return hn::BitCast(kF, a.v[i]); });
}
inline I AsInt(F a) {
  return EachI([&](int i) { return hn::BitCast(kI, a.v[i]); });
}
inline void StoreInt8(int8_t* p, I a) {
  constexpr hn::FixedTag<uint8_t, 4> kBytes;
  for (int i = 0; i < 4; ++i) {
    const auto low = hn::And(hn::BitCast(kU, a.v[i]), hn::Set(kU, 0xff));
    hn::StoreU(hn::U8FromU32(low), kBytes, reinterpret_cast<uint8_t*>(p) + 4 * i);
  }
}

// The lower and the upper 16 bits of every lane, as numbers.
inline I4 LowHalves(I4 a) { return hn::ShiftRight<16>(hn::ShiftLeft<16>(a)); }
inline I4 HighHalves(I4 a) { return hn::ShiftRight<16>(a); }

// Products of the even and of the odd bytes, each within 16 bits: 255 · 128 at most.
struct Products {
  hn::Vec<decltype(kI16)> even, odd;
};
inline Products ByteProducts(I4 u8, I4 s8) {
  const auto u = hn::BitCast(kI16, u8);
  const auto s = hn::BitCast(kI16, s8);
  const auto u_odd = hn::BitCast(kI16, hn::ShiftRight<8>(hn::BitCast(hn::FixedTag<uint16_t, 8>(), u)));
  return {hn::Mul(hn::And(u, hn::Set(kI16, 0xff)), hn::ShiftRight<8>(hn::ShiftLeft<8>(s))),
          hn::Mul(u_odd, hn::ShiftRight<8>(s))};
}
// acc + the sum of each lane's two halves.
template <class V>
inline I4 AddHalves(I4 acc, V pairs) {
#if HWY_ARCH_ARM_A64
  return I4(vpadalq_s16(acc.raw, pairs.raw));
#else
  const I4 both = hn::BitCast(kI, pairs);
  return hn::Add(acc, hn::Add(LowHalves(both), HighHalves(both)));
#endif
}

inline I Dot4(I acc, I u8, I s8) {
  return EachI([&](int i) {
    const Products p = ByteProducts(u8.v[i], s8.v[i]);
    return AddHalves(AddHalves(acc.v[i], p.even), p.odd);
  });
}
// Codes below 16 leave room for the sum of two products, and are the same signed.
inline I Dot4Nibbles(I acc, I u4, I s8) {
  return EachI([&](int i) {
#if defined(__ARM_FEATURE_DOTPROD)
    return I4(vdotq_s32(acc.v[i].raw, vreinterpretq_s8_s32(u4.v[i].raw), vreinterpretq_s8_s32(s8.v[i].raw)));
#else
    const Products p = ByteProducts(u4.v[i], s8.v[i]);
    return AddHalves(acc.v[i], hn::Add(p.even, p.odd));
#endif
  });
}

// A bfloat16 is the upper half of a float32.
inline F LoadBf16(const uint16_t* p) {
  constexpr hn::FixedTag<uint16_t, 4> kHalf;
  return EachF([&](int i) {
    return hn::BitCast(kF, hn::ShiftLeft<16>(hn::PromoteTo(kU, hn::LoadU(kHalf, p + 4 * i))));
  });
}
inline F LoadBf16Half(const uint16_t* p) {
  constexpr hn::FixedTag<uint16_t, 4> kHalf;
  const auto quarter = [&](int i) {
    return hn::BitCast(kF, hn::ShiftLeft<16>(hn::PromoteTo(kU, hn::LoadU(kHalf, p + 4 * i))));
  };
  const F4 zero = hn::Zero(kF);
  return {{quarter(0), quarter(1), zero, zero}};
}
inline void RoundToBf16(uint16_t* p, F a) {
  float lanes[16];
  Store(lanes, a);
  for (int l = 0; l < 16; ++l) p[l] = coterie::RoundToBf16(lanes[l]);
}
inline F DotBf16(F acc, I a, I b) {
  const I4 second = hn::Set(kI, static_cast<int32_t>(0xffff0000u));
  return EachF([&](int i) {
    const F4 odd = hn::MulAdd(hn::BitCast(kF, hn::And(a.v[i], second)),
                              hn::BitCast(kF, hn::And(b.v[i], second)), acc.v[i]);
    return hn::MulAdd(hn::BitCast(kF, hn::ShiftLeft<16>(a.v[i])), hn::BitCast(kF, hn::ShiftLeft<16>(b.v[i])),
                      odd);
  });
}
inline F LoadF16(const uint16_t* p) {
  constexpr hn::FixedTag<hwy::float16_t, 4> kHalf;
  const auto* halves = reinterpret_cast<const hwy::float16_t*>(p);
  return EachF([&](int i) { return hn::PromoteTo(kF, hn::LoadU(kHalf, halves + 4 * i)); });
}
inline void StoreF16(uint16_t* p, F a) {
  float lanes[16];
  Store(lanes, a);
  for (int l = 0; l < 16; ++l) p[l] = FloatToHalf(lanes[l]);
}

inline float ReduceAdd(F a) {
  float lanes[4];
  hn::StoreU(hn::Add(hn::Add(a.v[0], a.v[2]), hn::Add(a.v[1], a.v[3])), kF, lanes);
  return (lanes[0] + lanes[2]) + (lanes[1] + lanes[3]);
}
inline float ReduceMax(F a) {
  const F halves = Max(a, F{{a.v[2], a.v[3], a.v[2], a.v[3]}});
  const F quarter = Max(halves, F{{halves.v[1], halves.v[1], halves.v[1], halves.v[1]}});
  float lanes[4];
  hn::StoreU(quarter.v[0], kF, lanes);
  const float even = lanes[0] > lanes[2] ? lanes[0] : lanes[2];
  const float odd = lanes[1] > lanes[3] ? lanes[1] : lanes[3];
  return even > odd ? even : odd;
}
inline int32_t ReduceAddI(I a) {
  return hn::GetLane(hn::SumOfLanes(kI, hn::Add(hn::Add(a.v[0], a.v[1]), hn::Add(a.v[2], a.v[3]))));
}

inline void Prefetch(const void* p) { __builtin_prefetch(p); }

}  // namespace coterie::cpu::COTERIE_ISA

#endif  // COTERIE_KERNELS_CPU_ISA_SIMD_HIGHWAY_H_
