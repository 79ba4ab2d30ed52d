#include <cstring>

#include "common/check.h"
#include "kernels/cpu/cpu_backend.h"

// Ops over single rows, cut into ranges; what one range computes is in isa/rows.h.
namespace coterie::cpu {

void CpuBackend::Embed(const StepContext& step, const PackedMatrix& table, float scale, float* x_dev) {
  const CpuMatrix& matrix = static_cast<const CpuMatrix&>(table);
  const std::span<const int32_t> ids = static_cast<const CpuStep&>(step).plan().token_ids();
  const int64_t d = matrix.n_in();
  ForRows(static_cast<int>(ids.size()), 4 * d, [&](int begin, int end, int) {
    for (int t = begin; t < end; ++t) {
      const int32_t id = ids[static_cast<size_t>(t)];
      COTERIE_CHECK(id >= 0 && id < matrix.n_out()) << "token id " << id << " of " << matrix.n_out();
      float* const x = x_dev + t * d;
      matrix.DequantiseRow(id, x);
      for (int64_t i = 0; scale != 1 && i < d; ++i) x[i] *= scale;
    }
  });
}

void CpuBackend::RmsNorm(const float* x_dev, const DeviceBuffer& weight, float eps, int rows, int d,
                         float* y_dev) {
  ForRows(rows, d, [&](int begin, int end, int) {
    const int64_t at = static_cast<int64_t>(begin) * d;
    kernels_->rms_norm(x_dev + at, weight.data(), eps, end - begin, d, y_dev + at);
  });
}

void CpuBackend::AddRmsNorm(const float* x_dev, const DeviceBuffer& weight, float eps, int rows, int d,
                            float* y_dev) {
  ForRows(rows, 2 * static_cast<int64_t>(d), [&](int begin, int end, int) {
    const int64_t at = static_cast<int64_t>(begin) * d;
    kernels_->add_rms_norm(x_dev + at, weight.data(), eps, end - begin, d, y_dev + at);
  });
}

void CpuBackend::LayerNorm(const float* x_dev, const float* residual_dev, const DeviceBuffer& weight,
                           const DeviceBuffer& bias, float eps, int rows, int d, float* y_dev) {
  ForRows(rows, d, [&](int begin, int end, int) {
    const int64_t at = static_cast<int64_t>(begin) * d;
    kernels_->layer_norm(x_dev + at, residual_dev == nullptr ? nullptr : residual_dev + at, weight.data(),
                         bias.data(), eps, end - begin, d, y_dev + at);
  });
}

void CpuBackend::SwiGlu(const float* gate_up_dev, int rows, int f, float* h_dev) {
  ForRows(rows, 4 * static_cast<int64_t>(f), [&](int begin, int end, int) {
    const int64_t at = static_cast<int64_t>(begin) * f;
    kernels_->swiglu(gate_up_dev + 2 * at, end - begin, f, h_dev + at);
  });
}

void CpuBackend::GeGlu(const float* gate_up_dev, int rows, int f, float* h_dev) {
  ForRows(rows, 4 * static_cast<int64_t>(f), [&](int begin, int end, int) {
    const int64_t at = static_cast<int64_t>(begin) * f;
    kernels_->geglu(gate_up_dev + 2 * at, end - begin, f, h_dev + at);
  });
}

void CpuBackend::Gelu(float* x_dev, int rows, int d) {
  ForRows(rows, 4 * static_cast<int64_t>(d), [&](int begin, int end, int) {
    float* x = x_dev + static_cast<int64_t>(begin) * d;
    kernels_->gelu(x, end - begin, d, x);
  });
}

void CpuBackend::MeanPoolNormalize(const float* x_dev, std::span<const int32_t> cu_seqlens, int d,
                                   float* y_dev) {
  for (size_t i = 0; i + 1 < cu_seqlens.size(); ++i) {
    const int rows = cu_seqlens[i + 1] - cu_seqlens[i];
    COTERIE_CHECK(rows > 0) << "text " << i << " has no tokens";
    kernels_->mean_pool_normalize(x_dev + static_cast<int64_t>(cu_seqlens[i]) * d, rows, d,
                                  y_dev + static_cast<int64_t>(i) * d);
  }
}

void CpuBackend::GatherLogitRows(const StepContext& step, const float* x_dev, int d, float* y_dev) {
  const std::vector<int32_t>& rows = static_cast<const CpuStep&>(step).batch().logit_rows;
  for (size_t i = 0; i < rows.size(); ++i) {
    std::memcpy(y_dev + static_cast<int64_t>(i) * d, x_dev + static_cast<int64_t>(rows[i]) * d,
                static_cast<size_t>(d) * sizeof(float));
  }
}

}  // namespace coterie::cpu
