#include "kernels/cuda/cuda_backend.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "common/check.h"
#include "common/memory.h"
#include "kernels/cuda/adapter.h"
#include "kernels/cuda/attention_items.h"
#include "kernels/cuda/block_table.h"
#include "kernels/cuda/linear_division.h"
#include "kernels/cuda/shared_memory.h"

namespace coterie {

StatusOr<std::unique_ptr<DecoderOps>> CreateCudaDecoderOps(const CudaBackendOptions& options) {
  return cuda::CudaBackend::Create(options);
}

namespace cuda {
namespace {

class Floats final : public DeviceBuffer {
 public:
  explicit Floats(DeviceMemory memory) : memory_(std::move(memory)) {}
  float* data() const override { return memory_.As<float>(); }
  size_t n_floats() const override { return memory_.bytes() / sizeof(float); }

 private:
  const DeviceMemory memory_;
};

// Counters: of adapters, of attention, of products.
size_t SplitCountersAt(const KvCacheShape& kv) {
  return kLoraProgressWords + static_cast<size_t>(kAttentionCounters) * static_cast<size_t>(kv.n_kv_heads);
}
// The most rows of a product of few.
int FewRows(const StepLimits& limits) {
  return std::min(std::max(limits.max_tokens, limits.max_logit_rows), kSmallRows);
}

const CudaStep& Of(const StepContext& step) { return static_cast<const CudaStep&>(step); }
const CudaMatrix& Of(const PackedMatrix& matrix) { return static_cast<const CudaMatrix&>(matrix); }

WeightChoice ChoiceOf(CudaBackendOptions::Weights weights) {
  switch (weights) {
    case CudaBackendOptions::Weights::kAsStored:
      return WeightChoice::kAsStored;
    case CudaBackendOptions::Weights::kQ8_0:
      return WeightChoice::kQ8_0;
    case CudaBackendOptions::Weights::kFp8:
      break;
  }
  return WeightChoice::kFp8;
}

constexpr int kLeastComputeCapability = 80;  // bfloat16 in tensor cores, cp.async

// Of an adapter at one input: up to three modules, each rank filled up by itself.
int FilledUpRank(const StepLimits& limits) {
  return (limits.max_rank + 3 * (kLoraRankStep - 1)) / kLoraRankStep * kLoraRankStep;
}

// Grows `memory` to hold `bytes`, zeros. Before any step. On failure it stays as it was.
Status Reserve(size_t bytes, const char* what, DeviceMemory* memory) {
  if (memory->bytes() >= bytes) return absl::OkStatus();
  ASSIGN_OR_RETURN(DeviceMemory larger, DeviceMemory::Allocate(bytes, what));
  RETURN_IF_ERROR(SetToZero(larger.data(), bytes, what));
  *memory = std::move(larger);
  return absl::OkStatus();
}

}  // namespace

StatusOr<std::unique_ptr<CudaBackend>> CudaBackend::Create(const CudaBackendOptions& options) {
  auto backend = std::unique_ptr<CudaBackend>(new CudaBackend(options));
  RETURN_IF_ERROR(backend->Start());
  return backend;
}

Status CudaBackend::Start() {
  const std::string name = absl::StrCat("device cuda:", options_.device);
  int n_devices = 0;
  RETURN_IF_ERROR(ToStatus(cudaGetDeviceCount(&n_devices), name));
  if (options_.device < 0 || options_.device >= n_devices) {
    return absl::FailedPreconditionError(absl::StrCat(name, ": there are ", n_devices, " devices"));
  }
  RETURN_IF_ERROR(ToStatus(cudaSetDevice(options_.device), name));
  cudaDeviceProp properties;
  RETURN_IF_ERROR(ToStatus(cudaGetDeviceProperties(&properties, options_.device), name));
  device_name_ = properties.name;
  n_processors_ = properties.multiProcessorCount;
  compute_capability_ = 10 * properties.major + properties.minor;
  if (compute_capability_ < kLeastComputeCapability) {
    return absl::FailedPreconditionError(absl::StrCat(name, " (", device_name_, ") has compute capability ",
                                                      properties.major, ".", properties.minor,
                                                      "; at least 8.0 is needed"));
  }
  if (SharedMemoryLimit() < kLeastSharedBytes) {
    return absl::FailedPreconditionError(absl::StrCat(
        name, " (", device_name_, ") gives a block ", SharedMemoryLimit() / 1024,
        " KiB of shared memory; at least ", kLeastSharedBytes / 1024, " are needed; take another device"));
  }
  RETURN_IF_ERROR(ToStatus(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), name));
  graphs_ = std::make_unique<StepGraphs>(stream_, options_.log);
  return options_.prefill == CudaBackendOptions::Prefill::kFast ? OpenFastProducts() : absl::OkStatus();
}

Status CudaBackend::OpenFastProducts() {
  FastProductsOptions options;
  options.fewest_rows = options_.fast_rows;
  StatusOr<std::unique_ptr<FastProducts>> opened = FastProducts::Open(options, n_processors_, stream_);
  if (!opened.ok()) {
    return absl::FailedPreconditionError(
        absl::StrCat("--gpu-prefill=fast: ", opened.status().message(), "; or use --gpu-prefill=invariant"));
  }
  fast_ = *std::move(opened);
  return absl::OkStatus();
}

CudaBackend::~CudaBackend() {
  if (stream_ == nullptr) return;
  Use();
  cudaStreamSynchronize(stream_);
  graphs_.reset();
  fast_.reset();
  cudaStreamDestroy(stream_);
}

std::string CudaBackend::numerics_class() const {
  constexpr const char* kWeights[] = {"stored", "q8_0", "fp8"};
  return absl::StrCat("cuda/1 sm", compute_capability_, " w=", kWeights[static_cast<int>(options_.weights)],
                      " a=bf16 kv=bf16",
                      fast_ == nullptr ? "" : absl::StrCat(" prefill=cublaslt-", fast_->Version()));
}

StatusOr<std::unique_ptr<DeviceBuffer>> CudaBackend::Allocate(size_t n_floats, Pages) {
  Use();
  ASSIGN_OR_RETURN(DeviceMemory memory, DeviceMemory::Allocate(n_floats * sizeof(float), "activations"));
  RETURN_IF_ERROR(SetToZero(memory.data(), memory.bytes(), "activations"));
  return std::make_unique<Floats>(std::move(memory));
}

StatusOr<std::unique_ptr<DeviceBuffer>> CudaBackend::Upload(std::span<const float> values) {
  Use();
  ASSIGN_OR_RETURN(DeviceMemory memory, DeviceMemory::Allocate(values.size_bytes(), "a vector of weights"));
  RETURN_IF_ERROR(CopyToDevice(memory.data(), values.data(), values.size_bytes(), "a vector of weights"));
  return std::make_unique<Floats>(std::move(memory));
}

StatusOr<std::unique_ptr<PackedMatrix>> CudaBackend::PackMatrix(std::span<const HostMatrix> parts) {
  Use();
  ASSIGN_OR_RETURN(std::unique_ptr<CudaMatrix> matrix, cuda::PackMatrix(parts, ChoiceOf(options_.weights)));
  if (fast_ != nullptr) RETURN_IF_ERROR(fast_->Prepare(*matrix));
  return matrix;
}

size_t CudaBackend::MatrixBytes(DType dtype, int64_t n_out, int64_t n_in) const {
  return cuda::MatrixBytes(dtype, n_out, n_in, ChoiceOf(options_.weights));
}

StatusOr<std::unique_ptr<PackedAdapter>> CudaBackend::PackAdapter(std::span<const HostLora> pairs) {
  Use();
  return CudaAdapter::Pack(pairs, pinned_.get());
}

StatusOr<std::unique_ptr<PackedAdapter>> CudaBackend::CopyAdapter(std::span<const HostLora> pairs,
                                                                  std::span<const uint8_t> weights) {
  Use();
  return CudaAdapter::Copy(pairs, weights, pinned_.get());
}

size_t CudaBackend::KvBlockBytes(const KvCacheShape& shape) const {
  return static_cast<size_t>(shape.n_layers) * 2 * static_cast<size_t>(shape.n_kv_heads) * kKvBlockTokens *
         static_cast<size_t>(shape.head_dim) * sizeof(uint16_t);
}

StatusOr<std::unique_ptr<KvCache>> CudaBackend::MakeKvCache(const KvCacheShape& shape) {
  Use();
  if (!AttentionHasHeadDim(shape.head_dim)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "heads of ", shape.head_dim, " values; on a GPU they may have ", "16, 32, 64, 80, 96, 128 or 256"));
  }
  kv_shape_ = shape;
  ASSIGN_OR_RETURN(
      DeviceMemory memory,
      DeviceMemory::Allocate(KvBlockBytes(shape) * static_cast<size_t>(shape.n_blocks), "the KV cache"));
  return std::make_unique<CudaKvCache>(shape, std::move(memory));
}

