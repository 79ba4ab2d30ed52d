#ifndef COTERIE_KERNELS_CPU_ISA_SIMD_AVX512_H_
#define COTERIE_KERNELS_CPU_ISA_SIMD_AVX512_H_

#include <immintrin.h>

#include <cstdint>
#include <cstring>

// Sixteen lanes on AVX-512 with VNNI, with or without BF16. Contract: simd_portable.h and simd_plain.h.
namespace coterie::cpu::COTERIE_ISA {

// Rows of the register tiles of linear.h. 6 chains hide the latency of the dot products and of fma; 8 and 12
// were slower from the cache.
constexpr int kQuantisedTileRows = 6;
constexpr int kWideTileRows = 4;  // from kWideRows rows on; 5 x 2 and 6 x 2 were 2 to 4 % slower
constexpr int kWideTilePanels = 3;
constexpr int kWideRows = 16;
constexpr int kFloatTileRows = 8;
constexpr int kCodeExcess = 128;     // CentreCodes (simd_plain.h)
constexpr int kScoreTileBlocks = 2;  // blocks of 16 keys in a tile of 12 query vectors (attention.h)
constexpr int kPairTileRows = 6;     // query vectors of a tile over bfloat16 pairs (attention_bf16.h)
#if defined(__AVX512BF16__)
constexpr int kPairTileVectors = 4;  // by this many blocks of 16 keys, or vectors of 16 dimensions
#else
constexpr int kPairTileVectors = 2;  // halves of pairs take registers of their own
#endif

struct F {
  __m512 v;
};
struct I {
  __m512i v;
};

inline __mmask16 MaskOf(int n) { return static_cast<__mmask16>((1u << n) - 1); }

inline F Zero() { return {_mm512_setzero_ps()}; }
inline F Set1(float x) { return {_mm512_set1_ps(x)}; }
inline F Load(const float* p) { return {_mm512_loadu_ps(p)}; }
inline F LoadN(const float* p, int n) { return {_mm512_maskz_loadu_ps(MaskOf(n), p)}; }
inline void Store(float* p, F a) { _mm512_storeu_ps(p, a.v); }
inline void StoreN(float* p, F a, int n) { _mm512_mask_storeu_ps(p, MaskOf(n), a.v); }

inline F Add(F a, F b) { return {_mm512_add_ps(a.v, b.v)}; }
inline F Sub(F a, F b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline F Mul(F a, F b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline F Div(F a, F b) { return {_mm512_div_ps(a.v, b.v)}; }
inline F Fma(F a, F b, F c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline F Max(F a, F b) { return {_mm512_max_ps(a.v, b.v)}; }
inline F Min(F a, F b) { return {_mm512_min_ps(a.v, b.v)}; }
inline F Abs(F a) { return {_mm512_abs_ps(a.v)}; }
inline F SelectGreater(F a, F b, F x, F y) {
  return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(a.v, b.v, _CMP_GT_OQ), y.v, x.v)};
}
inline F SelectLanes(int lo, int hi, F x, F y) {
  return {_mm512_mask_blend_ps(static_cast<__mmask16>(MaskOf(hi) & ~MaskOf(lo)), y.v, x.v)};
}

inline I ZeroI() { return {_mm512_setzero_si512()}; }
inline I Set1I(int32_t x) { return {_mm512_set1_epi32(x)}; }
inline I LoadI(const void* p) { return {_mm512_loadu_si512(p)}; }
inline I Broadcast4Bytes(const void* p) {
  int32_t x;
  std::memcpy(&x, p, 4);
  return {_mm512_set1_epi32(x)};
}
inline I Broadcast4BytesTwice(const void* first, const void* second) {
  int32_t x;
  std::memcpy(&x, second, 4);
  return {_mm512_mask_set1_epi32(Broadcast4Bytes(first).v, 0xff00, x)};
}
inline I AddUpperHalf(I a) {
  return {_mm512_zextsi256_si512(
      _mm256_add_epi32(_mm512_castsi512_si256(a.v), _mm512_extracti64x4_epi64(a.v, 1)))};
}
inline I AddI(I a, I b) { return {_mm512_add_epi32(a.v, b.v)}; }
inline I SubI(I a, I b) { return {_mm512_sub_epi32(a.v, b.v)}; }
inline I AndI(I a, I b) { return {_mm512_and_si512(a.v, b.v)}; }
inline I MaxI(I a, I b) { return {_mm512_max_epi32(a.v, b.v)}; }
inline I MinI(I a, I b) { return {_mm512_min_epi32(a.v, b.v)}; }
inline I AddBytes(I a, I b) { return {_mm512_add_epi8(a.v, b.v)}; }
inline I AddProduct16(I acc, I a, I b) { return {_mm512_dpwssd_epi32(acc.v, a.v, b.v)}; }
inline I XorI(I a, I b) { return {_mm512_xor_si512(a.v, b.v)}; }
template <int kBits>
inline I ShiftLeft(I a) {
  return {_mm512_slli_epi32(a.v, kBits)};
}
template <int kBits>
inline I ShiftRight(I a) {
  return {_mm512_srli_epi32(a.v, kBits)};
}
template <int kBits>
inline I ShiftRightSigned(I a) {
  return {_mm512_srai_epi32(a.v, kBits)};
}
inline I ToInt(F a) { return {_mm512_cvtps_epi32(a.v)}; }
inline F RoundToWhole(F a) {
  return {_mm512_roundscale_ps(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)};
}
inline F TimesPowerOf2(F a, F n) { return {_mm512_scalef_ps(a.v, n.v)}; }
inline F ToFloat(I a) { return {_mm512_cvtepi32_ps(a.v)}; }
inline F AsFloat(I a) { return {_mm512_castsi512_ps(a.v)}; }
inline I AsInt(F a) { return {_mm512_castps_si512(a.v)}; }
inline void StoreInt8(int8_t* p, I a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a.v));
}

