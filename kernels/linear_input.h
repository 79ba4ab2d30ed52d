#ifndef COTERIE_KERNELS_LINEAR_INPUT_H_
#define COTERIE_KERNELS_LINEAR_INPUT_H_

#include <cstdint>

#include "kernels/device.h"

namespace coterie {

// What a product reads: rows of x, or how they are made of x by an op of the same name. A backend that makes
// them on the way writes them to `floats_dev` only where something needs them as floats; LayerNorm's rows
// always, since after it they are the residual stream, too.
struct LinearInput {
  enum class Made : uint8_t { kAsIs, kRmsNorm, kSwiGlu, kLayerNorm, kGelu };

  // x [rows, n_in].
  LinearInput(const float* x_dev) : x_dev(x_dev) {}  // NOLINT(google-explicit-constructor)
  // x [rows, n_in].
  static LinearInput RmsNorm(const float* x_dev, const DeviceBuffer& weight, float eps, float* floats_dev) {
    return {Made::kRmsNorm, x_dev, &weight, nullptr, eps, floats_dev};
  }
  // gate_up [rows, 2 n_in].
  static LinearInput SwiGlu(const float* gate_up_dev, float* floats_dev) {
    return {Made::kSwiGlu, gate_up_dev, nullptr, nullptr, 0, floats_dev};
  }
  // x [rows, n_in], without a residual; made in place.
  static LinearInput LayerNorm(float* x_dev, const DeviceBuffer& weight, const DeviceBuffer& bias,
                               float eps) {
    return {Made::kLayerNorm, x_dev, &weight, &bias, eps, x_dev};
  }
  // x [rows, n_in]; afterwards it holds its old values or those of the op.
  static LinearInput Gelu(float* x_dev) { return {Made::kGelu, x_dev, nullptr, nullptr, 0, x_dev}; }

  Made made = Made::kAsIs;
  const float* x_dev = nullptr;
  const DeviceBuffer* weight = nullptr;  // [n_in], of norms
  const DeviceBuffer* bias = nullptr;    // [n_in], of LayerNorm
  float eps = 0;                         // of norms
  float* floats_dev = nullptr;           // [rows, n_in]; null for kAsIs

 private:
  LinearInput(Made made, const float* x_dev, const DeviceBuffer* weight, const DeviceBuffer* bias, float eps,
              float* floats_dev)
      : made(made), x_dev(x_dev), weight(weight), bias(bias), eps(eps), floats_dev(floats_dev) {}
};

}  // namespace coterie

#endif  // COTERIE_KERNELS_LINEAR_INPUT_H_
