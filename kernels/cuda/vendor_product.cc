#include "kernels/cuda/vendor_product.h"

#include "absl/strings/str_cat.h"

namespace coterie::cuda {

StatusOr<std::unique_ptr<VendorHandle>> VendorHandle::Open() {
  ASSIGN_OR_RETURN(const VendorLibrary library, VendorLibrary::Open());
  auto handle = std::unique_ptr<VendorHandle>(new VendorHandle(library));
  RETURN_IF_ERROR(library.Check(library.create(&handle->handle_), "cublasLtCreate"));
  return handle;
}

VendorHandle::~VendorHandle() {
  if (handle_ != nullptr) library_.destroy(handle_);
}

// The library's matrices are column-major: it computes yᵀ [n, m] = w [n, k] · xᵀ [k, m], where our w is its
// transpose of a [k, n].
StatusOr<std::unique_ptr<VendorProduct>> VendorProduct::Create(const VendorHandle* handle,
                                                               const Shape& shape) {
  auto product = std::unique_ptr<VendorProduct>(new VendorProduct(handle, shape));
  const VendorLibrary& f = product->library_;
  void* description = nullptr;
  RETURN_IF_ERROR(f.Check(
      f.description_create(&description, VendorLibrary::kCompute32F, VendorLibrary::kReal32F), "a product"));
  product->description_ = Object(description, f.description_destroy);
  const int transposed = VendorLibrary::kOpTransposed;
  RETURN_IF_ERROR(f.Check(
      f.description_set(description, VendorLibrary::kDescriptionTransposeA, &transposed, sizeof transposed),
      "transposing"));
  const auto layout = [&](int type, int64_t rows, int64_t columns, int64_t pitch, const char* what,
                          Object* to) -> Status {
    void* made = nullptr;
    RETURN_IF_ERROR(f.Check(
        f.layout_create(&made, type, static_cast<uint64_t>(rows), static_cast<uint64_t>(columns), pitch),
        what));
    *to = Object(made, f.layout_destroy);
    return absl::OkStatus();
  };
  product->m_ = 1;
  const int type_of_y = shape.float_y ? VendorLibrary::kReal32F : VendorLibrary::kRealBf16;
  RETURN_IF_ERROR(layout(VendorLibrary::kRealBf16, shape.k, shape.n, shape.w_pitch, "w", &product->w_));
  RETURN_IF_ERROR(layout(VendorLibrary::kRealBf16, shape.k, 1, shape.x_pitch, "x", &product->x_));
  RETURN_IF_ERROR(layout(type_of_y, shape.n, 1, shape.y_pitch, "y", &product->y_));
  return product;
}

Status VendorProduct::SetRows(int64_t m) {
  if (m == m_) return absl::OkStatus();
  m_ = 0;  // whatever the layouts say if one is set and the other is not
  const auto columns = static_cast<uint64_t>(m);
  for (const Object* layout : {&x_, &y_}) {
    RETURN_IF_ERROR(library_.Check(
        library_.layout_set(layout->get(), VendorLibrary::kLayoutColumns, &columns, sizeof columns), "rows"));
  }
  m_ = m;
  return absl::OkStatus();
}

StatusOr<std::vector<VendorLibrary::Proposal>> VendorProduct::Propose(const Terms& terms) {
  const VendorLibrary& f = library_;
  RETURN_IF_ERROR(SetRows(terms.m));
  void* made = nullptr;
  RETURN_IF_ERROR(f.Check(f.preference_create(&made), "a preference"));
  const Object preference(made, f.preference_destroy);
  const auto prefer = [&](int attribute, const auto& value) {
    return f.Check(f.preference_set(preference.get(), attribute, &value, sizeof value), "a preference");
  };
  RETURN_IF_ERROR(prefer(VendorLibrary::kPreferWorkspaceBytes, terms.workspace_bytes));
  if (terms.one_pass) RETURN_IF_ERROR(prefer(VendorLibrary::kPreferReductions, VendorLibrary::kNoReduction));
  RETURN_IF_ERROR(prefer(VendorLibrary::kPreferAlignmentA, shape_.w_alignment));
  RETURN_IF_ERROR(prefer(VendorLibrary::kPreferAlignmentB, shape_.x_alignment));
  RETURN_IF_ERROR(prefer(VendorLibrary::kPreferAlignmentC, shape_.y_alignment));
  RETURN_IF_ERROR(prefer(VendorLibrary::kPreferAlignmentD, shape_.y_alignment));
  std::vector<VendorLibrary::Proposal> found(static_cast<size_t>(terms.most));
  int n_found = 0;
  const int status = f.propose(handle_->get(), description_.get(), w_.get(), x_.get(), y_.get(), y_.get(),
                               preference.get(), terms.most, found.data(), &n_found);
  if (status == VendorLibrary::kNotSupported) return std::vector<VendorLibrary::Proposal>();
  RETURN_IF_ERROR(f.Check(status, "looking for algorithms"));
  found.resize(static_cast<size_t>(n_found));
  std::erase_if(found, [&](const VendorLibrary::Proposal& one) {
    return one.state != 0 || one.workspace_bytes > terms.workspace_bytes ||
           (terms.one_pass && !SumsInOnePass(one));
  });
  return found;
}

bool VendorProduct::SumsInOnePass(const VendorLibrary::Proposal& proposal) const {
  int32_t splits = 0;
  uint32_t reduction = 0;
  size_t written = 0;
  const auto read = [&](int attribute, auto* value) {
    return library_.config_get(proposal.algorithm, attribute, value, sizeof *value, &written) == 0;
  };
  return read(VendorLibrary::kConfigSplits, &splits) && read(VendorLibrary::kConfigReduction, &reduction) &&
         splits <= 1 && reduction == VendorLibrary::kNoReduction;
}

bool VendorProduct::Fits(const VendorLibrary::Proposal& proposal, int64_t m, size_t workspace_bytes) {
  if (!SetRows(m).ok()) return false;
  VendorLibrary::Proposal result = {};
  return library_.check(handle_->get(), description_.get(), w_.get(), x_.get(), y_.get(), y_.get(),
                        proposal.algorithm, &result) == 0 &&
         result.state == 0 && result.workspace_bytes <= workspace_bytes;
}

Status VendorProduct::Run(const VendorLibrary::Proposal& proposal, int64_t m, const void* x, const void* w,
                          bool accumulate, void* y, void* workspace, size_t workspace_bytes,
                          cudaStream_t stream) {
  RETURN_IF_ERROR(SetRows(m));
  const float one = 1, beta = accumulate ? 1.0f : 0.0f;
  const int status =
      library_.matmul(handle_->get(), description_.get(), &one, w, w_.get(), x, x_.get(), &beta, y, y_.get(),
                      y, y_.get(), proposal.algorithm, workspace, workspace_bytes, stream);
  if (status == 0) return absl::OkStatus();
  return library_.Check(status, absl::StrCat("a product of ", m, " x ", shape_.n, " x ", shape_.k));
}

}  // namespace coterie::cuda
