#include "model/format/weight_names.h"

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/check.h"

namespace coterie {
namespace {

struct RoleNames {
  WeightRole role;
  std::string_view name;  // for people
  std::string_view gguf;  // after "blk.N." for per-layer roles
  std::string_view hf;    // after "model.layers.N."
};

using enum WeightRole;
constexpr RoleNames kNames[kWeightRoleCount] = {
    {kTokenEmbedding, "token_embedding", "token_embd.weight", "model.embed_tokens.weight"},
    {kOutput, "output", "output.weight", "lm_head.weight"},
    {kFinalNorm, "final_norm", "output_norm.weight", "model.norm.weight"},
    {kAttnNorm, "attn_norm", "attn_norm.weight", "input_layernorm.weight"},
    {kQ, "q", "attn_q.weight", "self_attn.q_proj.weight"},
    {kK, "k", "attn_k.weight", "self_attn.k_proj.weight"},
    {kV, "v", "attn_v.weight", "self_attn.v_proj.weight"},
    {kO, "o", "attn_output.weight", "self_attn.o_proj.weight"},
    {kQBias, "q_bias", "attn_q.bias", "self_attn.q_proj.bias"},
    {kKBias, "k_bias", "attn_k.bias", "self_attn.k_proj.bias"},
    {kVBias, "v_bias", "attn_v.bias", "self_attn.v_proj.bias"},
    {kOBias, "o_bias", "attn_output.bias", "self_attn.o_proj.bias"},
    {kQNorm, "q_norm", "attn_q_norm.weight", "self_attn.q_norm.weight"},
    {kKNorm, "k_norm", "attn_k_norm.weight", "self_attn.k_norm.weight"},
    {kFfnNorm, "ffn_norm", "ffn_norm.weight", "post_attention_layernorm.weight"},
    {kGate, "gate", "ffn_gate.weight", "mlp.gate_proj.weight"},
    {kUp, "up", "ffn_up.weight", "mlp.up_proj.weight"},
    {kDown, "down", "ffn_down.weight", "mlp.down_proj.weight"},
    {kAttnPostNorm, "attn_post_norm", "post_attention_norm.weight", "post_attention_layernorm.weight"},
    {kFfnPostNorm, "ffn_post_norm", "post_ffw_norm.weight", "post_feedforward_layernorm.weight"},
    {kQkv, "qkv", "attn_qkv.weight", "self_attn.qkv_proj.weight"},
    {kGateUp, "gate_up", "ffn_up.weight", "mlp.gate_up_proj.weight"},
};
// Where four norms stand in a layer, the one before the feed-forward has another name.
constexpr RoleNames kPreFfnNorm = {kFfnNorm, "ffn_norm", "ffn_norm.weight",
                                   "pre_feedforward_layernorm.weight"};

const RoleNames& NamesOf(WeightRole role, Architecture architecture) {
  if (role == kFfnNorm && TraitsOf(architecture).post_norms) return kPreFfnNorm;
  const RoleNames& names = kNames[static_cast<int>(role)];
  COTERIE_CHECK(names.role == role);
  return names;
}

constexpr std::string_view kGgufLayer = "blk.";
constexpr std::string_view kHfLayer = "model.layers.";

}  // namespace

std::string_view WeightRoleName(WeightRole role) { return kNames[static_cast<int>(role)].name; }

bool IsPerLayer(WeightRole role) { return role != kTokenEmbedding && role != kOutput && role != kFinalNorm; }

std::optional<WeightPlace> ParseWeightName(std::string_view name, const ModelConfig& config, bool is_gguf) {
  const std::string_view prefix = is_gguf ? kGgufLayer : kHfLayer;
  std::string_view rest = name;
  int layer = 0;
  const bool in_layer = name.substr(0, prefix.size()) == prefix;
  if (in_layer) {
    rest.remove_prefix(prefix.size());
    const size_t dot = rest.find('.');
    if (dot == std::string_view::npos) return std::nullopt;
    const std::string_view digits = rest.substr(0, dot);
    if (!absl::SimpleAtoi(ToAbsl(digits), &layer) || absl::StrCat(layer) != digits || layer < 0)
      return std::nullopt;
    rest.remove_prefix(dot + 1);
  }
  for (int r = 0; r < kWeightRoleCount; ++r) {
    const auto role = static_cast<WeightRole>(r);
    if (IsPerLayer(role) != in_layer || !(HasWeight(config, role) || role == kOutput)) continue;
    const RoleNames& names = NamesOf(role, config.architecture);
    if ((is_gguf ? names.gguf : names.hf) == rest) return WeightPlace{role, layer};
  }
  return std::nullopt;
}

std::string WeightName(WeightRole role, int layer, Architecture architecture, bool is_gguf) {
  const RoleNames& names = NamesOf(role, architecture);
  const std::string_view own = is_gguf ? names.gguf : names.hf;
  if (!IsPerLayer(role)) return std::string(own);
  return absl::StrCat(ToAbsl(is_gguf ? kGgufLayer : kHfLayer), layer, ".", ToAbsl(own));
}

bool IsIgnorableTensor(std::string_view name, bool is_gguf) {
  if (is_gguf) {  // read with the configuration
    return name == "rope_freqs.weight" || name == "rope_factors_long.weight" ||
           name == "rope_factors_short.weight";
  }
  constexpr std::string_view kTable = ".self_attn.rotary_emb.inv_freq";  // early Llama conversions
  return name.size() > kTable.size() && name.substr(0, kHfLayer.size()) == kHfLayer &&
         name.substr(name.size() - kTable.size()) == kTable;
}

}  // namespace coterie
