#include "tests/bench/bench_device.h"

namespace coterie::bench {

StatusOr<std::unique_ptr<BenchDevice>> OpenCudaDevice(int device) {
  return absl::UnimplementedError(absl::StrCat(
      "cuda:", device, ": this build has no CUDA; build where nvcc is found, or take --device cpu"));
}

}  // namespace coterie::bench
