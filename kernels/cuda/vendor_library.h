#ifndef COTERIE_KERNELS_CUDA_VENDOR_LIBRARY_H_
#define COTERIE_KERNELS_CUDA_VENDOR_LIBRARY_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/status.h"

namespace coterie::cuda {

// cuBLASLt, opened at run time: half a gigabyte that nobody has to have. The part of cublasLt.h that is used
// is written out here, so that nothing needs that header; vendor_check.cc compares where there is one.
struct VendorLibrary {
  // Opened anew in each call, which costs nothing after the first, and never closed. NotFound naming what was
  // tried and where to get it; FailedPrecondition for a library that lacks a function.
  static StatusOr<VendorLibrary> Open();

  // OK, or Internal with the library's own name of the error.
  Status Check(int status, std::string_view what) const;
  std::string Version() const;  // "13.1.0"

  struct Proposal {
    uint64_t algorithm[8];
    size_t workspace_bytes;
    int state;  // 0: can be used
    float waves;
    int reserved[4];
  };
  static constexpr int kNotSupported = 15;  // a status
  static constexpr int kCompute32F = 68, kReal32F = 0, kRealBf16 = 14, kOpTransposed = 1;
  static constexpr int kDescriptionTransposeA = 3;
  static constexpr int kLayoutColumns = 3;
  static constexpr int kPreferWorkspaceBytes = 1, kPreferReductions = 3, kPreferAlignmentA = 5,
                       kPreferAlignmentB = 6, kPreferAlignmentC = 7, kPreferAlignmentD = 8;
  static constexpr int kConfigSplits = 2, kConfigReduction = 3;
  static constexpr uint32_t kNoReduction = 0;

  // All but the first two return a status, 0 for success.
  size_t (*version)() = nullptr;
  const char* (*status_name)(int status) = nullptr;
  int (*create)(void** handle) = nullptr;
  int (*destroy)(void* handle) = nullptr;
  int (*description_create)(void** description, int compute, int scale) = nullptr;
  int (*description_destroy)(void* description) = nullptr;
  int (*description_set)(void* description, int attribute, const void* value, size_t bytes) = nullptr;
  int (*layout_create)(void** layout, int type, uint64_t rows, uint64_t columns, int64_t pitch) = nullptr;
  int (*layout_destroy)(void* layout) = nullptr;
  int (*layout_set)(void* layout, int attribute, const void* value, size_t bytes) = nullptr;
  int (*preference_create)(void** preference) = nullptr;
  int (*preference_destroy)(void* preference) = nullptr;
  int (*preference_set)(void* preference, int attribute, const void* value, size_t bytes) = nullptr;
  int (*propose)(void* handle, void* description, void* a, void* b, void* c, void* d, void* preference,
                 int most, Proposal* found, int* n_found) = nullptr;
  int (*check)(void* handle, void* description, void* a, void* b, void* c, void* d, const void* algorithm,
               Proposal* result) = nullptr;
  int (*config_get)(const void* algorithm, int attribute, void* value, size_t bytes,
                    size_t* written) = nullptr;
  int (*matmul)(void* handle, void* description, const void* alpha, const void* a, void* a_layout,
                const void* b, void* b_layout, const void* beta, const void* c, void* c_layout, void* d,
                void* d_layout, const void* algorithm, void* workspace, size_t workspace_bytes,
                cudaStream_t stream) = nullptr;
};

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_VENDOR_LIBRARY_H_