StatusOr<std::unique_ptr<AdapterSlots>> CudaBackend::MakeAdapterSlots(int n_slots, int n_layers) {
  Use();
  return CudaAdapterSlots::Create(n_slots, n_layers, options_.adapter_bytes);
}

StatusOr<std::unique_ptr<Seats>> CudaBackend::MakeSeats(const SeatLimits& limits) {
  Use();
  seat_limits_ = limits;
  return CudaSeats::Create(limits);
}

MemoryRoom CudaBackend::Room() const {
  Use();
  size_t free = 0, total = 0;
  if (cudaMemGetInfo(&free, &total) != cudaSuccess) free = 0;
  return {free,
          absl::StrCat("device cuda:", options_.device, " (", device_name_, ") has ", MemoryText(total))};
}

StatusOr<std::unique_ptr<StepContext>> CudaBackend::MakeStepContext(const StepLimits& limits) {
  Use();
  StepRoom room;
  room.tokens = limits.max_tokens;
  room.seqs = std::min(limits.max_seqs, limits.max_tokens);
  room.logit_rows = limits.max_logit_rows;
  room.lora_entries = limits.max_tokens * limits.max_adapters;
  room.items = MaxItems(limits);
  if (limits.vocab_size > 0) {  // a whole step, not a part of one
    // A seat that is left and taken again has two changes.
    room.block_changes = 2 * seat_limits_.n_seats;
    room.changed_blocks = seat_limits_.n_seats * seat_limits_.max_blocks;
  }
  RETURN_IF_ERROR(ReserveScratch(limits));
  if (limits.vocab_size > 0 && options_.graphs) RETURN_IF_ERROR(ReserveGraphs(limits));
  return CudaStep::Create(limits, room, AttentionItems(GroupOf(limits), kv_shape_.n_kv_heads, n_processors_));
}

