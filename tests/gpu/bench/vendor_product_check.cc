// Where the vendor's header is, what vendor_product.h says of it is held against it. Not in a build that
// emulates: its own twins of the vendor's headers exclude these.
#include "tests/gpu/bench/vendor_product.h"

#if __has_include(<cublasLt.h>)
#include <cublasLt.h>

namespace coterie::gpu {

using Ours = VendorProduct::Algorithm;
using Theirs = cublasLtMatmulHeuristicResult_t;
static_assert(sizeof(Ours) == sizeof(Theirs));
static_assert(offsetof(Ours, data) == offsetof(Theirs, algo));
static_assert(offsetof(Ours, workspace_bytes) == offsetof(Theirs, workspaceSize));
static_assert(offsetof(Ours, state) == offsetof(Theirs, state));
static_assert(VendorProduct::kCompute32F == CUBLAS_COMPUTE_32F);
static_assert(VendorProduct::kReal32F == CUDA_R_32F && VendorProduct::kRealBf16 == CUDA_R_16BF);
static_assert(VendorProduct::kOpTransposed == CUBLAS_OP_T);
static_assert(VendorProduct::kTransposeA == CUBLASLT_MATMUL_DESC_TRANSA);
static_assert(VendorProduct::kMaxWorkspaceBytes == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);

}  // namespace coterie::gpu
#endif
