#ifndef COTERIE_KERNELS_LINEAR_INPUT_H_
#define COTERIE_KERNELS_LINEAR_INPUT_H_

#include <cstdint>

#include "kernels/device.h"

namespace coterie {

// The input operand of a product: rows of x as they are, or rows that an op computes from x first. A backend
// fuses that op into the product and writes its rows to `floats_dev` only where something reads them as
// floats; those of LayerNorm always, since they are the residual stream, too.
struct LinearInput {
  enum class Op : uint8_t { kNone, kRmsNorm, kSwiGlu, kGeGlu, kLayerNorm, kGelu };

  // x [rows, n_in].
  LinearInput(const float* x_dev) : x_dev(x_dev) {}  // NOLINT(google-explicit-constructor)
  // x [rows, n_in].
  static LinearInput RmsNorm(const float* x_dev, const DeviceBuffer& weight, float eps, float* floats_dev) {
    return {Op::kRmsNorm, x_dev, &weight, nullptr, eps, floats_dev};
  }
  // gate_up [rows, 2 n_in]; `gate` is kSwiGlu (silu(gate) · up) or kGeGlu (tanh's approximation of gelu).
  static LinearInput Gated(Op gate, const float* gate_up_dev, float* floats_dev) {
    return {gate, gate_up_dev, nullptr, nullptr, 0, floats_dev};
  }
  // x [rows, n_in], without a residual; computed in place.
  static LinearInput LayerNorm(float* x_dev, const DeviceBuffer& weight, const DeviceBuffer& bias,
                               float eps) {
    return {Op::kLayerNorm, x_dev, &weight, &bias, eps, x_dev};
  }
  // x [rows, n_in], which holds its old values or the results afterwards.
  static LinearInput Gelu(float* x_dev) { return {Op::kGelu, x_dev, nullptr, nullptr, 0, x_dev}; }

  Op op = Op::kNone;
  const float* x_dev = nullptr;
  const DeviceBuffer* weight = nullptr;  // [n_in], of norms
  const DeviceBuffer* bias = nullptr;    // [n_in], of LayerNorm
  float eps = 0;                         // of norms
  float* floats_dev = nullptr;           // [rows, n_in]; null for kNone

 private:
  LinearInput(Op op, const float* x_dev, const DeviceBuffer* weight, const DeviceBuffer* bias, float eps,
              float* floats_dev)
      : op(op), x_dev(x_dev), weight(weight), bias(bias), eps(eps), floats_dev(floats_dev) {}
};

}  // namespace coterie

#endif  // COTERIE_KERNELS_LINEAR_INPUT_H_
