#ifndef COTERIE_TESTS_GPU_BENCH_VENDOR_PRODUCT_H_
#define COTERIE_TESTS_GPU_BENCH_VENDOR_PRODUCT_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "common/status.h"

namespace coterie::gpu {

// Products by cuBLASLt, which is opened at run time: what a benchmark is measured against. Its interface is
// written out here, so that nothing needs its header; vendor_product_check.cc compares where there is one.
class VendorProduct {
 public:
  // NotFound naming what was tried.
  static StatusOr<std::unique_ptr<VendorProduct>> Open();
  ~VendorProduct();

  // y [m, n] = x [m, k] · w [n, k]ᵀ, bfloat16 with float32 sums.
  struct Shape {
    int64_t m = 0, n = 0, k = 0;
  };
  // Algorithms that the library proposes for a shape, best first; its buffers are the caller's.
  static constexpr size_t kWorkspaceBytes = size_t{64} << 20;
  Status Prepare(const Shape& shape);
  int n_algorithms() const { return static_cast<int>(algorithms_.size()); }
  Status Run(int algorithm, const void* x, const void* w, void* y, void* workspace, cudaStream_t stream);

  // --- The part of cublasLt.h that is used ---
  struct Algorithm {
    uint64_t data[8];
    size_t workspace_bytes;
    int state;
    float waves;
    int reserved[4];
  };
  static constexpr int kCompute32F = 68, kReal32F = 0, kRealBf16 = 14, kOpTransposed = 1;
  static constexpr int kTransposeA = 3, kMaxWorkspaceBytes = 1;

 private:
  struct Functions;
  VendorProduct() = default;

  std::unique_ptr<Functions> functions_;
  void* handle_ = nullptr;
  std::vector<Algorithm> algorithms_;
  void* description_ = nullptr;
  void* layouts_[3] = {};  // w, x, y
};

}  // namespace coterie::gpu

#endif  // COTERIE_TESTS_GPU_BENCH_VENDOR_PRODUCT_H_
