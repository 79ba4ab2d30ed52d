#ifndef COTERIE_KERNELS_CUDA_VENDOR_PRODUCT_H_
#define COTERIE_KERNELS_CUDA_VENDOR_PRODUCT_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "common/status.h"
#include "kernels/cuda/vendor_library.h"

namespace coterie::cuda {

// cuBLASLt on the device that is current when it is opened.
class VendorHandle {
 public:
  // NotFound, FailedPrecondition: VendorLibrary::Open. Internal where the library cannot use the device.
  static StatusOr<std::unique_ptr<VendorHandle>> Open();
  ~VendorHandle();
  VendorHandle(const VendorHandle&) = delete;
  VendorHandle& operator=(const VendorHandle&) = delete;

  const VendorLibrary& library() const { return library_; }
  void* get() const { return handle_; }

 private:
  explicit VendorHandle(const VendorLibrary& library) : library_(library) {}
  const VendorLibrary library_;
  void* handle_ = nullptr;
};

// Products y [m, n] = x [m, k] · w [n, k]ᵀ by cuBLASLt, of one shape of weights and any m: bfloat16, sums in
// float32. One thread.
class VendorProduct {
 public:
  struct Shape {
    int64_t n = 0, k = 0;
    int64_t w_pitch = 0, x_pitch = 0, y_pitch = 0;                     // values from one row to the next
    bool float_y = false;                                              // else bfloat16
    uint32_t w_alignment = 256, x_alignment = 256, y_alignment = 256;  // bytes, of what Run is given
  };

  // Borrows the handle.
  static StatusOr<std::unique_ptr<VendorProduct>> Create(const VendorHandle* handle, const Shape& shape);

  // Algorithms that the library proposes for `m` rows, best first; none: it has none.
  struct Terms {
    int64_t m = 0;
    size_t workspace_bytes = 0;  // at most
    bool one_pass = false;       // K is summed by one block, not by several whose sums are added afterwards
    int most = 8;
  };
  StatusOr<std::vector<VendorLibrary::Proposal>> Propose(const Terms& terms);
  // Whether an algorithm that was proposed for other rows can compute `m`.
  bool Fits(const VendorLibrary::Proposal& proposal, int64_t m, size_t workspace_bytes);
  // With `accumulate`, y += the product (y is float32 then).
  Status Run(const VendorLibrary::Proposal& proposal, int64_t m, const void* x, const void* w,
             bool accumulate, void* y, void* workspace, size_t workspace_bytes, cudaStream_t stream);

 private:
  using Object = std::unique_ptr<void, int (*)(void*)>;
  VendorProduct(const VendorHandle* handle, const Shape& shape)
      : handle_(handle), library_(handle->library()), shape_(shape) {}
  Status SetRows(int64_t m);
  bool SumsInOnePass(const VendorLibrary::Proposal& proposal) const;

  const VendorHandle* const handle_;
  const VendorLibrary& library_;
  const Shape shape_;
  int64_t m_ = 0;  // that the layouts say
  Object description_{nullptr, nullptr}, w_{nullptr, nullptr}, x_{nullptr, nullptr}, y_{nullptr, nullptr};
};

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_VENDOR_PRODUCT_H_
