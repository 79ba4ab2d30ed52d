#include "kernels/cpu/cpu_backend.h"

#include <algorithm>
#include <cstring>

#include "common/check.h"
#include "common/cores.h"
#include "kernels/cpu/isa.h"

namespace coterie {

StatusOr<std::unique_ptr<Backend>> CreateCpuBackend(const CpuBackendOptions& options) {
  return cpu::CpuBackend::Create(options);
}

namespace cpu {
namespace {

constexpr int kMaxThreads = 256;

class CpuBuffer final : public DeviceBuffer {
 public:
  explicit CpuBuffer(size_t n_floats)
      : memory_(std::max<size_t>(n_floats, 1) * sizeof(float)), n_floats_(n_floats) {}
  float* data() const override { return memory_.as<float>(); }
  size_t n_floats() const override { return n_floats_; }

 private:
  AlignedBuffer memory_;
  size_t n_floats_;
};

int AvailableCores() {
  if (const size_t n = AllowedCores().size(); n > 0) return static_cast<int>(n);
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace

CpuBackend::CpuBackend(const CpuBackendOptions& options, const KernelTable* kernels, KvType kv_type,
                       int n_threads)
    : mode_(options.mode), kv_type_(kv_type), kernels_(kernels), pool_(n_threads) {
  made_.resize(static_cast<size_t>(n_threads));
  transposed_.resize(static_cast<size_t>(n_threads));
}

StatusOr<std::unique_ptr<Backend>> CpuBackend::Create(const CpuBackendOptions& options) {
  ASSIGN_OR_RETURN(const KernelTable* kernels, SelectKernels(options.isa));
  if (options.n_threads < 0 || options.n_threads > kMaxThreads) {
    return absl::InvalidArgumentError(
        absl::StrCat("n_threads is ", options.n_threads, ": 0 (every core) to ", kMaxThreads));
  }
  KvType kv_type = options.mode == NumericsMode::kExact ? KvType::kF32 : KvType::kBF16;
  if (options.kv_dtype.has_value()) {
    switch (*options.kv_dtype) {
      case DType::kF32:
        kv_type = KvType::kF32;
        break;
      case DType::kBF16:
        kv_type = KvType::kBF16;
        break;
      case DType::kF16:
        kv_type = KvType::kF16;
        break;
      default:
        return absl::InvalidArgumentError(
            absl::StrCat("kv_dtype is ", ToAbsl(DTypeName(*options.kv_dtype)), ": F32, BF16 or F16"));
    }
  }
  const int n_threads = options.n_threads > 0 ? options.n_threads : std::min(AvailableCores(), kMaxThreads);
  return std::unique_ptr<Backend>(new CpuBackend(options, kernels, kv_type, n_threads));
}

// The instruction set and the thread count are not in it: they change no bit.
std::string CpuBackend::numerics_class() const {
  const char* kv = kv_type_ == KvType::kF32 ? "f32" : kv_type_ == KvType::kBF16 ? "bf16" : "f16";
  return absl::StrCat("cpu/3 ", mode_ == NumericsMode::kExact ? "exact" : "fast a32", " kv=", kv);
}

std::string CpuBackend::device_name() const {
  return absl::StrCat("cpu (", kernels_->name, ", ", pool_.n_threads(), " threads)");
}

StatusOr<std::unique_ptr<DeviceBuffer>> CpuBackend::Allocate(size_t n_floats) {
  auto buffer = std::make_unique<CpuBuffer>(n_floats);
  if (buffer->data() == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("no memory for ", n_floats, " floats"));
  }
  return buffer;
}

StatusOr<std::unique_ptr<DeviceBuffer>> CpuBackend::Upload(std::span<const float> values) {
  ASSIGN_OR_RETURN(std::unique_ptr<DeviceBuffer> buffer, Allocate(values.size()));
  std::copy(values.begin(), values.end(), buffer->data());
  return buffer;
}

StatusOr<std::unique_ptr<PackedMatrix>> CpuBackend::PackMatrix(std::span<const HostMatrix> parts) {
  return CpuMatrix::Pack(parts);
}

StatusOr<std::unique_ptr<KvCache>> CpuBackend::MakeKvCache(const KvCacheShape& shape) {
  ASSIGN_OR_RETURN(std::unique_ptr<CpuKvCache> cache, CpuKvCache::Create(shape, kv_type_));
  const int parts = 4 * pool_.n_threads();
  pool_.RunItems(parts,
                 [&](int64_t part, int) { cache->memory().FetchPages(static_cast<int>(part), parts); });
  return cache;
}

size_t CpuBackend::KvBlockBytes(const KvCacheShape& shape) const {
  return CpuKvCache::BlockBytes(shape, kv_type_) * static_cast<size_t>(shape.n_layers);
}

StatusOr<std::unique_ptr<StepContext>> CpuBackend::MakeStepContext(const StepLimits& limits) {
  return std::make_unique<CpuStep>(limits);
}

Status CpuBackend::Download(const float* from_dev, std::span<float> to) {
  std::copy(from_dev, from_dev + to.size(), to.begin());
  return absl::OkStatus();
}

}  // namespace cpu
}  // namespace coterie
