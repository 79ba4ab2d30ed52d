#include "tests/gpu/bench/vendor_product.h"

#include <dlfcn.h>

#include "absl/strings/str_cat.h"

namespace coterie::gpu {

struct VendorProduct::Functions {
  int (*create)(void** handle);
  int (*destroy)(void* handle);
  int (*description_create)(void** description, int compute, int scale);
  int (*description_set)(void* description, int attribute, const void* value, size_t bytes);
  int (*layout_create)(void** layout, int type, uint64_t rows, uint64_t columns, int64_t pitch);
  int (*preference_create)(void** preference);
  int (*preference_set)(void* preference, int attribute, const void* value, size_t bytes);
  int (*heuristic)(void* handle, void* description, void* a, void* b, void* c, void* d, void* preference,
                   int most, Algorithm* found, int* n_found);
  int (*matmul)(void* handle, void* description, const void* alpha, const void* a, void* a_layout,
                const void* b, void* b_layout, const void* beta, const void* c, void* c_layout, void* d,
                void* d_layout, const void* algorithm, void* workspace, size_t workspace_bytes,
                cudaStream_t stream);
};

namespace {

Status Check(int status, const char* what) {
  return status == 0 ? absl::OkStatus()
                     : absl::InternalError(absl::StrCat("cuBLASLt: ", what, " gave ", status));
}

}  // namespace

StatusOr<std::unique_ptr<VendorProduct>> VendorProduct::Open() {
  void* library = nullptr;
  for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12", "libcublasLt.so"}) {
    if (library == nullptr) library = ::dlopen(name, RTLD_NOW | RTLD_LOCAL);
  }
  if (library == nullptr) {
    return absl::NotFoundError(
        "no libcublasLt.so.13, .12 or without a number is found; name its folder in LD_LIBRARY_PATH");
  }
  auto product = std::unique_ptr<VendorProduct>(new VendorProduct());
  product->functions_ = std::make_unique<Functions>();
  Functions& f = *product->functions_;
  const struct {
    const char* name;
    void* to;
  } symbols[] = {{"cublasLtCreate", &f.create},
                 {"cublasLtDestroy", &f.destroy},
                 {"cublasLtMatmulDescCreate", &f.description_create},
                 {"cublasLtMatmulDescSetAttribute", &f.description_set},
                 {"cublasLtMatrixLayoutCreate", &f.layout_create},
                 {"cublasLtMatmulPreferenceCreate", &f.preference_create},
                 {"cublasLtMatmulPreferenceSetAttribute", &f.preference_set},
                 {"cublasLtMatmulAlgoGetHeuristic", &f.heuristic},
                 {"cublasLtMatmul", &f.matmul}};
  for (const auto& [name, to] : symbols) {
    void* const symbol = ::dlsym(library, name);
    if (symbol == nullptr) return absl::NotFoundError(absl::StrCat("libcublasLt has no ", name));
    *static_cast<void**>(to) = symbol;
  }
  RETURN_IF_ERROR(Check(f.create(&product->handle_), "cublasLtCreate"));
  return product;
}

VendorProduct::~VendorProduct() {
  if (handle_ != nullptr) functions_->destroy(handle_);
}

// The library's matrices are column-major: it computes yᵀ [n, m] = w [n, k] · xᵀ [k, m], where our w is its
// transpose of a [k, n].
Status VendorProduct::Prepare(const Shape& shape) {
  const Functions& f = *functions_;
  const auto m = static_cast<uint64_t>(shape.m), n = static_cast<uint64_t>(shape.n);
  const auto k = static_cast<uint64_t>(shape.k);
  RETURN_IF_ERROR(Check(f.description_create(&description_, kCompute32F, kReal32F), "a description"));
  const int transposed = kOpTransposed;
  RETURN_IF_ERROR(
      Check(f.description_set(description_, kTransposeA, &transposed, sizeof transposed), "transposing"));
  RETURN_IF_ERROR(Check(f.layout_create(&layouts_[0], kRealBf16, k, n, shape.k), "the layout of w"));
  RETURN_IF_ERROR(Check(f.layout_create(&layouts_[1], kRealBf16, k, m, shape.k), "the layout of x"));
  RETURN_IF_ERROR(Check(f.layout_create(&layouts_[2], kRealBf16, n, m, shape.n), "the layout of y"));
  void* preference = nullptr;
  RETURN_IF_ERROR(Check(f.preference_create(&preference), "a preference"));
  const size_t workspace = kWorkspaceBytes;
  RETURN_IF_ERROR(
      Check(f.preference_set(preference, kMaxWorkspaceBytes, &workspace, sizeof workspace), "a workspace"));
  algorithms_.resize(8);
  int n_found = 0;
  RETURN_IF_ERROR(
      Check(f.heuristic(handle_, description_, layouts_[0], layouts_[1], layouts_[2], layouts_[2], preference,
                        static_cast<int>(algorithms_.size()), algorithms_.data(), &n_found),
            "looking for algorithms"));
  algorithms_.resize(static_cast<size_t>(n_found));
  std::erase_if(algorithms_, [](const Algorithm& a) { return a.state != 0; });
  if (algorithms_.empty()) {
    return absl::InternalError(
        absl::StrCat("cuBLASLt has no algorithm for ", shape.m, " x ", shape.n, " x ", shape.k));
  }
  return absl::OkStatus();
}

Status VendorProduct::Run(int algorithm, const void* x, const void* w, void* y, void* workspace,
                          cudaStream_t stream) {
  const Algorithm& chosen = algorithms_[static_cast<size_t>(algorithm)];
  const float one = 1, zero = 0;
  return Check(
      functions_->matmul(handle_, description_, &one, w, layouts_[0], x, layouts_[1], &zero, y, layouts_[2],
                         y, layouts_[2], chosen.data, workspace, chosen.workspace_bytes, stream),
      "a product");
}

}  // namespace coterie::gpu
