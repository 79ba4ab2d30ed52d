#include "worker/load_model.h"

#include <algorithm>
#include <utility>

#include "common/log/named.h"
#include "common/memory.h"
#include "common/sequence.h"
#include "kernels/create.h"
#include "model/decoder/decoder.h"
#include "model/decoder/memory_plan.h"
#include "model/format/model_files.h"
#include "model/text/base_text.h"
#include "spdlog/spdlog.h"
#include "worker/engine/fake_model.h"

namespace coterie::worker {
namespace {

constexpr int kDefaultKvTokens = 16384;  // on a CPU
constexpr uint64_t kDefaultAdapterBytes = uint64_t{512} << 20;
constexpr uint64_t kLeastAdapterBytesOnGpu = uint64_t{64} << 20;
constexpr int kBatchTokensOnCpu = 256;
constexpr int kBatchTokensOnGpu = 2048;  // 256 leave half of an H200's multiprocessors without a tile

int KvTokensOnCpu(const WorkerOptions& options) {
  return options.kv_tokens > 0 ? options.kv_tokens : kDefaultKvTokens;
}

FakeModelOptions FakeOptions(const WorkerOptions& options) {
  FakeModelOptions fake;
  fake.n_seats = options.max_seqs;
  fake.n_adapter_slots = options.adapter_slots;
  fake.vocab_size = options.fake_vocab;
  fake.n_kv_blocks = KvTokensOnCpu(options) / kKvBlockTokens;
  fake.step_time = options.fake_step_time;
  fake.token_time = options.fake_token_time;
  fake.load_time = options.fake_load_time;
  fake.lost_at_step = static_cast<uint64_t>(options.fake_lose_device_at);
  fake.hangs_at_step = static_cast<uint64_t>(options.fake_hang_device_at);
  if (options.max_context > 0) fake.context_length = options.max_context;
  return fake;
}

// Gives the KV cache what the device has left beside everything else, but for a margin: the driver takes
// memory for graphs and for its own.
Status TakeWhatIsLeft(const ModelFiles& files, const DecoderOps& backend, DecoderOptions* decoder) {
  constexpr uint64_t kLeastMargin = uint64_t{64} << 20;
  decoder->n_kv_blocks = 1;
  ASSIGN_OR_RETURN(const MemoryPlan others, PlanMemory(files, *decoder, backend));
  const uint64_t room = backend.Room().bytes;
  const uint64_t margin = std::max(kLeastMargin, room / 32);
  if (others.bytes() + margin >= room) return absl::OkStatus();  // refused in a moment, with all its reasons
  decoder->n_kv_blocks = 0;
  decoder->kv_bytes = room - others.bytes() - margin;
  return absl::OkStatus();
}

// Says where memory will go, and refuses to begin what the system would end in the middle.
Status CheckMemory(const WorkerOptions& options, const ModelFiles& files, const DecoderOptions& decoder,
                   const DecoderOps& backend, bool gpu) {
  ASSIGN_OR_RETURN(MemoryPlan plan, PlanMemory(files, decoder, backend));
  // Those that are packed for a GPU wait in the host's memory; what slots take of the GPU's is in the plan.
  if (gpu) {
    RETURN_IF_ERROR(
        CheckMemoryFor(options.adapter_bytes, "packed experts in pinned memory (--adapter-bytes)"));
  } else {
    plan.demands.push_back({"packed experts", options.adapter_bytes, false, "--adapter-bytes"});
  }
  const MemoryRoom room = backend.Room();
  spdlog::info("memory: {}; {} in all, {} are left ({})", Named("plan", plan.ToText()),
               Named("wanted", MemoryText(plan.bytes())), Named("left", MemoryText(room.bytes)),
               Named("limit", room.limit));
  RETURN_IF_ERROR(plan.Check(room));
  if (plan.bytes() > room.bytes) {
    spdlog::warn(
        "memory may run short under load: {} could be wanted, {} are left ({}); lower --adapter-bytes, "
        "--max-logit-rows or --kv-tokens",
        Named("wanted", MemoryText(plan.bytes())), Named("left", MemoryText(room.bytes)),
        Named("limit", room.limit));
  }
  return absl::OkStatus();
}

// A GPU's backend rounds weights itself (CudaBackendOptions::weights).
std::optional<DType> FloatWeightsOnCpu(const WorkerOptions& options) {
  if (options.weights == "q8_0") return DType::kQ8_0;
  if (options.weights == "q4_1") return DType::kQ4_1;
  return std::nullopt;
}

Status CheckWeights(const WorkerOptions& options, const devices::ChosenDevice& device) {
  if (options.weights != (device.gpu ? "q4_1" : "fp8")) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--weights=", options.weights, " on ", device.device, ": ",
                   device.gpu ? "a GPU holds weights of floats as-is, as q8_0 or as fp8"
                              : "a CPU holds weights of floats as-is, as q8_0 or as q4_1"));
}

