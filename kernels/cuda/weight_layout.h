#ifndef COTERIE_KERNELS_CUDA_WEIGHT_LAYOUT_H_
#define COTERIE_KERNELS_CUDA_WEIGHT_LAYOUT_H_

#include <cstdint>

namespace coterie::cuda {

// How weights lie in device memory. Sixteen outputs are a strip, the M side of an mma.m16n8k16; outputs and
// inputs are filled up with zeros to whole strips and records.
//
// kBf16: rows of bfloat16 [outputs, inputs], as in files. A record is 64 inputs of a strip.
// kF16:  the same of binary16; kernels split each into two bfloat16 that add up to it.
// kPair: two planes of kBf16, one behind the other, whose values add up to the weight: F32 to 2^-17.
// All others: records of 128 inputs of a strip, strip by strip, each record in one piece: codes as the lanes
// of a warp want them (CodePlace), then the scales. Value = d · code (+ m):
//   kFp8:       E4M3; d is one float for an output, in a plane of its own.
//   kCodes8:    signed codes of 8 bits, blocks of 32 with d in binary16.             Q8_0
//   kCodes5:    codes of 5 bits less 16, blocks of 32 with d in binary16.            Q5_0
//   kCodes5Min: codes of 5 bits, blocks of 32 with d and m in binary16.              Q5_1
//   kCodes4:    codes of 4 bits less 8, blocks of 32 with d in binary16.             Q4_0
//   kCodes4Min: codes of 4 bits, blocks of 32 with d and m in binary16.              Q4_1
//   kQ4K, kQ5K: codes of 4 or 5 bits, blocks of 32 with d = D · s and m = -(M · n);
//               s and n are 6-bit numbers, D and M binary16, stored once a record.
//   kQ6K:       codes of 6 bits less 32, blocks of 16 with d = D · s; s is an int8.
// None takes 3 % more than its file: D and M stand twice for 256 weights, 148 bytes where Q4_K has 144.
enum class WeightForm : uint8_t {
  kBf16,
  kF16,
  kPair,
  kFp8,
  kCodes8,
  kCodes5,
  kCodes5Min,
  kCodes4,
  kCodes4Min,
  kQ4K,
  kQ5K,
  kQ6K,
};
constexpr int kWeightFormCount = 12;

constexpr int kStripOutputs = 16;
constexpr int kBlockInputs = 32;  // of a quantised block; what two mma take

// Rows of bfloat16, which a library multiplies as they are.
constexpr bool IsRowMajor(WeightForm form) { return form == WeightForm::kBf16 || form == WeightForm::kPair; }
constexpr bool LiesInRows(WeightForm form) { return IsRowMajor(form) || form == WeightForm::kF16; }
constexpr int StoredPlanes(WeightForm form) { return form == WeightForm::kPair ? 2 : 1; }
constexpr bool IsQuantised(WeightForm form) { return !LiesInRows(form) && form != WeightForm::kFp8; }
constexpr int RecordInputs(WeightForm form) { return LiesInRows(form) ? 64 : 128; }
constexpr int64_t Records(WeightForm form, int64_t n_in) {
  return (n_in + RecordInputs(form) - 1) / RecordInputs(form);
}
constexpr int64_t PaddedInputs(WeightForm form, int64_t n_in) {
  return Records(form, n_in) * RecordInputs(form);
}
constexpr int64_t Strips(int64_t n_out) { return (n_out + kStripOutputs - 1) / kStripOutputs; }

// Bytes of a record's codes, and where its scales begin.
constexpr int CodeBytes(WeightForm form) {
  switch (form) {
    case WeightForm::kPair:
      return 4096;
    case WeightForm::kBf16:
    case WeightForm::kF16:
    case WeightForm::kFp8:
    case WeightForm::kCodes8:
      return 2048;
    case WeightForm::kCodes4:
    case WeightForm::kCodes4Min:
    case WeightForm::kQ4K:
      return 1024;
    case WeightForm::kCodes5:
    case WeightForm::kCodes5Min:
    case WeightForm::kQ5K:
      return 1024 + 256;
    case WeightForm::kQ6K:
      return 1024 + 512;
  }
  return 0;
}
// Bytes of scales of one output in a record.
//   kCodes8, kCodes5, kCodes4: d [4] of the blocks
//   kCodes5Min, kCodes4Min:    d [4], m [4]
//   kQ4K, kQ5K:                s and n of 4 blocks, D, M: see FactorsLow
//   kQ6K:                      s [8]; behind those of all outputs, D of each
constexpr int ScaleBytesOfOutput(WeightForm form) {
  switch (form) {
    case WeightForm::kCodes8:
    case WeightForm::kCodes5:
    case WeightForm::kCodes4:
      return 8;
    case WeightForm::kCodes5Min:
    case WeightForm::kCodes4Min:
      return 16;
    case WeightForm::kQ4K:
    case WeightForm::kQ5K:
      return 10;
    case WeightForm::kQ6K:
      return 8 + 2;
    default:
      return 0;
  }
}
constexpr int RecordBytes(WeightForm form) {
  return CodeBytes(form) + kStripOutputs * ScaleBytesOfOutput(form);
}

// Codes and scales of one strip, all its records.
constexpr int64_t StripBytes(WeightForm form, int64_t n_in) {
  return Records(form, n_in) * RecordBytes(form);
}
// A segment of n_out outputs, with kFp8's plane of scales.
constexpr int64_t SegmentBytes(WeightForm form, int64_t n_out, int64_t n_in) {
  const int64_t strips = Strips(n_out);
  return strips * StripBytes(form, n_in) + (form == WeightForm::kFp8 ? strips * kStripOutputs * 4 : 0);
}

// Where the code of output `m` of a strip (0 to 15) at input `k` of a record (0 to 127) is. A lane holds, of
// outputs lane / 4 and lane / 4 + 8 and of each block of 32 inputs, the 8 codes that it gives to two mma: two
// in each of the registers a0, a2 of the first and a0, a2 of the second (of the upper outputs a1 and a3).
// Those are 8 neighbours, so that the same lane finds its 8 inputs in 16 bytes of x; in kQ6K 4 neighbours in
// each half of the block, whose scales differ.
struct CodePlace {
  int lane = 0;
  int half = 0;   // outputs 0 to 7 or 8 to 15
  int block = 0;  // of 32
  int reg = 0;    // 0 to 3
  int element = 0;
};
constexpr CodePlace PlaceOf(WeightForm form, int m, int k) {
  CodePlace place;
  const int in_block = k % kBlockInputs;
  int t = in_block / 8;
  if (form == WeightForm::kQ6K) {
    t = in_block % 16 / 4;
    place.reg = in_block / 16 * 2 + in_block % 4 / 2;
  } else {
    place.reg = in_block % 8 / 2;
  }
  place.lane = m % 8 * 4 + t;
  place.half = m / 8;
  place.block = k / kBlockInputs;
  place.element = in_block % 2;
  return place;
}

// The byte of a code of 8 bits. A word holds four codes: the even bytes are one register, the odd ones the
// next.
constexpr int CodeByte8(const CodePlace& p) {
  return (p.half * 2 + p.block / 2) * 512 + p.lane * 16 + p.block % 2 * 8 + p.reg / 2 * 4 + p.element * 2 +
         p.reg % 2;
}
// The word (by its byte) and the bit where a nibble begins: register r is (word >> 4 r) & 0x000F000F.
constexpr int NibbleWord(const CodePlace& p) { return p.half * 512 + p.lane * 16 + p.block * 4; }
constexpr int NibbleBit(const CodePlace& p) { return p.element * 16 + p.reg * 4; }
// The fifth bit of kCodes5, kCodes5Min and kQ5K: (word >> (4 block + r)) & 0x00010001.
constexpr int FifthWord(const CodePlace& p) { return 1024 + p.lane * 8 + p.half * 4; }
constexpr int FifthBit(const CodePlace& p) { return p.element * 16 + p.block * 4 + p.reg; }
// kQ6K's upper two: (word >> (8 (block % 2) + 2 r)) & 0x00030003.
constexpr int SixthWord(const CodePlace& p) { return 1024 + p.lane * 16 + (p.half * 2 + p.block / 2) * 4; }
constexpr int SixthBit(const CodePlace& p) { return p.element * 16 + p.block % 2 * 8 + p.reg * 2; }

// The scales of kQ4K and kQ5K, in bytes from where scales begin: for each output a word and, behind the words
// of D (its lower half) and M, a half-word, together 48 bits: s of block b from bit 12 b on, n six bits
// behind it. Neighbouring outputs have neighbouring words, so that lanes meet in no bank.
constexpr int FactorsLow(int m) { return m * 4; }
constexpr int SuperScales(int m) { return kStripOutputs * 4 + m * 4; }
constexpr int FactorsHigh(int m) { return kStripOutputs * 8 + m * 2; }
constexpr uint32_t FactorsOfBlock(uint32_t low, uint32_t high, int block) {
  return static_cast<uint32_t>((uint64_t{high} << 32 | low) >> 12 * block);
}
constexpr uint32_t ScaleFactor(uint32_t factors) { return factors & 63; }
constexpr uint32_t MinimumFactor(uint32_t factors) { return factors >> 6 & 63; }

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_WEIGHT_LAYOUT_H_