int CudaBackend::MaxItems(const StepLimits& limits) const {
  const int seqs = std::min(limits.max_seqs, limits.max_tokens);
  return static_cast<int>(MaxAttentionItems(limits.max_tokens, seqs, GroupOf(limits)));
}

CudaBackend::ScratchBytes CudaBackend::ScratchFor(const StepLimits& limits, const KvCacheShape& kv) const {
  const auto rows = static_cast<size_t>(std::max(limits.max_tokens, limits.max_logit_rows));
  const auto logit_rows = static_cast<size_t>(limits.max_logit_rows);
  const auto vocab = static_cast<size_t>(limits.vocab_size);
  ScratchBytes bytes;
  bytes.operand = rows * static_cast<size_t>(limits.max_input) * sizeof(uint16_t);
  bytes.lora = sizeof(float) * LoraScratchFloats(limits.max_tokens * limits.max_adapters, limits.max_adapters,
                                                 FilledUpRank(limits), limits.max_input);
  bytes.attention = sizeof(float) * AttentionScratchFloats(kv.n_kv_heads, kv.head_dim, n_processors_);
  bytes.split = sizeof(float) * SplitScratchFloats(FewRows(limits), n_processors_);
  bytes.counters =
      sizeof(uint32_t) * (SplitCountersAt(kv) + static_cast<size_t>(SplitCounters(n_processors_)));
  if (limits.vocab_size == 0) return bytes;
  bytes.logits = logit_rows * vocab * sizeof(float);
  bytes.sampled = logit_rows * sizeof(int32_t);
  bytes.sampling = StepSampling::DataBytes(limits);
  bytes.logprobs = StepSampling::MaxLogprobs(limits) * sizeof(TokenLogprob);
  bytes.sampler = SamplerScratchBytes(limits.max_logit_rows, limits.vocab_size);
  return bytes;
}