StatusOr<std::unique_ptr<DecoderOps>> MakeBackend(const WorkerOptions& options,
                                                  const devices::ChosenDevice& device) {
  if (device.gpu) {
    CudaBackendOptions gpu;
    gpu.device = device.gpu->index;
    gpu.weights = options.weights == "q8_0"  ? CudaBackendOptions::Weights::kQ8_0
                  : options.weights == "fp8" ? CudaBackendOptions::Weights::kFp8
                                             : CudaBackendOptions::Weights::kAsStored;
    if (options.gpu_prefill == "fast") gpu.prefill = CudaBackendOptions::Prefill::kFast;
    gpu.adapter_bytes = options.adapter_bytes;
    gpu.log = [](std::string_view words) { spdlog::warn("{}", words); };
    return CreateCudaDecoderOps(gpu);
  }
  CpuBackendOptions backend_options;
  backend_options.mode = options.mode == "exact" ? NumericsMode::kExact : NumericsMode::kFast;
  backend_options.n_threads = options.threads;
  if (options.isa != "auto") backend_options.isa = options.isa;
  backend_options.arrow_gates = options.arrow_gates;
  return CreateCpuDecoderOps(backend_options);
}

StatusOr<std::unique_ptr<LanguageModel>> MakeDecoder(const WorkerOptions& options,
                                                     const devices::ChosenDevice& device,
                                                     const ModelFiles& files,
                                                     std::vector<int32_t> eos_token_ids) {
  RETURN_IF_ERROR(CheckWeights(options, device));
  ASSIGN_OR_RETURN(std::unique_ptr<DecoderOps> backend, MakeBackend(options, device));
  DecoderOptions decoder_options;
  if (!device.gpu) decoder_options.float_weights = FloatWeightsOnCpu(options);
  decoder_options.max_batch_tokens = options.max_batch_tokens;
  decoder_options.max_seqs = options.max_seqs;
  decoder_options.max_logit_rows = options.max_logit_rows;
  decoder_options.max_context = options.max_context;
  decoder_options.eos_token_ids = std::move(eos_token_ids);
  decoder_options.n_adapter_slots = options.adapter_slots;
  if (!options.store.empty()) {
    PackedFolderOptions packed;
    packed.max_bytes = options.packed_bytes;
    packed.log = [](std::string_view words) { spdlog::warn("{}", words); };
    decoder_options.packed =
        std::make_shared<PackedFolder>(std::filesystem::path(options.store) / "packed", std::move(packed));
  }
  decoder_options.max_adapters_per_seq =
      std::min(static_cast<int>(kMaxAdaptersPerSequence), options.adapter_slots);
  const bool gpu = device.gpu.has_value();
  if (options.kv_bytes > 0) {
    decoder_options.kv_bytes = options.kv_bytes;
  } else if (gpu && options.kv_tokens == 0) {
    RETURN_IF_ERROR(TakeWhatIsLeft(files, *backend, &decoder_options));
  } else {
    decoder_options.n_kv_blocks = KvTokensOnCpu(options) / kKvBlockTokens;
  }
  RETURN_IF_ERROR(CheckMemory(options, files, decoder_options, *backend, gpu));
  ASSIGN_OR_RETURN(std::unique_ptr<Decoder> decoder,
                   Decoder::Create(files, std::move(backend), decoder_options));
  if (const int n = decoder->info().n_rounded_matrices; n > 0) {
    spdlog::info("{} matrices of floats were rounded to {} (--weights; as-is serves them as they are)", n,
                 options.weights);
  }
  return decoder;
}

}  // namespace

StatusOr<LoadedModel> LoadModel(const WorkerOptions& options, const devices::ChosenDevice& device) {
  LoadedModel loaded;
  if (options.model.empty()) {
    loaded.name = "fake";
    loaded.model = std::make_unique<FakeModel>(FakeOptions(options));
    loaded.tokenizer_digest = Sha256("fake tokenizer");
    return loaded;
  }
  ASSIGN_OR_RETURN(const std::unique_ptr<ModelFiles> files, ModelFiles::Open(options.model));
  loaded.name = files->name();
  ASSIGN_OR_RETURN(const BaseText text, LoadBaseText(*files));
  loaded.tokenizer_digest = text.tokenizer->digest();
  loaded.warnings = text.warnings;
  std::vector<int32_t> eos_token_ids;
  for (const EndToken& end : text.end_tokens) eos_token_ids.push_back(end.id);
  ASSIGN_OR_RETURN(
      loaded.matchers,
      GrammarMatchers::Create(TokenBytes(*text.tokenizer, files->config().vocab_size), eos_token_ids));
  if (options.fake) {
    FakeModelOptions fake = FakeOptions(options);
    fake.vocab_size = files->config().vocab_size;
    fake.context_length = files->config().context_length;
    if (options.max_context > 0) fake.context_length = std::min(fake.context_length, options.max_context);
    fake.eos_token_ids = std::move(eos_token_ids);
    fake.base_digest = files->ComputeDigest();
    RETURN_IF_ERROR(files->CheckWhole());
    loaded.model = std::make_unique<FakeModel>(std::move(fake));
    return loaded;
  }
  ASSIGN_OR_RETURN(loaded.model, MakeDecoder(options, device, *files, std::move(eos_token_ids)));
  return loaded;
}

WorkerOptions WithDefaultsFor(const devices::ChosenDevice& device, WorkerOptions options) {
  if (options.weights == "auto") options.weights = !device.gpu && options.mode == "fast" ? "q8_0" : "as-is";
  if (options.adapter_bytes == 0) {
    options.adapter_bytes =
        device.gpu ? std::max(kLeastAdapterBytesOnGpu, device.gpu->total_bytes / 16) : kDefaultAdapterBytes;
  }
  if (options.max_batch_tokens == 0) {
    options.max_batch_tokens =
        std::max(device.gpu ? kBatchTokensOnGpu : kBatchTokensOnCpu, 2 * options.max_seqs);
  }
  return options;
}

}  // namespace coterie::worker
