#ifndef COTERIE_KERNELS_CREATE_H_
#define COTERIE_KERNELS_CREATE_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "common/status.h"
#include "kernels/decoder_ops.h"
#include "kernels/encoder_ops.h"

namespace coterie {

struct CpuBackendOptions {
  NumericsMode mode = NumericsMode::kFast;
  int n_threads = 0;  // 0: every core this process may run on
  // Forces an instruction set: "avx512_bf16", "avx512", "avx2", "neon_dot", "highway" or "portable". "": the
  // fastest one. Meant for tests (valgrind knows no AVX-512).
  std::string isa;
  // Type K and V are rounded to: F32, BF16 or F16. Unset: F32 in exact mode, BF16 in fast mode.
  std::optional<DType> kv_dtype;
  // Steps may have arrow gates (common/gate.h). Packing an adapter then takes longer (arrow.h), and a few
  // bytes more.
  bool arrow_gates = false;
};

struct CudaBackendOptions {
  int device = 0;  // as the driver counts
  // How weights of a float type are held. Quantised ones stay as they are in the file.
  enum class Weights : uint8_t { kAsStored, kQ8_0, kFp8 } weights = Weights::kAsStored;
  // Products of many rows. kInvariant: our kernels, which give a row the bits that it gets alone. kFast:
  // cuBLASLt, which does not; then no step is batch-invariant.
  enum class Prefill : uint8_t { kInvariant, kFast } prefill = Prefill::kInvariant;
  int fast_rows = 0;  // what counts as many; 0: where cuBLASLt begins to pay. Tests have short prompts.
  size_t adapter_bytes = 0;                   // device memory reserved for adapters in slots
  bool graphs = true;                         // steps of decode alone are captured once and then replayed
  std::function<void(std::string_view)> log;  // of what makes it slower; null: nobody is told
};

// The factories of backends. InvalidArgument for a forced instruction set that this machine lacks;
// Unimplemented where CUDA was not compiled in; FailedPrecondition where the device cannot be used.
StatusOr<std::unique_ptr<DecoderOps>> CreateCpuDecoderOps(const CpuBackendOptions& options);
StatusOr<std::unique_ptr<DecoderOps>> CreateCudaDecoderOps(const CudaBackendOptions& options);
StatusOr<std::unique_ptr<EncoderOps>> CreateCpuEncoderOps(const CpuBackendOptions& options);

}  // namespace coterie

#endif  // COTERIE_KERNELS_CREATE_H_
