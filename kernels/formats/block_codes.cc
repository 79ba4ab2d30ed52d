#include "kernels/formats/block_codes.h"

#include "common/check.h"
#include "kernels/formats/half.h"

// The layouts: ggml/src/ggml-common.h of the llama.cpp project and the quants module of the `gguf` package.
namespace coterie {
namespace {

void SetHalfScale(BlockCodes* to, uint16_t d) {
  to->d_half = d;
  to->d[0] = to->d[1] = HalfToFloat(d);
}

// 32 nibbles: the first 16 values low, the last 16 high.
void ReadNibbles(const uint8_t* p, uint8_t* code) {
  for (int i = 0; i < 16; ++i) {
    code[i] = p[i] & 0x0f;
    code[i + 16] = p[i] >> 4;
  }
}

void AddFifthBits(const uint8_t* p, uint8_t* code) {
  const uint32_t bits = LoadU32(p);
  for (int i = 0; i < 32; ++i) code[i] = static_cast<uint8_t>(code[i] | ((bits >> i & 1) << 4));
}

// The j-th of 8 six-bit (scale, minimum) pairs in the 12 bytes of Q4_K and Q5_K.
void ReadScaleMin(const uint8_t* p, int j, int* scale, int* min) {
  if (j < 4) {
    *scale = p[j] & 63;
    *min = p[j + 4] & 63;
  } else {
    *scale = (p[j + 4] & 15) | (p[j - 4] >> 6) << 4;
    *min = (p[j + 4] >> 4) | (p[j] >> 6) << 4;
  }
}

// The j-th of 16 six-bit scales in the 12 bytes of Q3_K: low nibbles in eight bytes, high pairs in four.
int ReadSixBitScale(const uint8_t* p, int j) {
  const int low = j < 8 ? p[j] & 15 : p[j - 8] >> 4;
  return low | (p[8 + j % 4] >> (2 * (j / 4)) & 3) << 4;
}

// What the nibbles of IQ4_NL stand for.
constexpr int8_t kUnequalSteps[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                      1,    13,   25,  38,  53,  69,  89,  113};

// Sub-block `sub` of 32 in a super-block of 256: 64-value groups share 32 bytes, low nibbles first.
void ReadKNibbles(const uint8_t* p, int sub, uint8_t* code) {
  const uint8_t* q = p + sub / 2 * 32;
  for (int i = 0; i < 32; ++i) code[i] = sub % 2 == 0 ? q[i] & 0x0f : q[i] >> 4;
}

void SetKScales(BlockCodes* to, const uint8_t* super, int sub) {
  int scale, min;
  ReadScaleMin(super + 4, sub, &scale, &min);
  to->d_half = LoadU16(super);
  to->m_half = LoadU16(super + 2);
  to->d_factor[0] = to->d_factor[1] = static_cast<int8_t>(scale);
  to->m_factor = static_cast<int8_t>(min);
  to->d[0] = to->d[1] = HalfToFloat(to->d_half) * static_cast<float>(scale);
  to->m = -(HalfToFloat(to->m_half) * static_cast<float>(min));
}

}  // namespace

BlockCodes ReadBlock(DType dtype, const uint8_t* row, int64_t block) {
  BlockCodes to = {};
  const int64_t per_block = BlockElements(dtype) / 32;
  const uint8_t* p = row + block / per_block * BlockBytes(dtype);
  const int sub = static_cast<int>(block % per_block);
  switch (dtype) {
    case DType::kQ8_0:
      SetHalfScale(&to, LoadU16(p));
      for (int i = 0; i < 32; ++i) to.code[i] = static_cast<uint8_t>(p[2 + i] ^ 0x80);  // + 128
      return to;
    case DType::kQ4_0:
      SetHalfScale(&to, LoadU16(p));
      ReadNibbles(p + 2, to.code);
      return to;
    case DType::kQ4_1:
      SetHalfScale(&to, LoadU16(p));
      to.m_half = LoadU16(p + 2);
      to.m = HalfToFloat(to.m_half);
      ReadNibbles(p + 4, to.code);
      return to;
    case DType::kQ5_0:  // d · (u - 16), stored as a Q8_0 panel: u - 16 + 128
      SetHalfScale(&to, LoadU16(p));
      ReadNibbles(p + 6, to.code);
      AddFifthBits(p + 2, to.code);
      for (uint8_t& c : to.code) c = static_cast<uint8_t>(c + 112);
      return to;
    case DType::kQ5_1:
      SetHalfScale(&to, LoadU16(p));
      to.m_half = LoadU16(p + 2);
      to.m = HalfToFloat(to.m_half);
      ReadNibbles(p + 8, to.code);
      AddFifthBits(p + 4, to.code);
      return to;
    case DType::kQ4_K:
      SetKScales(&to, p, sub);
      ReadKNibbles(p + 16, sub, to.code);
      return to;
    case DType::kQ5_K:
      SetKScales(&to, p, sub);
      ReadKNibbles(p + 48, sub, to.code);
      for (int i = 0; i < 32; ++i) {
        to.code[i] = static_cast<uint8_t>(to.code[i] | ((p[16 + i] >> sub & 1) << 4));
      }
      return to;
    case DType::kQ6_K: {
      // 256 values: per 128, 64 bytes of low nibbles and 32 bytes of high bit pairs; 16 int8 scales; d last.
      const int half = sub / 4;
      const int quarter = sub % 4;
      const uint8_t* low = p + 64 * half + 32 * (quarter % 2);
      const uint8_t* high = p + 128 + 32 * half;
      const int8_t* scales = reinterpret_cast<const int8_t*>(p + 192);
      to.d_half = LoadU16(p + 208);
      const float d = HalfToFloat(to.d_half);
      for (int i = 0; i < 32; ++i) {
        const int nibble = quarter < 2 ? low[i] & 0x0f : low[i] >> 4;
        const int pair = high[i] >> (2 * quarter) & 3;
        to.code[i] = static_cast<uint8_t>((nibble | pair << 4) - 32 + 128);
      }
      for (int i = 0; i < 2; ++i) {
        to.d_factor[i] = scales[2 * sub + i];
        to.d[i] = d * static_cast<float>(to.d_factor[i]);
      }
      return to;
    }
    case DType::kQ3_K: {
      // 256 values: sub-block `sub` has bit `sub` of 32 bytes (0: less four) over a pair of bits of 64 bytes.
      const uint8_t* pairs = p + 32 + 32 * (sub / 4);
      to.d_half = LoadU16(p + 108);
      const float d = HalfToFloat(to.d_half);
      for (int i = 0; i < 32; ++i) {
        const int pair = pairs[i] >> (2 * (sub % 4)) & 3;
        const int less = (p[i] >> sub & 1) != 0 ? 0 : 4;
        to.code[i] = static_cast<uint8_t>(pair - less + 128);
      }
      for (int i = 0; i < 2; ++i) {
        to.d_factor[i] = static_cast<int8_t>(ReadSixBitScale(p + 96, 2 * sub + i) - 32);
        to.d[i] = d * static_cast<float>(to.d_factor[i]);
      }
      return to;
    }
    case DType::kIQ4_NL:  // a Q8_0 block of sixteen different codes
      SetHalfScale(&to, LoadU16(p));
      ReadNibbles(p + 2, to.code);
      for (uint8_t& c : to.code) c = static_cast<uint8_t>(kUnequalSteps[c] + 128);
      return to;
    default:
      COTERIE_CHECK(false) << "not a quantised type: " << DTypeName(dtype);
  }
  return to;
}

}  // namespace coterie
