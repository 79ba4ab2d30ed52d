#ifndef COTERIE_KERNELS_CPU_ISA_PANELS_H_
#define COTERIE_KERNELS_CPU_ISA_PANELS_H_

#include "kernels/cpu/kernel_table.h"

// The panel formats of kernel_table.h as parameters of the tiles in linear.h. A quantised format has
//   kVectors      vectors of 64 bytes per block (4: two codes to the byte, 8: one)
//   kOffset       what is subtracted from an unsigned code
//   kHasMin       w = d·u + m rather than d·(u - kOffset)
//   kGroups       scales per block along K
//   Scale/Min(block)          the vectors of d and m
//   Codes(block)              where the codes begin
namespace coterie::cpu::COTERIE_ISA {

template <int kCodeVectors, bool kHalfScales, bool kMin, int kCodeOffset, int kScaleGroups>
struct PanelFormat {
  static constexpr int kVectors = kCodeVectors;
  static constexpr bool kNibbles = kCodeVectors == 4;
  static constexpr bool kHasMin = kMin;
  static constexpr int kOffset = kCodeOffset;
  static constexpr int kGroups = kScaleGroups;
  static constexpr int kScaleBytes = (kHalfScales ? 32 : 64) * ((kMin ? 2 : 1) + kScaleGroups - 1);
  static constexpr int kBlockBytes = kScaleBytes + 64 * kCodeVectors;

  static F LoadScales(const uint8_t* p) {
    if constexpr (kHalfScales) {
      return LoadF16(reinterpret_cast<const uint16_t*>(p));
    } else {
      return Load(reinterpret_cast<const float*>(p));
    }
  }
  static F Scale(const uint8_t* block, int group) {
    return LoadScales(block + (kHalfScales ? 32 : 64) * group);
  }
  static F Min(const uint8_t* block) { return LoadScales(block + (kHalfScales ? 32 : 64)); }
  static const uint8_t* Codes(const uint8_t* block) { return block + kScaleBytes; }
};

using Q4_1Panel = PanelFormat<4, true, true, 0, 1>;
using Q4_0Panel = PanelFormat<4, true, false, 8, 1>;
using Q8_0Panel = PanelFormat<8, true, false, 128, 1>;
using Q4FPanel = PanelFormat<4, false, true, 0, 1>;
using Q8FPanel = PanelFormat<8, false, true, 0, 1>;
using Q6_KPanel = PanelFormat<8, false, false, 128, 2>;

struct F32Panel {
  static constexpr int kVectorBytes = 64;
  static F Weights(const uint8_t* p) { return Load(reinterpret_cast<const float*>(p)); }
};
struct Bf16Panel {
  static constexpr int kVectorBytes = 32;
  static F Weights(const uint8_t* p) { return LoadBf16(reinterpret_cast<const uint16_t*>(p)); }
};
struct F16Panel {
  static constexpr int kVectorBytes = 32;
  static F Weights(const uint8_t* p) { return LoadF16(reinterpret_cast<const uint16_t*>(p)); }
};

}  // namespace coterie::cpu::COTERIE_ISA

#endif  // COTERIE_KERNELS_CPU_ISA_PANELS_H_
