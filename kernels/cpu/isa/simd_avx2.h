#ifndef COTERIE_KERNELS_CPU_ISA_SIMD_AVX2_H_
#define COTERIE_KERNELS_CPU_ISA_SIMD_AVX2_H_

#include <immintrin.h>

#include <cstdint>
#include <cstring>

// Sixteen lanes in two halves on AVX2 with FMA and F16C. Contract: simd_portable.h and simd_plain.h.
namespace coterie::cpu::avx2 {

// Register tiles of linear.h. 16 registers in pairs: 2 x 1 sums and dots, or 4 x 1 sums.
constexpr int kQuantisedTileRows = 2;
constexpr int kWideTileRows = 2;
constexpr int kWideTilePanels = 1;
constexpr int kWideRows = 1;
constexpr int kFloatTileRows = 4;
constexpr int kCodeExcess = 0;       // CentreCodes (simd_plain.h)
constexpr int kScoreTileBlocks = 1;  // blocks of 16 keys in a tile of 12 query vectors (attention.h)
constexpr int kPairTileRows = 4;
constexpr int kPairTileVectors = 1;

struct F {
  __m256 lo, hi;
};
struct I {
  __m256i lo, hi;
};

inline F Zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline F Set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline F Load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
inline void Store(float* p, F a) {
  _mm256_storeu_ps(p, a.lo);
  _mm256_storeu_ps(p + 8, a.hi);
}

inline F Add(F a, F b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
inline F Sub(F a, F b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
inline F Mul(F a, F b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
inline F Div(F a, F b) { return {_mm256_div_ps(a.lo, b.lo), _mm256_div_ps(a.hi, b.hi)}; }
inline F Fma(F a, F b, F c) { return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)}; }
inline F Max(F a, F b) { return {_mm256_max_ps(a.lo, b.lo), _mm256_max_ps(a.hi, b.hi)}; }
inline F Min(F a, F b) { return {_mm256_min_ps(a.lo, b.lo), _mm256_min_ps(a.hi, b.hi)}; }
inline F Abs(F a) {
  const __m256 mask = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
  return {_mm256_and_ps(a.lo, mask), _mm256_and_ps(a.hi, mask)};
}
inline F SelectGreater(F a, F b, F x, F y) {
  return {_mm256_blendv_ps(y.lo, x.lo, _mm256_cmp_ps(a.lo, b.lo, _CMP_GT_OQ)),
          _mm256_blendv_ps(y.hi, x.hi, _mm256_cmp_ps(a.hi, b.hi, _CMP_GT_OQ))};
}
inline __m256 LaneMask(int lo, int hi, __m256i lanes) {
  const __m256i at_least_lo = _mm256_cmpgt_epi32(lanes, _mm256_set1_epi32(lo - 1));
  const __m256i below_hi = _mm256_cmpgt_epi32(_mm256_set1_epi32(hi), lanes);
  return _mm256_castsi256_ps(_mm256_and_si256(at_least_lo, below_hi));
}
inline F SelectLanes(int lo, int hi, F x, F y) {
  const __m256i first = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i second = _mm256_setr_epi32(8, 9, 10, 11, 12, 13, 14, 15);
  return {_mm256_blendv_ps(y.lo, x.lo, LaneMask(lo, hi, first)),
          _mm256_blendv_ps(y.hi, x.hi, LaneMask(lo, hi, second))};
}

inline I ZeroI() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
inline I Set1I(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline I LoadI(const void* p) {
  const __m256i* q = static_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1)};
}
inline I Broadcast4Bytes(const void* p) {
  int32_t x;
  std::memcpy(&x, p, 4);
  return Set1I(x);
}
inline I Broadcast4BytesTwice(const void* first, const void* second) {
  return {Broadcast4Bytes(first).lo, Broadcast4Bytes(second).lo};
}
inline I AddUpperHalf(I a) { return {_mm256_add_epi32(a.lo, a.hi), a.hi}; }
inline I AddI(I a, I b) { return {_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)}; }
inline I SubI(I a, I b) { return {_mm256_sub_epi32(a.lo, b.lo), _mm256_sub_epi32(a.hi, b.hi)}; }
inline I AndI(I a, I b) { return {_mm256_and_si256(a.lo, b.lo), _mm256_and_si256(a.hi, b.hi)}; }
inline I MaxI(I a, I b) { return {_mm256_max_epi32(a.lo, b.lo), _mm256_max_epi32(a.hi, b.hi)}; }
inline I MinI(I a, I b) { return {_mm256_min_epi32(a.lo, b.lo), _mm256_min_epi32(a.hi, b.hi)}; }
inline I AddBytes(I a, I b) { return {_mm256_add_epi8(a.lo, b.lo), _mm256_add_epi8(a.hi, b.hi)}; }
inline I AddProduct16(I acc, I a, I b) {
  return {_mm256_add_epi32(acc.lo, _mm256_madd_epi16(a.lo, b.lo)),
          _mm256_add_epi32(acc.hi, _mm256_madd_epi16(a.hi, b.hi))};
}
inline I XorI(I a, I b) { return {_mm256_xor_si256(a.lo, b.lo), _mm256_xor_si256(a.hi, b.hi)}; }
template <int kBits>
inline I ShiftLeft(I a) {
  return {_mm256_slli_epi32(a.lo, kBits), _mm256_slli_epi32(a.hi, kBits)};
}
template <int kBits>
inline I ShiftRight(I a) {
  return {_mm256_srli_epi32(a.lo, kBits), _mm256_srli_epi32(a.hi, kBits)};
}
template <int kBits>
inline I ShiftRightSigned(I a) {
  return {_mm256_srai_epi32(a.lo, kBits), _mm256_srai_epi32(a.hi, kBits)};
}
inline I ToInt(F a) { return {_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi)}; }
inline F ToFloat(I a) { return {_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)}; }
inline F AsFloat(I a) { return {_mm256_castsi256_ps(a.lo), _mm256_castsi256_ps(a.hi)}; }
inline I AsInt(F a) { return {_mm256_castps_si256(a.lo), _mm256_castps_si256(a.hi)}; }
// The low 16 bits of each of 16 lanes, in order.
inline __m256i Narrow16(__m256i lo, __m256i hi) {
  const __m256i mask = _mm256_set1_epi32(0xffff);
  return _mm256_permute4x64_epi64(_mm256_packus_epi32(_mm256_and_si256(lo, mask), _mm256_and_si256(hi, mask)),
                                  0xd8);
}
inline void StoreInt8(int8_t* p, I a) {
  const __m256i h = _mm256_and_si256(Narrow16(a.lo, a.hi), _mm256_set1_epi16(0xff));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p),
                   _mm_packus_epi16(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1)));
}

