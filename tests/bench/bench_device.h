#ifndef COTERIE_TESTS_BENCH_BENCH_DEVICE_H_
#define COTERIE_TESTS_BENCH_BENCH_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/status.h"
#include "kernels/create.h"

namespace coterie::bench {

// What bench_gpu wants of a device beside a decoder: facts, and the ceilings that figures are divided by,
// measured on the very device.
class BenchDevice {
 public:
  virtual ~BenchDevice() = default;

  // Fields of a JSON object, without braces.
  virtual std::string Facts() = 0;
  // A large copy within the device: bytes read and bytes written, per second. The median of `runs`.
  virtual StatusOr<double> CopyBytesPerSecond(size_t bytes, int runs) = 0;
  // Pinned host memory to the device.
  virtual StatusOr<double> UploadBytesPerSecond(size_t bytes, int runs) = 0;
  // Seconds of y [m, n] = x [m, k] · w [n, k]ᵀ by the vendor's library, bfloat16 with float32 sums, random
  // operands; the fastest of the algorithms that it proposes, median of `runs`. Unimplemented says why there
  // is none to ask.
  virtual StatusOr<double> ProductSeconds(int64_t m, int64_t n, int64_t k, int runs) = 0;

  virtual StatusOr<std::unique_ptr<DecoderOps>> MakeOps(const CudaBackendOptions& options) = 0;

  // Time on the device's own clock: marks are reached in the order of the steps that `ops` enqueues.
  // Unimplemented where steps are computed in the call.
  virtual Status Mark(DecoderOps* ops) = 0;
  // Seconds from each mark to the next; forgets them. Waits.
  virtual StatusOr<std::vector<double>> TakeMarks() = 0;
  // Whether the device has not yet come to the mark made last.
  virtual bool LastMarkIsAhead() = 0;
};

// `device` as the driver counts. FailedPrecondition where it cannot be used; Unimplemented where this build
// has no CUDA.
StatusOr<std::unique_ptr<BenchDevice>> OpenCudaDevice(int device);
// The CPU in place of a device, so that all of bench_gpu can be tried anywhere.
std::unique_ptr<BenchDevice> MakeCpuDevice();

}  // namespace coterie::bench

#endif  // COTERIE_TESTS_BENCH_BENCH_DEVICE_H_