std::vector<MemoryDemand> CudaBackend::StepMemory(const StepLimits& limits, const KvCacheShape& kv,
                                                  const SeatLimits& seats) const {
  const ScratchBytes scratch = ScratchFor(limits, kv);
  const uint64_t work = scratch.operand + scratch.lora + scratch.split + scratch.attention + scratch.counters;
  const uint64_t rows =
      scratch.logits + scratch.sampled + scratch.sampling + scratch.logprobs + scratch.sampler;
  std::vector<MemoryDemand> demands = {
      {"scratch of steps", work, true, "--max-batch-tokens"},
      {"logits and sampling", rows, true, "--max-logit-rows"},
      {"token counts of penalties", TokenCountsBytes(seats.n_seats, seats.vocab_size), true, "--max-seqs"},
      {"adapters in slots", options_.adapter_bytes, true, "--adapter-bytes"}};
  if (fast_ != nullptr) {
    demands.push_back({"cuBLASLt and unpacked weights",
                       fast_->MemoryBytes(limits.max_output, limits.max_input), true,
                       "--gpu-prefill=invariant"});
  }
  return demands;
}

Status CudaBackend::ReserveScratch(const StepLimits& limits) {
  const ScratchBytes bytes = ScratchFor(limits, kv_shape_);
  no_tokens_.resize(std::max(no_tokens_.size(), static_cast<size_t>(limits.max_logit_rows)));
  RETURN_IF_ERROR(Reserve(bytes.operand, "operands", &operand_));
  RETURN_IF_ERROR(Reserve(bytes.attention, "attention", &attention_partial_));
  RETURN_IF_ERROR(Reserve(bytes.counters, "counters", &counters_));
  if (lora_floats_.bytes() < bytes.lora) {
    RETURN_IF_ERROR(Reserve(bytes.lora, "the products of adapters", &lora_floats_));
    lora_scratch_.floats = lora_floats_.As<float>();
    lora_scratch_.progress = counters_.As<uint32_t>();
    lora_scratch_.max_entries = limits.max_tokens * limits.max_adapters;
    lora_scratch_.max_adapters = limits.max_adapters;
    lora_scratch_.max_rank = FilledUpRank(limits);
  }
  if (fast_ != nullptr) RETURN_IF_ERROR(fast_->Reserve(limits.max_output, limits.max_input));
  if (split_sums_.bytes() < bytes.split) {
    RETURN_IF_ERROR(Reserve(bytes.split, "the products that blocks share", &split_sums_));
    split_tokens_ = SmallTokens(FewRows(limits));
  }
  lora_scratch_.split = {split_sums_.As<float>(), counters_.As<uint32_t>() + SplitCountersAt(kv_shape_),
                         split_tokens_};
  if (limits.vocab_size == 0) return absl::OkStatus();
  RETURN_IF_ERROR(Reserve(bytes.logits, "logits", &logits_));
  RETURN_IF_ERROR(Reserve(bytes.sampled, "sampled tokens", &sampled_));
  RETURN_IF_ERROR(Reserve(bytes.sampling, "sampling", &sampling_device_));
  RETURN_IF_ERROR(Reserve(bytes.logprobs, "log-probabilities", &logprobs_));
  if (sampler_memory_.bytes() < bytes.sampler) {
    RETURN_IF_ERROR(Reserve(bytes.sampler, "sampling", &sampler_memory_));
    sampler_scratch_ = MakeSamplerScratch(sampler_memory_.data(), limits.max_logit_rows, limits.vocab_size);
  }
  return absl::OkStatus();
}