inline I PackClamped(I a, I b, I c, I d) {
  const __m512i bytes = _mm512_packs_epi16(_mm512_packs_epi32(a.v, b.v), _mm512_packs_epi32(c.v, d.v));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return {_mm512_permutexvar_epi32(order, bytes)};
}
inline void StoreHalves(void* first, void* second, I a) {
  _mm256_storeu_si256(static_cast<__m256i*>(first), _mm512_castsi512_si256(a.v));
  _mm256_storeu_si256(static_cast<__m256i*>(second), _mm512_extracti64x4_epi64(a.v, 1));
}

inline void Pin(I* a) { asm("" : "+v"(a->v)); }
inline I Dot4(I acc, I u8, I s8) { return {_mm512_dpbusd_epi32(acc.v, u8.v, s8.v)}; }
inline I Dot4Nibbles(I acc, I u4, I s8) { return Dot4(acc, u4, s8); }

inline F LoadBf16(const uint16_t* p) {
  const __m256i h = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return {_mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(h), 16))};
}
inline F LoadBf16Half(const uint16_t* p) {
  const __m128i h = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  return {_mm512_zextps256_ps512(_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(h), 16)))};
}
inline void StoreBf16(uint16_t* p, F a) {
  const __m512i bits = _mm512_castps_si512(a.v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded =
      _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff))), 16);
  const __mmask16 nan = _mm512_cmp_ps_mask(a.v, a.v, _CMP_UNORD_Q);
  const __m512i result = _mm512_mask_blend_epi32(nan, rounded, _mm512_set1_epi32(0x7fc0));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(result));
}
inline F LoadF16(const uint16_t* p) {
  return {_mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)))};
}
inline void StoreF16(uint16_t* p, F a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p),
                      _mm512_cvtps_ph(a.v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

#if defined(__AVX512BF16__)
inline void RoundToBf16(uint16_t* p, F a) {
  const __mmask16 large = _mm512_cmp_ps_mask(_mm512_abs_ps(a.v), _mm512_set1_ps(0x1p-50f), _CMP_NLT_UQ);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_maskz_cvtneps_pbh(large, a.v));
}
inline I RoundToBf16(F first, F second) {
  const __m512 least = _mm512_set1_ps(0x1p-50f);
  const __mmask16 low = _mm512_cmp_ps_mask(_mm512_abs_ps(first.v), least, _CMP_NLT_UQ);
  const __mmask16 high = _mm512_cmp_ps_mask(_mm512_abs_ps(second.v), least, _CMP_NLT_UQ);
  return {(__m512i)_mm512_maskz_cvtne2ps_pbh(_mm512_kunpackw(high, low), second.v, first.v)};
}
inline F DotBf16(F acc, I a, I b) { return {_mm512_dpbf16_ps(acc.v, (__m512bh)a.v, (__m512bh)b.v)}; }
#else
inline void RoundToBf16(uint16_t* p, F a) {
  const __mmask16 large = _mm512_cmp_ps_mask(_mm512_abs_ps(a.v), _mm512_set1_ps(0x1p-50f), _CMP_NLT_UQ);
  StoreBf16(p, {_mm512_maskz_mov_ps(large, a.v)});
}
inline F DotBf16(F acc, I a, I b) {
  const __m512i second = _mm512_set1_epi32(static_cast<int32_t>(0xffff0000u));
  const __m512 odd = _mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_and_si512(a.v, second)),
                                     _mm512_castsi512_ps(_mm512_and_si512(b.v, second)), acc.v);
  return {_mm512_fmadd_ps(_mm512_castsi512_ps(_mm512_slli_epi32(a.v, 16)),
                          _mm512_castsi512_ps(_mm512_slli_epi32(b.v, 16)), odd)};
}
#endif

