#ifndef COTERIE_KERNELS_CUDA_MATRIX_H_
#define COTERIE_KERNELS_CUDA_MATRIX_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "common/status.h"
#include "kernels/cuda/memory.h"
#include "kernels/cuda/weight_layout.h"
#include "kernels/device.h"

namespace coterie::cuda {

// Consecutive outputs of a matrix that are held alike.
struct WeightSegment {
  WeightForm form = WeightForm::kBf16;
  int64_t first_out = 0;
  int64_t n_out = 0;
  int64_t n_in = 0;
  const uint8_t* codes = nullptr;        // device: see WeightForm
  const float* output_scales = nullptr;  // device [n_out], of kFp8
};

// What to make of weights that a file holds as floats. Quantised ones are always kept as they are.
enum class WeightChoice : uint8_t { kAsStored, kQ8_0, kFp8 };

// A weight matrix in device memory; every value is what the file's format says (kPair: F32 to 2^-17).
class CudaMatrix final : public PackedMatrix {
 public:
  int64_t n_out() const override { return n_out_; }
  int64_t n_in() const override { return n_in_; }
  size_t bytes() const override { return memory_.bytes(); }
  bool quantised() const override { return quantised_; }
  std::span<const WeightSegment> segments() const { return segments_; }

 private:
  friend StatusOr<std::unique_ptr<CudaMatrix>> PackMatrix(std::span<const HostMatrix> parts,
                                                          WeightChoice choice);
  int64_t n_out_ = 0, n_in_ = 0;
  bool quantised_ = false;
  std::vector<WeightSegment> segments_;
  DeviceMemory memory_;
};

// Packs the parts into one matrix, their outputs side by side, in bounded host memory. InvalidArgument naming
// the part that does not fit or, where `choice` rounds, a row that is not finite or too large;
// ResourceExhausted naming the bytes that were not there.
StatusOr<std::unique_ptr<CudaMatrix>> PackMatrix(std::span<const HostMatrix> parts, WeightChoice choice);
size_t MatrixBytes(DType dtype, int64_t n_out, int64_t n_in, WeightChoice choice);

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_MATRIX_H_