inline void Pin(I* a) { asm("" : "+x"(a->lo), "+x"(a->hi)); }

// vpmaddubsw would saturate (2 · 255 · 128 > 32767), so bytes are widened to 16 bits first, even and odd ones
// separately.
inline __m256i Dot4Half(__m256i acc, __m256i u8, __m256i s8) {
  const __m256i even = _mm256_madd_epi16(_mm256_and_si256(u8, _mm256_set1_epi16(0xff)),
                                         _mm256_srai_epi16(_mm256_slli_epi16(s8, 8), 8));
  const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(u8, 8), _mm256_srai_epi16(s8, 8));
  return _mm256_add_epi32(acc, _mm256_add_epi32(even, odd));
}
inline I Dot4(I acc, I u8, I s8) { return {Dot4Half(acc.lo, u8.lo, s8.lo), Dot4Half(acc.hi, u8.hi, s8.hi)}; }
// Codes below 16 cannot saturate: 2 · 15 · 128 = 3840.
inline __m256i Dot4NibblesHalf(__m256i acc, __m256i u4, __m256i s8) {
  return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(u4, s8), _mm256_set1_epi16(1)));
}
inline I Dot4Nibbles(I acc, I u4, I s8) {
  return {Dot4NibblesHalf(acc.lo, u4.lo, s8.lo), Dot4NibblesHalf(acc.hi, u4.hi, s8.hi)};
}
// Signed codes in [-127, 127] times |q| <= 128, with q's signs given to the codes: 2 · 127 · 128 = 32,512.
inline I CentreCodes(I codes) { return XorI(codes, Set1I(static_cast<int32_t>(0x80808080u))); }
inline __m256i DotCodesHalf(__m256i acc, __m256i c, __m256i q) {
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(q), _mm256_sign_epi8(c, q));
  return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
inline I DotCodes(I acc, I codes, I q) {
  return {DotCodesHalf(acc.lo, codes.lo, q.lo), DotCodesHalf(acc.hi, codes.hi, q.hi)};
}
inline __m256i SumCodesHalf(__m256i acc, __m256i c) {
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), c);
  return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
inline I SumCodes(I acc, I codes) { return {SumCodesHalf(acc.lo, codes.lo), SumCodesHalf(acc.hi, codes.hi)}; }

