// Where the vendor's header is, what vendor_library.h says of it is held against it. Not in a build that
// emulates: its own twins of the vendor's headers exclude these.
#include "kernels/cuda/vendor_library.h"

#if !defined(COTERIE_EMULATED_GPU) && __has_include(<cublasLt.h>)
#include <cublasLt.h>

#include <type_traits>

namespace coterie::cuda {
namespace {

using Ours = VendorLibrary;
using Result = cublasLtMatmulHeuristicResult_t;
static_assert(sizeof(Ours::Proposal) == sizeof(Result));
static_assert(offsetof(Ours::Proposal, algorithm) == offsetof(Result, algo));
static_assert(sizeof(Ours::Proposal::algorithm) == sizeof(cublasLtMatmulAlgo_t));
static_assert(offsetof(Ours::Proposal, workspace_bytes) == offsetof(Result, workspaceSize));
static_assert(offsetof(Ours::Proposal, state) == offsetof(Result, state));
static_assert(Ours::kNotSupported == CUBLAS_STATUS_NOT_SUPPORTED && CUBLAS_STATUS_SUCCESS == 0);
static_assert(Ours::kCompute32F == CUBLAS_COMPUTE_32F);
static_assert(Ours::kReal32F == CUDA_R_32F && Ours::kRealBf16 == CUDA_R_16BF);
static_assert(Ours::kOpTransposed == CUBLAS_OP_T);
static_assert(Ours::kDescriptionTransposeA == CUBLASLT_MATMUL_DESC_TRANSA);
static_assert(Ours::kLayoutColumns == CUBLASLT_MATRIX_LAYOUT_COLS);
static_assert(Ours::kPreferWorkspaceBytes == CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES);
static_assert(Ours::kPreferReductions == CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK);
static_assert(Ours::kPreferAlignmentA == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES);
static_assert(Ours::kPreferAlignmentB == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES);
static_assert(Ours::kPreferAlignmentC == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES);
static_assert(Ours::kPreferAlignmentD == CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES);
static_assert(Ours::kConfigSplits == CUBLASLT_ALGO_CONFIG_SPLITK_NUM);
static_assert(Ours::kConfigReduction == CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME);
static_assert(Ours::kNoReduction == CUBLASLT_REDUCTION_SCHEME_NONE);

// That a function takes what ours takes: as many arguments, each a pointer, or a number (an enumeration) of
// the same size.
template <class A, class B>
constexpr bool kAlike = std::is_pointer_v<A> == std::is_pointer_v<B> && sizeof(A) == sizeof(B);
template <class Left, class Right>
struct SameShape : std::false_type {};
template <class R, class... Args, class TheirR, class... TheirArgs>
struct SameShape<R (*)(Args...), TheirR (*)(TheirArgs...)>
    : std::bool_constant<sizeof...(Args) == sizeof...(TheirArgs) && kAlike<R, TheirR>> {
  static_assert((kAlike<Args, TheirArgs> && ...));
};
#define COTERIE_SAME(ours, theirs) static_assert(SameShape<decltype(Ours::ours), decltype(&theirs)>::value)
COTERIE_SAME(version, cublasLtGetVersion);
COTERIE_SAME(status_name, cublasLtGetStatusName);
COTERIE_SAME(create, cublasLtCreate);
COTERIE_SAME(destroy, cublasLtDestroy);
COTERIE_SAME(description_create, cublasLtMatmulDescCreate);
COTERIE_SAME(description_destroy, cublasLtMatmulDescDestroy);
COTERIE_SAME(description_set, cublasLtMatmulDescSetAttribute);
COTERIE_SAME(layout_create, cublasLtMatrixLayoutCreate);
COTERIE_SAME(layout_destroy, cublasLtMatrixLayoutDestroy);
COTERIE_SAME(layout_set, cublasLtMatrixLayoutSetAttribute);
COTERIE_SAME(preference_create, cublasLtMatmulPreferenceCreate);
COTERIE_SAME(preference_destroy, cublasLtMatmulPreferenceDestroy);
COTERIE_SAME(preference_set, cublasLtMatmulPreferenceSetAttribute);
COTERIE_SAME(propose, cublasLtMatmulAlgoGetHeuristic);
COTERIE_SAME(check, cublasLtMatmulAlgoCheck);
COTERIE_SAME(config_get, cublasLtMatmulAlgoConfigGetAttribute);
COTERIE_SAME(matmul, cublasLtMatmul);
#undef COTERIE_SAME

}  // namespace
}  // namespace coterie::cuda
#endif
