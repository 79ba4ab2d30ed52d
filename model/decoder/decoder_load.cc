#include <algorithm>
#include <cmath>

#include "absl/strings/ascii.h"
#include "common/quoted.h"
#include "kernels/formats/quantize.h"
#include "model/decoder/decoder.h"
#include "model/decoder/memory_plan.h"
#include "model/decoder/weight_matrix.h"
#include "model/format/base_digest.h"
#include "model/format/dequantize.h"
#include "model/format/read_ahead.h"

// Making a Decoder: weights from the files' roles into the backend's layout, tables, buffers.
namespace coterie {
namespace {

// A norm's weight or a bias as float32, in the order of the matrix's rows. One value that is not finite would
// spoil every answer.
Status AppendVector(const Weight& weight, std::vector<float>* to) {
  const std::vector<float> values = DequantizeTensor(weight.tensor);
  for (size_t i = 0; i < values.size(); ++i) {
    if (!std::isfinite(values[i])) {
      return absl::InvalidArgumentError(absl::StrCat("tensor ", Quoted(weight.tensor.name),
                                                     " of the base holds ", values[i], " at ", i,
                                                     "; weights must be finite: fetch the file again"));
    }
    const size_t from = weight.row_order.empty() ? i : static_cast<size_t>(weight.row_order[i]);
    to->push_back(values[from] + weight.offset);
  }
  return absl::OkStatus();
}

// Angles as transformers computes them: frequency and product rounded to float32, so that positions far out
// turn by the angles the model was trained with; cosine and sine of that angle in float64, rounded once.
StatusOr<RopeTable> MakeRopeTable(const std::vector<float>& frequencies, double factor, int n_positions,
                                  DecoderOps& backend) {
  std::vector<float> cosines, sines;
  cosines.reserve(frequencies.size() * static_cast<size_t>(n_positions));
  sines.reserve(cosines.capacity());
  for (int position = 0; position < n_positions; ++position) {
    for (const float frequency : frequencies) {
      const float angle = static_cast<float>(position) * frequency;
      cosines.push_back(static_cast<float>(std::cos(static_cast<double>(angle)) * factor));
      sines.push_back(static_cast<float>(std::sin(static_cast<double>(angle)) * factor));
    }
  }
  RopeTable table;
  table.rotary_dim = 2 * static_cast<int>(frequencies.size());
  ASSIGN_OR_RETURN(table.cos, backend.Upload(cosines));
  ASSIGN_OR_RETURN(table.sin, backend.Upload(sines));
  return table;
}

Status CheckOptions(const DecoderOptions& o) {
  const auto refuse = [](const char* field, int64_t value, const char* range) {
    return absl::InvalidArgumentError(absl::StrCat("DecoderOptions.", field, " is ", value, ": ", range));
  };
  if ((o.n_kv_blocks > 0) == (o.kv_bytes > 0)) {
    return refuse("n_kv_blocks", o.n_kv_blocks, "set either it or kv_bytes, not both");
  }
  if (o.n_kv_blocks < 0) return refuse("n_kv_blocks", o.n_kv_blocks, "at least 1");
  if (o.max_batch_tokens < 1 || o.max_batch_tokens > 1 << 20) {
    return refuse("max_batch_tokens", o.max_batch_tokens, "1 to 1,048,576");
  }
  if (o.max_seqs < 1 || o.max_seqs > 1 << 16) return refuse("max_seqs", o.max_seqs, "1 to 65,536");
  if (o.max_logit_rows < 0 || o.max_logit_rows > 1 << 20) {
    return refuse("max_logit_rows", o.max_logit_rows, "0 to 1,048,576");
  }
  if (o.n_adapter_slots < 1 || o.n_adapter_slots > 1 << 16) {
    return refuse("n_adapter_slots", o.n_adapter_slots, "1 to 65,536");
  }
  if (o.n_seats < 0 || o.n_seats > 1 << 18) return refuse("n_seats", o.n_seats, "0 to 262,144");
  if (o.max_context < 0) return refuse("max_context", o.max_context, "at least 0");
  if (o.float_weights && !CanQuantizeTo(*o.float_weights)) {
    return absl::InvalidArgumentError(absl::StrCat("DecoderOptions.float_weights is ",
                                                   ToAbsl(DTypeName(*o.float_weights)), ": Q8_0 or Q4_1"));
  }
  return absl::OkStatus();
}

}  // namespace

StatusOr<std::unique_ptr<Decoder>> Decoder::Create(const ModelFiles& files,
                                                   std::unique_ptr<DecoderOps> backend,
                                                   const DecoderOptions& options) {
  RETURN_IF_ERROR(CheckOptions(options));
  auto decoder = std::unique_ptr<Decoder>(new Decoder(files.config(), std::move(backend), options));
  const ArchitectureTraits& traits = TraitsOf(files.config().architecture);
  const GraphOps ops = {.scaled_embedding = traits.scaled_embedding,
                        .ge_glu = traits.feed_forward == LinearInput::Op::kGeGlu,
                        .add_rms_norm = traits.post_norms};
  if (const Status lacks = decoder->backend_->CheckOps(ops); !lacks.ok()) {
    return absl::UnimplementedError(absl::StrCat("a base of the architecture ", ToAbsl(traits.name),
                                                 " cannot run here: ", lacks.message()));
  }
  ReadAhead ahead(files);                       // beside the KV cache's pages, which take seconds, too
  RETURN_IF_ERROR(decoder->AllocateBuffers());  // first: it refuses shapes that cannot run
  RETURN_IF_ERROR(decoder->LoadWeights(files, &ahead));
  decoder->info_.eos_token_ids = options.eos_token_ids;
  RETURN_IF_ERROR(files.CheckWhole());
  files.DropPages();
  return decoder;
}

StatusOr<Decoder::Layer> Decoder::LoadLayer(const ModelFiles& files, int index) {
  Layer layer;
  const auto vector =
      [&](std::initializer_list<WeightRole> roles) -> StatusOr<std::unique_ptr<DeviceBuffer>> {
    std::vector<float> values;
    for (WeightRole role : roles) RETURN_IF_ERROR(AppendVector(files.Get(role, index), &values));
    return backend_->Upload(values);
  };
  const auto matrix = [&](std::initializer_list<WeightRole> roles) {
    return PackWeights(files, roles, index);
  };
  ASSIGN_OR_RETURN(layer.attn_norm, vector({WeightRole::kAttnNorm}));
  const bool fused = TraitsOf(config_.architecture).fused_products;
  ASSIGN_OR_RETURN(layer.qkv, fused ? matrix({WeightRole::kQkv})
                                    : matrix({WeightRole::kQ, WeightRole::kK, WeightRole::kV}));
  if (config_.qkv_bias) {
    ASSIGN_OR_RETURN(layer.qkv_bias, vector({WeightRole::kQBias, WeightRole::kKBias, WeightRole::kVBias}));
  }
  if (config_.qk_norm) {
    ASSIGN_OR_RETURN(layer.q_norm, vector({WeightRole::kQNorm}));
    ASSIGN_OR_RETURN(layer.k_norm, vector({WeightRole::kKNorm}));
  }
  ASSIGN_OR_RETURN(layer.o, matrix({WeightRole::kO}));
  if (config_.o_bias) {
    ASSIGN_OR_RETURN(layer.o_bias, vector({WeightRole::kOBias}));
  }
  ASSIGN_OR_RETURN(layer.ffn_norm, vector({WeightRole::kFfnNorm}));
  ASSIGN_OR_RETURN(layer.gate_up,
                   fused ? matrix({WeightRole::kGateUp}) : matrix({WeightRole::kGate, WeightRole::kUp}));
  ASSIGN_OR_RETURN(layer.down, matrix({WeightRole::kDown}));
  if (TraitsOf(config_.architecture).post_norms) {
    ASSIGN_OR_RETURN(layer.attn_post_norm, vector({WeightRole::kAttnPostNorm}));
    ASSIGN_OR_RETURN(layer.ffn_post_norm, vector({WeightRole::kFfnPostNorm}));
  }
  return layer;
}

StatusOr<std::unique_ptr<PackedMatrix>> Decoder::PackWeights(const ModelFiles& files,
                                                             std::initializer_list<WeightRole> roles,
                                                             int layer) {
  std::vector<HostMatrix> parts;
  for (WeightRole role : roles) {
    parts.push_back(MatrixOf(files.Get(role, layer), role, options_.float_weights));
    info_.n_rounded_matrices += parts.back().rounded_to.has_value();
  }
  ASSIGN_OR_RETURN(std::unique_ptr<PackedMatrix> packed, backend_->PackMatrix(parts));
  info_.weight_bytes += packed->bytes();
  return packed;
}

Status Decoder::LoadWeights(const ModelFiles& files, ReadAhead* ahead) {
  BaseDigest digest(files);
  ASSIGN_OR_RETURN(embedding_, PackWeights(files, {WeightRole::kTokenEmbedding}, 0));
  if (!config_.tied_embeddings) {
    ASSIGN_OR_RETURN(head_, PackWeights(files, {WeightRole::kOutput}, 0));
  }
  std::vector<float> norm;
  RETURN_IF_ERROR(AppendVector(files.Get(WeightRole::kFinalNorm), &norm));
  ASSIGN_OR_RETURN(final_norm_, backend_->Upload(norm));
  digest.Add(BaseDigest::kOnce);
  files.DropPages();
  for (int index = 0; index < config_.n_layers; ++index) {
    ahead->At(index);
    ASSIGN_OR_RETURN(Layer layer, LoadLayer(files, index));
    layers_.push_back(std::move(layer));
    digest.Add(index);
    files.DropPages();
  }
  info_.base_digest = digest.Finish();
  if (info_.n_rounded_matrices > 0) {
    absl::StrAppend(&info_.numerics_class,
                    " w=", absl::AsciiStrToLower(ToAbsl(DTypeName(*options_.float_weights))));
  }
  return absl::OkStatus();
}

Status Decoder::AllocateBuffers() {
  if (options_.max_logit_rows == 0) options_.max_logit_rows = options_.max_seqs;
  info_.vocab_size = config_.vocab_size;
  info_.context_length = options_.max_context > 0 ? std::min(options_.max_context, config_.context_length)
                                                  : config_.context_length;
  info_.steps_in_flight = backend_->steps_in_flight();
  info_.n_seats = SeatsOf(options_, *backend_);
  info_.numerics_class = backend_->numerics_class();
  // Two workers of one base differ in this by --max-context alone, and answer differently.
  if (UsesShortRope(config_, info_.context_length)) info_.numerics_class += " rope=short";
  info_.batch_invariant = backend_->batch_invariant();
  info_.device_name = backend_->device_name();
  info_.gates.assign(backend_->gates().begin(), backend_->gates().end());
  ASSIGN_OR_RETURN(const KvCacheShape shape, KvShapeOf(config_, options_, *backend_));
  ASSIGN_OR_RETURN(kv_, backend_->MakeKvCache(shape));
  info_.n_kv_blocks = shape.n_blocks;
  info_.kv_bytes = kv_->bytes();
  max_positions_ = MaxPositions(config_, options_, shape);
  ASSIGN_OR_RETURN(rope_, MakeRopeTable(RopeInverseFrequencies(config_, info_.context_length),
                                        config_.rope_scaling.attention_factor, max_positions_, *backend_));
  if (TraitsOf(config_.architecture).local_rope) {
    ASSIGN_OR_RETURN(local_rope_, MakeRopeTable(LocalRopeInverseFrequencies(config_), /*factor=*/1,
                                                max_positions_, *backend_));
  }

  StepLimits limits = LargestPart(config_, options_, shape, *backend_);
  max_part_tokens_ = limits.max_tokens;
  for (Batch* batch : {&part_, &logit_batch_}) {
    const int seqs = std::min(limits.max_seqs, limits.max_tokens);
    batch->Reserve(limits.max_tokens, seqs, /*max_blocks=*/0, seqs * limits.max_adapters, limits.max_tokens);
  }
  ASSIGN_OR_RETURN(part_step_, backend_->MakeStepContext(limits));
  ASSIGN_OR_RETURN(slots_, backend_->MakeAdapterSlots(options_.n_adapter_slots, config_.n_layers));
  ASSIGN_OR_RETURN(seats_, backend_->MakeSeats({.n_seats = info_.n_seats,
                                                .max_blocks = KvBlocksFor(max_positions_),
                                                .vocab_size = config_.vocab_size}));
  StepLimits whole = limits;
  whole.max_tokens = options_.max_batch_tokens;
  whole.vocab_size = config_.vocab_size;
  for (int i = 0; i < info_.steps_in_flight; ++i) {
    ASSIGN_OR_RETURN(std::unique_ptr<StepContext> step, backend_->MakeStepContext(whole));
    steps_.push_back(std::move(step));
  }
  limits.max_tokens = std::min(max_part_tokens_, options_.max_logit_rows);
  ASSIGN_OR_RETURN(logit_step_, backend_->MakeStepContext(limits));

  const auto allocate = [&](int rows, int columns, std::unique_ptr<DeviceBuffer>* to) -> Status {
    ASSIGN_OR_RETURN(*to, backend_->Allocate(static_cast<size_t>(rows) * static_cast<size_t>(columns)));
    return absl::OkStatus();
  };
  const int tokens = max_part_tokens_;
  const int rows = options_.max_logit_rows;
  RETURN_IF_ERROR(allocate(tokens, config_.hidden_size, &x_));
  RETURN_IF_ERROR(allocate(tokens, config_.hidden_size, &normed_));
  RETURN_IF_ERROR(allocate(tokens, config_.q_size() + 2 * config_.kv_size(), &qkv_));
  RETURN_IF_ERROR(allocate(tokens, config_.q_size(), &attn_));
  RETURN_IF_ERROR(allocate(tokens, 2 * config_.ffn_size, &gate_up_));
  RETURN_IF_ERROR(allocate(tokens, config_.ffn_size, &hidden_));
  RETURN_IF_ERROR(allocate(rows, config_.hidden_size, &last_));
  RETURN_IF_ERROR(allocate(limits.max_tokens, config_.q_size() + 2 * config_.kv_size(), &last_qkv_));
  return absl::OkStatus();
}

}  // namespace coterie
