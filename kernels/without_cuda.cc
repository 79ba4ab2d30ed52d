#include "kernels/create.h"

namespace coterie {

StatusOr<std::unique_ptr<DecoderOps>> CreateCudaDecoderOps(const CudaBackendOptions& options) {
  return absl::UnimplementedError(absl::StrCat(
      "device cuda:", options.device,
      ": this build has no CUDA; build where nvcc is found, or with -DCOTERIE_CUDA=ON, or use --device cpu"));
}

}  // namespace coterie
