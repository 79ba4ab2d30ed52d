#ifndef COTERIE_KERNELS_CUDA_MATRIX_H_
#define COTERIE_KERNELS_CUDA_MATRIX_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "kernels/cuda/memory.h"
#include "kernels/device.h"

namespace coterie::cuda {

// How the rows of a segment are held on the device.
//   kBf16: as they are. kPair: two bfloat16 that add up to the value (F16 exactly, F32 to 2^-17).
//   kFp8: E4M3 with a scale for each row.
//   kBlocks32: codes of 4 or 8 bits in blocks of 32 with a scale and, where the format has one, a minimum.
// (matrix.cc says which file formats become which, and how codes and scales lie in memory.)
enum class WeightForm : uint8_t {
  kBf16,
  kPair,
  kFp8,
  kCodes8,
  kCodes4,
  kCodes4Min,
  kCodes8Min,
  kQ4K,
  kQ5K,
  kQ6K
};

// Consecutive outputs of a matrix that are held alike.
struct WeightSegment {
  WeightForm form = WeightForm::kBf16;
  int64_t first_out = 0;
  int64_t n_out = 0;
  const uint8_t* codes = nullptr;   // device
  const uint8_t* scales = nullptr;  // device
};

class CudaMatrix final : public PackedMatrix {
 public:
  int64_t n_out() const override { return n_out_; }
  int64_t n_in() const override { return n_in_; }
  size_t bytes() const override { return memory_.bytes(); }
  bool quantised() const override { return quantised_; }
  std::span<const WeightSegment> segments() const { return segments_; }

 private:
  friend class MatrixPacker;
  int64_t n_out_ = 0, n_in_ = 0;
  bool quantised_ = false;
  std::vector<WeightSegment> segments_;
  DeviceMemory memory_;
};

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_MATRIX_H_