// Where the data of graphs lies: one region for all of them, since the steps of one stream follow each other.
Status CudaBackend::ReserveGraphs(const StepLimits& limits) {
  const int rows = std::min({limits.max_tokens, limits.max_seqs, limits.max_logit_rows, kSmallRows});
  graphs_->SetMaxRows(rows);
  StepRoom room;
  room.tokens = room.seqs = room.logit_rows = rows;
  room.lora_entries = rows * limits.max_adapters;
  room.block_changes = 2 * rows;
  // A step of decode begins a block now and then; one that brings more is no graph.
  room.changed_blocks = 16 * rows;
  room.items = MaxItems(limits);
  graph_layout_.emplace(room);
  return Reserve(graph_layout_->bytes(), "the data of graphs", &graph_region_);
}

void CudaBackend::BeginStep(StepContext* context, const Batch& batch, Seats* any_seats,
                            const AdapterSlots& any_slots) {
  auto* const step = static_cast<CudaStep*>(context);
  auto* const seats = static_cast<CudaSeats*>(any_seats);
  const auto& slots = static_cast<const CudaAdapterSlots&>(any_slots);
  Use();
  step->error = slots.status();
  step->shortage = absl::OkStatus();
  const auto note = [&](Status status) {
    if (step->error.ok()) step->error = std::move(status);
  };
  seats->blocks.Apply(batch);
  step->plan.Begin(batch, seats->blocks, no_tokens_);
  const bool decodes = batch.n_tokens() == batch.n_seqs();
  step->tile_vectors = AttentionTileVectorsFor(decodes, GroupOf(step->limits));
  const std::span<const AttentionItem> items = step->items.Build(step->plan, step->tile_vectors);
  step->has_adapters = !step->plan.lora_groups().empty();

  const bool whole = step->limits.vocab_size > 0;
  const bool all_wanted = std::ssize(batch.logit_rows) == batch.n_tokens() && batch.n_tokens() > 0;
  const int graph_rows = whole && decodes && all_wanted ? graphs_->RowsOf(batch.n_tokens()) : 0;
  const bool is_graph = graph_rows > 0 && graph_layout_->Holds(step->plan, items.size());
  const StepLayout layout = is_graph ? *graph_layout_ : StepLayout(RoomOf(step->plan, items.size()));
  uint8_t* const device = is_graph ? graph_region_.As<uint8_t>() : step->region.As<uint8_t>();
  const size_t bytes = layout.Write(step->plan, items, step->NextStaging());
  note(step->CopyStaging(bytes, device, stream_));
  step->graph_rows = is_graph ? graph_rows : 0;

  step->data = layout.DataAt(device);
  step->data.sampled = sampled_.As<int32_t>();
  step->data.block_table = seats->table.As<int32_t>();
  step->data.max_blocks = seats->limits.max_blocks;
  step->data.lora.pairs = slots.pairs();
  step->data.lora.n_layers = slots.n_layers();

  if (whole) {
    const size_t sampling_bytes = step->sampling->LayOut(batch, step->sampling_data.data());
    note(ToStatus(cudaMemcpyAsync(sampling_device_.data(), step->sampling_data.data(), sampling_bytes,
                                  cudaMemcpyHostToDevice, stream_),
                  "the sampling of a step"));
    note(step->sampling->EnqueueResets(batch, seats->counts.As<uint32_t>(), stream_));
  }
  if (is_graph) note(graphs_->Begin({graph_rows, step->has_adapters, step->sampling->mixtures()}));
  if (whole) {
    Do([blocks = layout.BlocksAt(device), seats, this] {
      ApplyBlockChanges(blocks, seats->limits.max_blocks, seats->table.As<int32_t>(), stream_);
    });
  }
}