inline __m128i LoadHalf(const uint16_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
inline F LoadBf16(const uint16_t* p) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(LoadHalf(p)), 16)),
          _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(LoadHalf(p + 8)), 16))};
}
inline F LoadBf16Half(const uint16_t* p) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(LoadHalf(p)), 16)),
          _mm256_setzero_ps()};
}
inline __m256i RoundBf16(__m256 a) {
  const __m256i bits = _mm256_castps_si256(a);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded =
      _mm256_srli_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));
  return _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc0), nan);
}
inline F LoadF16(const uint16_t* p) {
  return {_mm256_cvtph_ps(LoadHalf(p)), _mm256_cvtph_ps(LoadHalf(p + 8))};
}
inline void StoreF16(uint16_t* p, F a) {
  constexpr int kRound = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(a.lo, kRound));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p + 8), _mm256_cvtps_ph(a.hi, kRound));
}

inline __m256i RoundToBf16(F a) {
  const F size = Abs(a);
  const __m256 least = _mm256_set1_ps(0x1p-50f);
  return Narrow16(RoundBf16(_mm256_andnot_ps(_mm256_cmp_ps(size.lo, least, _CMP_LT_OQ), a.lo)),
                  RoundBf16(_mm256_andnot_ps(_mm256_cmp_ps(size.hi, least, _CMP_LT_OQ), a.hi)));
}
inline void RoundToBf16(uint16_t* p, F a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), RoundToBf16(a));
}
inline I RoundToBf16(F first, F second) { return {RoundToBf16(first), RoundToBf16(second)}; }
inline __m256 DotBf16Half(__m256 acc, __m256i a, __m256i b) {
  const __m256i second = _mm256_set1_epi32(static_cast<int32_t>(0xffff0000u));
  acc = _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_and_si256(a, second)),
                        _mm256_castsi256_ps(_mm256_and_si256(b, second)), acc);
  return _mm256_fmadd_ps(_mm256_castsi256_ps(_mm256_slli_epi32(a, 16)),
                         _mm256_castsi256_ps(_mm256_slli_epi32(b, 16)), acc);
}
inline F DotBf16(F acc, I a, I b) {
  return {DotBf16Half(acc.lo, a.lo, b.lo), DotBf16Half(acc.hi, a.hi, b.hi)};
}

inline float ReduceAdd(F a) {
  const __m256 h8 = _mm256_add_ps(a.lo, a.hi);
  const __m128 h4 = _mm_add_ps(_mm256_castps256_ps128(h8), _mm256_extractf128_ps(h8, 1));
  const __m128 h2 = _mm_add_ps(h4, _mm_movehl_ps(h4, h4));
  return _mm_cvtss_f32(_mm_add_ss(h2, _mm_shuffle_ps(h2, h2, 1)));
}
inline float ReduceMax(F a) {
  const __m256 h8 = _mm256_max_ps(a.lo, a.hi);
  const __m128 h4 = _mm_max_ps(_mm256_castps256_ps128(h8), _mm256_extractf128_ps(h8, 1));
  const __m128 h2 = _mm_max_ps(h4, _mm_movehl_ps(h4, h4));
  return _mm_cvtss_f32(_mm_max_ss(h2, _mm_shuffle_ps(h2, h2, 1)));
}
inline int32_t ReduceAddI(I a) {
  const __m256i h8 = _mm256_add_epi32(a.lo, a.hi);
  const __m128i h4 = _mm_add_epi32(_mm256_castsi256_si128(h8), _mm256_extracti128_si256(h8, 1));
  const __m128i h2 = _mm_add_epi32(h4, _mm_shuffle_epi32(h4, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(h2, _mm_shuffle_epi32(h2, 0xb1)));
}

inline void SumHalves16(const I* blocks, I* first, I* second) {
  int8_t codes[16 * 32];
  std::memcpy(codes, blocks, sizeof(codes));
  int32_t sums[2][16];
  for (int i = 0; i < 32; ++i) {
    // As unsigned bytes, each 128 too large, which vpsadbw adds up by eight.
    const __m128i half = _mm_loadu_si128(reinterpret_cast<const __m128i*>(codes + 16 * i));
    const __m128i eights = _mm_sad_epu8(_mm_xor_si128(half, _mm_set1_epi8(-128)), _mm_setzero_si128());
    sums[i % 2][i / 2] = _mm_cvtsi128_si32(eights) + _mm_extract_epi32(eights, 2) - 16 * 128;
  }
  *first = LoadI(sums[0]);
  *second = LoadI(sums[1]);
}

inline void Prefetch(const void* p) { _mm_prefetch(static_cast<const char*>(p), _MM_HINT_T0); }

}  // namespace coterie::cpu::avx2

#endif  // COTERIE_KERNELS_CPU_ISA_SIMD_AVX2_H_