inline float ReduceAdd(F a) {
  const __m256 h8 = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  const __m128 h4 = _mm_add_ps(_mm256_castps256_ps128(h8), _mm256_extractf128_ps(h8, 1));
  const __m128 h2 = _mm_add_ps(h4, _mm_movehl_ps(h4, h4));
  return _mm_cvtss_f32(_mm_add_ss(h2, _mm_shuffle_ps(h2, h2, 1)));
}
inline float ReduceMax(F a) {
  const __m256 h8 = _mm256_max_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
  const __m128 h4 = _mm_max_ps(_mm256_castps256_ps128(h8), _mm256_extractf128_ps(h8, 1));
  const __m128 h2 = _mm_max_ps(h4, _mm_movehl_ps(h4, h4));
  return _mm_cvtss_f32(_mm_max_ss(h2, _mm_shuffle_ps(h2, h2, 1)));
}
inline int32_t ReduceAddI(I a) { return _mm512_reduce_add_epi32(a.v); }

// Reduces each of 16 vectors by `op`: vectors are merged pair by pair until lane i is the result of v[i].
template <class Op>
inline __m512 Reduce16(const __m512* v, Op op) {
  __m512 quarters[4];  // of v[4i..4i+3]: in each 128 bits one lane for each, over those 128 bits
  for (int i = 0; i < 4; ++i) {
    const __m512* p = v + 4 * i;
    const __m512 ab = op(_mm512_unpacklo_ps(p[0], p[1]), _mm512_unpackhi_ps(p[0], p[1]));
    const __m512 cd = op(_mm512_unpacklo_ps(p[2], p[3]), _mm512_unpackhi_ps(p[2], p[3]));
    quarters[i] = op(_mm512_shuffle_ps(ab, cd, 0x44), _mm512_shuffle_ps(ab, cd, 0xee));
  }
  const auto fold = [&](__m512 a, __m512 b) {
    return op(_mm512_shuffle_f32x4(a, b, 0x88), _mm512_shuffle_f32x4(a, b, 0xdd));
  };
  return fold(fold(quarters[0], quarters[1]), fold(quarters[2], quarters[3]));
}
inline F ReduceMax16(const F* v) {
  __m512 rows[16];
  for (int i = 0; i < 16; ++i) rows[i] = v[i].v;
  return {Reduce16(rows, [](__m512 a, __m512 b) { return _mm512_max_ps(a, b); })};
}
inline void SumHalves16(const I* codes, I* first, I* second) {
  __m512i fours[8];  // of blocks 2 i and 2 i + 1: a half in each 128 bits, a sum of four bytes in each lane
  for (int i = 0; i < 8; ++i) {
    fours[i] = Dot4(ZeroI(), Set1I(0x01010101), codes[i]).v;
  }
  __m512i
      halves[2];  // of blocks 8 i to 8 i + 7: first halves of even ones, second ones, the same of odd ones
  for (int i = 0; i < 2; ++i) {
    const __m512i* p = fours + 4 * i;
    const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(p[0], p[1]), _mm512_unpackhi_epi32(p[0], p[1]));
    const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(p[2], p[3]), _mm512_unpackhi_epi32(p[2], p[3]));
    halves[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
  }
  const __m512i order = _mm512_setr_epi32(0, 8, 1, 9, 2, 10, 3, 11, 16, 24, 17, 25, 18, 26, 19, 27);
  first->v = _mm512_permutex2var_epi32(halves[0], order, halves[1]);
  second->v = _mm512_permutex2var_epi32(halves[0], _mm512_add_epi32(order, _mm512_set1_epi32(4)), halves[1]);
}

inline void Prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

}  // namespace coterie::cpu::COTERIE_ISA

#endif  // COTERIE_KERNELS_CPU_ISA_SIMD_AVX512_H_
