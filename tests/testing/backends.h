#ifndef COTERIE_TESTS_TESTING_BACKENDS_H_
#define COTERIE_TESTS_TESTING_BACKENDS_H_

#include <memory>
#include <ostream>
#include <vector>

#include "common/check.h"
#include "kernels/create.h"
#include "kernels/lora.h"

namespace coterie::testing {

// The backends that tests of models and engines run on: the two modes of the CPU and, where there is one or
// the build emulates one, a GPU. kGpuFast, a GPU with products of many rows by cuBLASLt, is not among
// AllBackends: what it computes depends on the batch.
enum class Backend { kExact, kFast, kGpu, kGpuFast };

inline bool HasGpu() {
#ifdef COTERIE_EMULATED_GPU
  return true;  // and a test says so where it cannot be used
#else
  static const bool has = CreateCudaDecoderOps({}).ok();
  return has;
#endif
}

constexpr int kTestFastRows = 17;  // what kGpuFast takes for many: tests have short prompts

inline CudaBackendOptions FastGpuOptions() {
  CudaBackendOptions options;
  options.prefill = CudaBackendOptions::Prefill::kFast;
  options.fast_rows = kTestFastRows;
  options.adapter_bytes = size_t{64} << 20;
  return options;
}
inline bool HasFastGpu() {
#ifdef COTERIE_EMULATED_GPU
  return true;
#else
  static const bool has = CreateCudaDecoderOps(FastGpuOptions()).ok();
  return has;
#endif
}

// An emulated GPU takes a second for what a CPU does in a millisecond, and several under a sanitizer: tests
// that try the same over and over do so less often there. Their whole length: tools/test emulated.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif
inline bool IsGpu(Backend backend) { return backend == Backend::kGpu || backend == Backend::kGpuFast; }
inline bool ShortOf(Backend backend) { return IsGpu(backend) && kSanitized; }

inline const char* NameOf(Backend backend) {
  switch (backend) {
    case Backend::kExact:
      return "Exact";
    case Backend::kFast:
      return "Fast";
    case Backend::kGpu:
      return "Gpu";
    case Backend::kGpuFast:
      break;
  }
  return "GpuFast";
}
inline void PrintTo(Backend backend, std::ostream* out) { *out << NameOf(backend); }

inline std::vector<Backend> AllBackends() {
  std::vector<Backend> all = {Backend::kExact, Backend::kFast};
  if (HasGpu()) all.push_back(Backend::kGpu);
  return all;
}

inline std::vector<Backend> AllBackendsAndFastGpu() {
  std::vector<Backend> all = AllBackends();
  if (HasFastGpu()) all.push_back(Backend::kGpuFast);
  return all;
}

// `cases` without those for a GPU where there is none. Case has a field `backend`.
template <class Case>
std::vector<Case> OnThisMachine(std::vector<Case> cases) {
  std::erase_if(cases, [](const Case& one) {
    return (one.backend == Backend::kGpu && !HasGpu()) || (one.backend == Backend::kGpuFast && !HasFastGpu());
  });
  return cases;
}

inline std::unique_ptr<DecoderOps> MakeDecoderOps(Backend backend, int n_threads = 0) {
  CudaBackendOptions gpu = FastGpuOptions();
  if (backend != Backend::kGpuFast) gpu.prefill = CudaBackendOptions::Prefill::kInvariant;
  CpuBackendOptions cpu;
  cpu.mode = backend == Backend::kExact ? NumericsMode::kExact : NumericsMode::kFast;
  cpu.n_threads = n_threads;
  cpu.arrow_gates = true;
  auto ops = IsGpu(backend) ? CreateCudaDecoderOps(gpu) : CreateCpuDecoderOps(cpu);
  COTERIE_CHECK(ops.ok()) << ToStd(ops.status().message());
  return *std::move(ops);
}

// Puts an adapter into a slot and waits until steps may use it.
inline void FillAndWait(AdapterSlots* slots, int slot, std::shared_ptr<const PackedAdapter> adapter) {
  slots->Fill(slot, std::move(adapter));
  while (!slots->Ready(slot)) {
  }
}

}  // namespace coterie::testing

#endif  // COTERIE_TESTS_TESTING_BACKENDS_H_
