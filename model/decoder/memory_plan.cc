#include "model/decoder/memory_plan.h"

#include <algorithm>

#include "absl/strings/str_join.h"
#include "model/decoder/weight_matrix.h"
#include "model/lora/peft_config.h"

namespace coterie {
namespace {

int ContextOf(const ModelConfig& config, const DecoderOptions& options) {
  return options.max_context > 0 ? std::min(options.max_context, config.context_length)
                                 : config.context_length;
}

int LogitRows(const DecoderOptions& options) {
  return options.max_logit_rows > 0 ? options.max_logit_rows : options.max_seqs;
}

// Parts of one matrix that have one type share its panels; counted apart they come to a little more.
uint64_t WeightBytes(const ModelFiles& files, const DecoderOptions& options, const DecoderOps& backend) {
  const ModelConfig& config = files.config();
  uint64_t bytes = 0;
  const auto add = [&](WeightRole role, int layer) {
    const HostMatrix matrix = MatrixOf(files.Get(role, layer), role, options.float_weights);
    bytes += backend.MatrixBytes(matrix.packed_dtype(), matrix.n_out, matrix.n_in);
  };
  add(WeightRole::kTokenEmbedding, 0);
  if (!config.tied_embeddings) add(WeightRole::kOutput, 0);
  for (int layer = 0; layer < config.n_layers; ++layer) {
    for (int r = 0; r < kWeightRoleCount; ++r) {
      const auto role = static_cast<WeightRole>(r);
      const bool is_matrix = WeightShape(config, role).size() == 2;
      if (is_matrix && IsPerLayer(role) && HasWeight(config, role)) add(role, layer);
    }
  }
  return bytes;
}

}  // namespace

StatusOr<KvCacheShape> KvShapeOf(const ModelConfig& config, const DecoderOptions& options,
                                 const DecoderOps& backend) {
  KvCacheShape shape{config.n_layers, options.n_kv_blocks, config.n_kv_heads, config.head_dim};
  if (shape.n_blocks > 0) return shape;
  const size_t block_bytes = backend.KvBlockBytes(shape);
  shape.n_blocks = static_cast<int>(std::min<size_t>(options.kv_bytes / block_bytes, 1 << 30));
  if (shape.n_blocks == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("DecoderOptions.kv_bytes is ", options.kv_bytes, ": one block takes ", block_bytes));
  }
  return shape;
}

int SeatsOf(const DecoderOptions& options, const DecoderOps& backend) {
  return options.n_seats > 0 ? options.n_seats : options.max_seqs * backend.steps_in_flight();
}

int MaxPositions(const ModelConfig& config, const DecoderOptions& options, const KvCacheShape& shape) {
  return static_cast<int>(
      std::min<int64_t>(ContextOf(config, options), int64_t{shape.n_blocks} * kKvBlockTokens));
}

StepLimits LargestPart(const ModelConfig& config, const DecoderOptions& options, const KvCacheShape& shape,
                       const DecoderOps& backend) {
  StepLimits limits;
  limits.max_tokens = std::min(options.max_batch_tokens, std::max(kKvBlockTokens, backend.max_part_tokens()));
  limits.max_seqs = options.max_seqs;
  limits.max_logit_rows = LogitRows(options);
  limits.n_heads = config.n_heads;
  limits.max_input = std::max({config.hidden_size, config.q_size(), config.ffn_size});
  limits.max_output = std::max(
      {config.vocab_size, config.hidden_size, config.q_size() + 2 * config.kv_size(), 2 * config.ffn_size});
  limits.max_adapters = options.max_adapters_per_seq;
  limits.max_rank =
      3 * std::min(LoraLimits{}.max_rank, backend.max_lora_rank());  // Q, K and V read one input
  return limits;
}

StatusOr<MemoryPlan> PlanMemory(const ModelFiles& files, const DecoderOptions& options,
                                const DecoderOps& backend) {
  const ModelConfig& config = files.config();
  ASSIGN_OR_RETURN(const KvCacheShape shape, KvShapeOf(config, options, backend));
  const StepLimits part = LargestPart(config, options, shape, backend);
  const auto tokens = static_cast<uint64_t>(part.max_tokens);
  const auto rows = static_cast<uint64_t>(part.max_logit_rows);
  const auto qkv = static_cast<uint64_t>(config.q_size() + 2 * config.kv_size());
  const auto d = static_cast<uint64_t>(config.hidden_size);
  const auto row_floats =
      2 * d + qkv + static_cast<uint64_t>(config.q_size()) + 3 * static_cast<uint64_t>(config.ffn_size);
  const uint64_t last_rows = std::min<uint64_t>(tokens, rows);
  const auto seats = static_cast<uint64_t>(SeatsOf(options, backend));
  const auto positions = static_cast<uint64_t>(MaxPositions(config, options, shape));
  const auto rotary_floats =
      static_cast<uint64_t>(config.rotated()) * (TraitsOf(config.architecture).local_rope ? 2 : 1);
  MemoryPlan plan;
  plan.demands = {
      {"weights", WeightBytes(files, options, backend), true,
       "--weights=q8_0, where the base is of floats, or a smaller or more quantised base"},
      {"KV cache", backend.KvBlockBytes(shape) * static_cast<uint64_t>(shape.n_blocks), true,
       "--kv-tokens or --kv-bytes"},
      {"activations", 4 * (tokens * row_floats + rows * d + last_rows * qkv), true, "--max-batch-tokens"},
      {"rotary tables", 4 * positions * rotary_floats, true, "--max-context"},
      {"block table", 4 * seats * static_cast<uint64_t>(KvBlocksFor(static_cast<int>(positions))), true,
       "--max-seqs"},
  };
  StepLimits whole = part;
  whole.max_tokens = options.max_batch_tokens;
  whole.vocab_size = config.vocab_size;
  SeatLimits seat_limits;
  seat_limits.n_seats = static_cast<int>(seats);
  seat_limits.max_blocks = KvBlocksFor(static_cast<int>(positions));
  seat_limits.vocab_size = config.vocab_size;
  const std::vector<MemoryDemand> steps = backend.StepMemory(whole, shape, seat_limits);
  plan.demands.insert(plan.demands.end(), steps.begin(), steps.end());
  return plan;
}

uint64_t MemoryPlan::bytes_at_start() const {
  uint64_t sum = 0;
  for (const Demand& demand : demands) sum += demand.at_start ? demand.bytes : 0;
  return sum;
}

uint64_t MemoryPlan::bytes() const {
  uint64_t sum = 0;
  for (const Demand& demand : demands) sum += demand.bytes;
  return sum;
}

std::string MemoryPlan::ToText() const {
  std::vector<std::string> parts;
  for (const Demand& demand : demands) {
    parts.push_back(absl::StrCat(demand.what, demand.at_start ? " " : " up to ", MemoryText(demand.bytes)));
  }
  return absl::StrJoin(parts, ", ");
}

Status MemoryPlan::Check(const MemoryRoom& room) const {
  if (bytes_at_start() <= room.bytes) return absl::OkStatus();
  const Demand* largest = nullptr;
  for (const Demand& demand : demands) {
    if (demand.at_start && (largest == nullptr || demand.bytes > largest->bytes)) largest = &demand;
  }
  return absl::ResourceExhaustedError(
      absl::StrCat("not enough memory: ", ToText(), "; of these ", MemoryText(bytes_at_start()),
                   " are taken at start, and ", MemoryText(room.bytes), " are left (", room.limit,
                   "). The most goes to ", largest->what, ": ", largest->remedy, " makes that smaller"));
}

}  // namespace coterie
