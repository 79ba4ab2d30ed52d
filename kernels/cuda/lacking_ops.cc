#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "common/check.h"
#include "kernels/cuda/cuda_backend.h"

// The ops of DecoderOps that no kernel computes here yet.
namespace coterie::cuda {

Status CudaBackend::CheckOps(const GraphOps& ops) const {
  std::vector<std::string> lacking;
  if (ops.scaled_embedding) lacking.push_back("a scaled embedding");
  if (ops.ge_glu) lacking.push_back("GeGLU");
  if (ops.add_rms_norm) lacking.push_back("a norm after the product");
  if (lacking.empty()) return absl::OkStatus();
  return absl::UnimplementedError(
      absl::StrCat("a GPU has no op for ", absl::StrJoin(lacking, " and "), "; --device cpu serves it"));
}

void CudaBackend::AddRmsNorm(const float*, const DeviceBuffer&, float, int, int, float*) {
  COTERIE_CHECK(false) << "a norm after the product on a GPU: CheckOps refuses it";
}

}  // namespace coterie::cuda