void CudaBackend::EndStep(StepContext* context) {
  auto* const step = static_cast<CudaStep*>(context);
  const auto note = [&](Status status) {
    if (step->error.ok()) step->error = std::move(status);
  };
  if (step->graph_rows > 0) note(graphs_->End());
  if (fast_ != nullptr) note(fast_->TakeError());
  note(ToStatus(cudaGetLastError(), "a step"));  // of its launches, before another error is told
  step->shortage = step->sampling->EnqueueCopies(sampled_.As<int32_t>(), logprobs_.As<TokenLogprob>(),
                                                 logits_.As<float>(), stream_);
  if (!absl::IsResourceExhausted(step->shortage)) note(step->shortage);
  note(ToStatus(cudaEventRecord(step->done, stream_), "a step"));
  note(ToStatus(cudaGetLastError(), "a step"));
}

StatusOr<StepResult> CudaBackend::Wait(StepContext* context) {
  auto* const step = static_cast<CudaStep*>(context);
  Use();
  const Status waited = ToStatus(cudaEventSynchronize(step->done), "a step");
  // Whatever failed: nothing of the device's state can be relied on any more.
  for (const Status& status : {step->error, waited}) {
    if (!status.ok()) return absl::UnavailableError(status.message());
  }
  // All was computed, and the host had no memory for what was asked to be reported.
  RETURN_IF_ERROR(step->shortage);
  return step->sampling->Result();
}

const uint16_t* CudaBackend::OperandOf(const LinearInput& x, int rows, int n_in) {
  auto* const operand = operand_.As<uint16_t>();
  switch (x.op) {
    case LinearInput::Op::kNone:
      if (x.x_dev != operand_holds_) PlainOperand(x.x_dev, rows, n_in, operand, stream_);
      break;
    case LinearInput::Op::kRmsNorm:
      RmsNormOperand(x.x_dev, x.weight->data(), x.eps, rows, n_in, operand, stream_);
      break;
    case LinearInput::Op::kSwiGlu:
      SwiGluOperand(x.x_dev, rows, n_in, operand, stream_);
      break;
    case LinearInput::Op::kGeGlu:
      COTERIE_CHECK(false) << "GeGLU on a GPU: CheckOps refuses it";
    case LinearInput::Op::kLayerNorm:
    case LinearInput::Op::kGelu:
      COTERIE_CHECK(false) << "an encoder's operand on a GPU";
  }
  operand_holds_ = nullptr;
  return operand;
}

void CudaBackend::Embed(const StepContext& context, const PackedMatrix& table, float scale, float* x) {
  COTERIE_CHECK_EQ(scale, 1.0f) << "scale of embeddings on a GPU: CheckOps refuses another";
  const CudaStep& step = Of(context);
  const int rows = RowsFor(step, step.plan.batch().n_tokens());
  Do([this, data = step.data, &table, rows, x] { cuda::Embed(data, Of(table), rows, x, stream_); });
}

