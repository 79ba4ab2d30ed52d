#ifndef COTERIE_MODEL_LORA_LORA_MAGNITUDE_H_
#define COTERIE_MODEL_LORA_LORA_MAGNITUDE_H_

#include "model/format/tensor_view.h"

namespace coterie {

// A pair's update is scale · Σ_i b_i a_iᵀ over its ranks, a_i the rows of A and b_i the columns of B. Returns
// the largest |scale| · |a_i| · |b_i|: how far one of these terms can stretch an input. `a` [rank, n_in] and
// `b` [n_out, rank] are F32, F16 or BF16 and finite.
double LargestTerm(const TensorView& a, const TensorView& b, double scale);

// The limit of LargestTerm. Terms of trained adapters are below 100, those of the base's own matrices below
// 1e4. Above the limit, an input of length 1 leaves a layer with values so large that gate times up, and the
// squares of the next norm, overflow float32: the training diverged.
inline constexpr double kTermLimit = 1e12;

// Whether all values of a tensor are finite, and whether all are zero.
struct TensorValues {
  bool finite = true;
  bool zero = true;
};
// Reads every value of an F32, F16 or BF16 tensor once.
TensorValues InspectValues(const TensorView& tensor);

}  // namespace coterie

#endif  // COTERIE_MODEL_LORA_LORA_MAGNITUDE_H_
