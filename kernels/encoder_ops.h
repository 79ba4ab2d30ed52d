#ifndef COTERIE_KERNELS_ENCODER_OPS_H_
#define COTERIE_KERNELS_ENCODER_OPS_H_

#include <cstdint>
#include <span>

#include "kernels/device.h"
#include "kernels/linear_input.h"

namespace coterie {

// What an encoder (BERT) asks of a device: rows are the tokens of all texts one after the other. The contract
// of all ops: device.h.
class EncoderOps : public virtual Device {
 public:
  // y [rows, n_out] = x [rows, n_in] · wᵀ (+ bias [n_out]); with `accumulate`, y += that product.
  virtual void Linear(const LinearInput& x, int rows, const PackedMatrix& w, const DeviceBuffer* bias,
                      bool accumulate, float* y_dev) = 0;

  // y = (x + residual - mean) / sqrt(var + eps) * weight + bias; residual may be null. y may be x.
  virtual void LayerNorm(const float* x_dev, const float* residual_dev, const DeviceBuffer& weight,
                         const DeviceBuffer& bias, float eps, int rows, int d, float* y_dev) = 0;
  // out [rows, n_heads · head_dim]: attention of every token over all tokens of its own text.
  // qkv [rows, 3 · n_heads · head_dim]; cu_seqlens [n_texts + 1] on the host.
  virtual void FullAttention(const float* qkv_dev, std::span<const int32_t> cu_seqlens, int n_heads,
                             int head_dim, float* out_dev) = 0;
  // y [n_texts, d] = mean over each text's rows, divided by its Euclidean norm.
  virtual void MeanPoolNormalize(const float* x_dev, std::span<const int32_t> cu_seqlens, int d,
                                 float* y_dev) = 0;
};

}  // namespace coterie

#endif  // COTERIE_KERNELS_ENCODER_OPS_H_