void CudaBackend::LinearLora(const LoraCall& lora, const LinearInput& x, int rows, const PackedMatrix& w,
                             const DeviceBuffer* bias, bool accumulate, float* y) {
  const CudaStep& step = Of(*lora.step);
  LoraSite site;
  site.layer = lora.layer;
  for (size_t i = 0; i < lora.targets.size(); ++i) {
    const int64_t end = i + 1 < lora.targets.size() ? lora.targets[i + 1].y_column : w.n_out();
    site.targets[i] = lora.targets[i];
    site.n_out[i] = static_cast<int>(end - lora.targets[i].y_column);
    ++site.n_targets;
  }
  const int n_rows = RowsFor(step, rows);
  Do([this, work = step.data.lora, has_adapters = step.has_adapters, site, x, n_rows, &w, bias, accumulate,
      y] {
    const uint16_t* operand = OperandOf(x, n_rows, static_cast<int>(w.n_in()));
    cuda::LinearLora(operand, n_rows, Of(w), bias == nullptr ? nullptr : bias->data(), accumulate,
                     has_adapters ? &work : nullptr, site, lora_scratch_, y, n_processors_, stream_,
                     fast_.get());
  });
}

void CudaBackend::RopeAndKvWrite(const StepContext& context, int layer, int n_heads,
                                 const DeviceBuffer* q_norm, const DeviceBuffer* k_norm, float eps,
                                 const RopeTable& rope, float* qkv, KvCache* kv) {
  const CudaStep& step = Of(context);
  const int rows = RowsFor(step, step.plan.batch().n_tokens());
  const auto data = [](const DeviceBuffer* buffer) { return buffer == nullptr ? nullptr : buffer->data(); };
  Do([=, this, step_data = step.data, &rope, layout = static_cast<CudaKvCache*>(kv)->layout()] {
    cuda::RopeAndKvWrite(step_data, rows, layer, n_heads, data(q_norm), data(k_norm), eps, rope.cos->data(),
                         rope.sin->data(), rope.rotary_dim, qkv, layout, stream_);
  });
}

void CudaBackend::PagedAttention(const StepContext& context, int layer, int n_heads, float scale, int window,
                                 const float* qkv, const KvCache& kv, float* out) {
  const CudaStep& step = Of(context);
  Do([=, this, data = step.data, tile_vectors = step.tile_vectors,
      layout = static_cast<const CudaKvCache&>(kv).layout()] {
    const AttentionScratch scratch = {attention_partial_.As<float>(),
                                      counters_.As<uint32_t>() + kLoraProgressWords};
    cuda::PagedAttention(data, tile_vectors, layer, n_heads, scale, window, qkv, layout, scratch,
                         operand_.As<uint16_t>(), n_processors_, stream_);
    operand_holds_ = out;  // who reads `out` next reads it as an operand
  });
}

void CudaBackend::GatherLogitRows(const StepContext& context, const float* x, int d, float* y) {
  const CudaStep& step = Of(context);
  const auto rows = static_cast<int>(step.plan.batch().logit_rows.size());
  Do([this, data = step.data, x, rows, d, y] { GatherRows(data, x, rows, d, y, stream_); });
}

void CudaBackend::HeadAndSample(StepContext* context, const LinearInput& x, const PackedMatrix& head,
                                Seats* any_seats) {
  auto* const step = static_cast<CudaStep*>(context);
  auto* const seats = static_cast<CudaSeats*>(any_seats);
  const int rows = RowsFor(*step, static_cast<int>(step->plan.batch().logit_rows.size()));
  const SamplingData data = {sampling_device_.As<SamplingHeader>(), seats->limits.vocab_size,
                             seats->counts.As<uint32_t>()};
  Do([this, data, x, rows, mixtures = step->sampling->mixtures(), &head] {
    const uint16_t* operand = OperandOf(x, rows, static_cast<int>(head.n_in()));
    cuda::LinearLora(operand, rows, Of(head), nullptr, false, nullptr, {}, lora_scratch_, logits_.As<float>(),
                     n_processors_, stream_, fast_.get());
    SampleRows(data, logits_.As<float>(), rows, mixtures, sampler_scratch_, sampled_.As<int32_t>(),
               logprobs_.As<TokenLogprob>(), stream_);
  });
}

}  // namespace cuda
}  // namespace coterie
