#include "kernels/cpu/cpu_backend.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "common/check.h"
#include "common/cores.h"
#include "common/memory.h"
#include "kernels/cpu/isa.h"

namespace coterie {

StatusOr<std::unique_ptr<DecoderOps>> CreateCpuDecoderOps(const CpuBackendOptions& options) {
  return cpu::CpuBackend::Create(options);
}

StatusOr<std::unique_ptr<EncoderOps>> CreateCpuEncoderOps(const CpuBackendOptions& options) {
  return cpu::CpuBackend::Create(options);
}

namespace cpu {
namespace {

constexpr int kMaxThreads = 256;

class CpuBuffer final : public DeviceBuffer {
 public:
  CpuBuffer(size_t n_floats, AlignedBuffer::Pages pages)
      : memory_(std::max<size_t>(n_floats, 1) * sizeof(float), pages), n_floats_(n_floats) {}
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
    : mode_(options.mode),
      kv_type_(kv_type),
      arrow_gates_(options.arrow_gates),
      kernels_(kernels),
      pool_(n_threads) {
  prepared_.resize(static_cast<size_t>(n_threads));
  transposed_.resize(static_cast<size_t>(n_threads));
}

StatusOr<std::unique_ptr<CpuBackend>> CpuBackend::Create(const CpuBackendOptions& options) {
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
  return std::unique_ptr<CpuBackend>(new CpuBackend(options, kernels, kv_type, n_threads));
}

// The instruction set and the thread count are not in it: they change no bit.
std::string CpuBackend::numerics_class() const {
  const char* kv = kv_type_ == KvType::kF32 ? "f32" : kv_type_ == KvType::kBF16 ? "bf16" : "f16";
  return absl::StrCat("cpu/4 ", mode_ == NumericsMode::kExact ? "exact" : "fast a32", " kv=", kv);
}

std::string CpuBackend::device_name() const {
  return absl::StrCat("cpu (", kernels_->name, ", ", pool_.n_threads(), " threads)");
}

StatusOr<std::unique_ptr<DeviceBuffer>> CpuBackend::Allocate(size_t n_floats, Pages pages) {
  auto buffer = std::make_unique<CpuBuffer>(
      n_floats, pages == Pages::kNow ? AlignedBuffer::Pages::kNow : AlignedBuffer::Pages::kLater);
  if (buffer->data() == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory for a buffer of ", MemoryText(n_floats * sizeof(float))));
  }
  return buffer;
}

StatusOr<std::unique_ptr<DeviceBuffer>> CpuBackend::Upload(std::span<const float> values) {
  ASSIGN_OR_RETURN(std::unique_ptr<DeviceBuffer> buffer, Allocate(values.size(), Pages::kNow));
  std::copy(values.begin(), values.end(), buffer->data());
  return buffer;
}

StatusOr<std::unique_ptr<PackedMatrix>> CpuBackend::PackMatrix(std::span<const HostMatrix> parts) {
  return CpuMatrix::Pack(parts);
}

size_t CpuBackend::MatrixBytes(DType dtype, int64_t n_out, int64_t n_in) const {
  const int64_t n_panels = (n_out + kPanelOutputs - 1) / kPanelOutputs;
  return static_cast<size_t>(n_panels * PanelBytes(PanelKindOf(dtype), n_in));
}

StatusOr<std::unique_ptr<KvCache>> CpuBackend::MakeKvCache(const KvCacheShape& shape) {
  ASSIGN_OR_RETURN(std::unique_ptr<CpuKvCache> cache, CpuKvCache::Create(shape, kv_type_));
  RETURN_IF_ERROR(
      CheckMemoryFor(cache->bytes(), absl::StrCat("the KV cache of ", shape.n_blocks, " blocks")));
  const int parts = 4 * pool_.n_threads();
  std::atomic<bool> fetched = true;
  pool_.RunItems(parts, [&](int64_t part, int) {
    if (!cache->memory().FetchPages(static_cast<int>(part), parts)) fetched = false;
  });
  if (!fetched) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory for ", MemoryText(cache->bytes()),
                     " of KV cache: the system gave addresses, but no pages"));
  }
  return cache;
}

size_t CpuBackend::KvBlockBytes(const KvCacheShape& shape) const {
  return CpuKvCache::BlockBytes(shape, kv_type_) * static_cast<size_t>(shape.n_layers);
}

std::vector<MemoryDemand> CpuBackend::StepMemory(const StepLimits& limits, const KvCacheShape&,
                                                 const SeatLimits& seats) const {
  const uint64_t row_bytes = sizeof(float) * static_cast<uint64_t>(limits.vocab_size);
  return {
      {"logits", row_bytes * static_cast<uint64_t>(limits.max_logit_rows), false, "--max-logit-rows"},
      {"token counts of penalties", row_bytes * static_cast<uint64_t>(seats.n_seats), false, "--max-seqs"}};
}

StatusOr<std::unique_ptr<StepContext>> CpuBackend::MakeStepContext(const StepLimits& limits) {
  ReserveScratch(limits);
  auto step = std::make_unique<CpuStep>(limits);
  if (limits.vocab_size > 0 && step->logits.data() == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no addresses for ", limits.max_logit_rows, " rows of ", limits.vocab_size, " logits"));
  }
  return step;
}

// Reserves the scratch memory of LinearInput, LinearTop and LinearLora for the largest step. Its pages are
// left to the first use: most steps are small.
void CpuBackend::ReserveScratch(const StepLimits& limits) {
  const auto tokens =
      static_cast<size_t>(std::max(std::min(limits.max_tokens, kMaxPartTokens), limits.max_logit_rows));
  const auto n_in = static_cast<size_t>(limits.max_input);
  quantised_.Reserve(tokens * (n_in / kPanelBlock) * sizeof(QuantisedBlock), AlignedBuffer::Pages::kLater);
  for (AlignedBuffer& rows : prepared_) {
    rows.Reserve(PreparedRowsBytes(limits.max_input), AlignedBuffer::Pages::kLater);
  }
  const auto rank = static_cast<size_t>(limits.max_rank);
  // With the weights that gates give a row at up to three targets.
  constexpr size_t kMostTargets = 3;
  const size_t lora_row = (rank + kMostTargets) * sizeof(float) +
                          (rank / kPanelBlock + kLoraModuleCount) * sizeof(LoraBlock) + rank +
                          kLoraModuleCount * kPanelOutputs;
  lora_.Reserve(tokens * static_cast<size_t>(limits.max_adapters) * lora_row, AlignedBuffer::Pages::kLater);
  const size_t top_row = kMaxTopLogits * sizeof(TopLogit) + sizeof(int32_t);
  top_.Reserve(
      static_cast<size_t>(pool_.n_threads()) * (static_cast<size_t>(limits.max_logit_rows) * top_row + 64),
      AlignedBuffer::Pages::kLater);
}

StatusOr<std::unique_ptr<AdapterSlots>> CpuBackend::MakeAdapterSlots(int n_slots, int) {
  return std::make_unique<CpuAdapterSlots>(n_slots);
}

StatusOr<std::unique_ptr<Seats>> CpuBackend::MakeSeats(const SeatLimits& limits) {
  return std::make_unique<CpuSeats>(limits);
}

}  // namespace cpu
}  // namespace coterie
