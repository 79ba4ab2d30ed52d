#include "model/publishing/gguf_adapter.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/numbers.h"
#include "common/quoted.h"
#include "model/format/dequantize.h"
#include "model/format/describe.h"
#include "model/format/model_files.h"
#include "model/format/write_safetensors.h"
#include "model/lora/module_resolver.h"

namespace coterie {
namespace {

constexpr std::pair<std::string_view, LoraModule> kGgufModules[] = {
    {"attn_q", LoraModule::kQ},      {"attn_k", LoraModule::kK},      {"attn_v", LoraModule::kV},
    {"attn_output", LoraModule::kO}, {"ffn_gate", LoraModule::kGate}, {"ffn_up", LoraModule::kUp},
    {"ffn_down", LoraModule::kDown}, {"attn_qkv", LoraModule::kQkv}};

// Of "blk.3.attn_q.weight.lora_a": layer, module, factor.
struct FactorPlace {
  int layer = 0;
  LoraModule module = LoraModule::kQ;
  char factor = 'A';
};

std::optional<FactorPlace> PlaceOfTensor(std::string_view name) {
  FactorPlace place;
  constexpr std::string_view kBlock = "blk.";
  constexpr std::string_view kWeight = ".weight.lora_";
  if (!name.starts_with(kBlock)) return std::nullopt;
  name.remove_prefix(kBlock.size());
  const size_t dot = name.find('.');
  if (dot == std::string_view::npos || !absl::SimpleAtoi(ToAbsl(name.substr(0, dot)), &place.layer) ||
      place.layer < 0 || place.layer >= kConfigLimits.max_layers) {
    return std::nullopt;
  }
  name.remove_prefix(dot + 1);
  const size_t weight = name.find(kWeight);
  if (weight == std::string_view::npos) return std::nullopt;
  const std::string_view end = name.substr(weight + kWeight.size());
  if (end != "a" && end != "b") return std::nullopt;
  place.factor = end == "a" ? 'A' : 'B';
  for (const auto& [gguf, module] : kGgufModules) {
    if (name.substr(0, weight) != gguf) continue;
    place.module = module;
    return place;
  }
  return std::nullopt;
}

const ArchitectureTraits* Find(std::string_view name) {
  for (const ArchitectureTraits& traits : AllArchitectures()) {
    if (traits.name == name) return &traits;
  }
  return nullptr;
}

struct GgufPair {
  const TensorView* a = nullptr;
  const TensorView* b = nullptr;
};
using GgufPairs = std::map<std::pair<int, LoraModule>, GgufPair>;

class GgufAdapterReader {
 public:
  GgufAdapterReader(const GgufFile& file, const ModelConfig* base, std::vector<Status>* problems)
      : file_(file), base_(base), problems_(problems) {}

  PeftFiles Read() {
    const double alpha = ReadHead();
    const GgufPairs pairs = ReadPairs();
    if (!problems_->empty()) return {};
    std::vector<TensorView> tensors;
    for (const auto& [place, pair] : pairs) {
      const std::string module = "base_model.model." + LoraModuleName(place.first, place.second);
      tensors.push_back(Plain(*pair.a, module + ".lora_A.weight", {}));
      tensors.push_back(Plain(*pair.b, module + ".lora_B.weight", RowOrderOf(place.second, *pair.b)));
    }
    if (!problems_->empty()) return {};
    return {Config(pairs, alpha), WriteSafetensors(std::move(tensors))};
  }

 private:
  void Refuse(absl::StatusCode code, std::string_view what) {
    problems_->push_back(Status(code, absl::StrCat(file_.name(), ": ", ToAbsl(what))));
  }
  // Where the key's text is another than `want`.
  void Want(std::string_view key, std::string_view want, std::string_view otherwise) {
    const StatusOr<std::string_view> text = file_.GetString(key);
    if (!text.ok()) {
      problems_->push_back(Annotate(text.status(), "is it a LoRA adapter?"));
    } else if (*text != want) {
      Refuse(absl::StatusCode::kUnimplemented, absl::StrCat(ToAbsl(key), " is ", Quoted(*text), ", want ",
                                                            Quoted(want), "; ", ToAbsl(otherwise)));
    }
  }

  // Returns alpha.
  double ReadHead() {
    Want("general.type", "adapter", "an expert is a LoRA adapter of the base, not a model");
    Want("adapter.type", "lora", "other kinds of adapters are not served");
    const StatusOr<std::string_view> architecture = file_.GetString("general.architecture");
    if (!architecture.ok()) {
      problems_->push_back(architecture.status());
    } else if (const ArchitectureTraits* traits = Find(*architecture); traits == nullptr) {
      Refuse(absl::StatusCode::kUnimplemented,
             absl::StrCat("general.architecture is ", Quoted(*architecture), "; served are adapters of ",
                          ArchitectureNames()));
    } else {
      traits_ = *traits;
      if (base_ != nullptr && ArchitectureName(base_->architecture) != *architecture) {
        Refuse(absl::StatusCode::kFailedPrecondition,
               absl::StrCat("the adapter is for the architecture ", Quoted(*architecture), ", the base is a ",
                            ToAbsl(ArchitectureName(base_->architecture))));
      }
    }
    for (const std::string_view key : file_.Keys()) {
      if (key.starts_with("adapter.alora")) {
        Refuse(absl::StatusCode::kUnimplemented,
               absl::StrCat("it has ", Quoted(key),
                            ", so it acts from a place of the prompt on (aLoRA), which "
                            "is not supported; train a plain LoRA"));
      }
    }
    const StatusOr<double> alpha = file_.GetFloat("adapter.lora.alpha");
    if (!alpha.ok()) {
      problems_->push_back(alpha.status());
      return 0;
    }
    if (!std::isfinite(*alpha)) {
      Refuse(absl::StatusCode::kInvalidArgument,
             absl::StrCat("adapter.lora.alpha is ", *alpha, ", want a finite number"));
    }
    return *alpha;
  }

  GgufPairs ReadPairs() {
    GgufPairs pairs;
    for (const TensorView& tensor : file_.tensors()) {
      const std::optional<FactorPlace> place = PlaceOfTensor(tensor.name);
      if (!place.has_value()) {
        Refuse(absl::StatusCode::kUnimplemented,
               absl::StrCat("tensor ", Quoted(tensor.name),
                            " is no factor of a layer's attention or feed-forward weights "
                            "(blk.N.attn_q.weight.lora_a and so on), the only ones that are served"));
      } else if (tensor.shape.size() != 2) {
        Refuse(absl::StatusCode::kInvalidArgument,
               absl::StrCat("tensor ", Quoted(tensor.name), " has shape ", ShapeText(tensor.shape),
                            ", want two dimensions"));
      } else {
        const bool is_gate_up = traits_.fused_products && place->module == LoraModule::kUp;
        GgufPair& pair = pairs[{place->layer, is_gate_up ? LoraModule::kGateUp : place->module}];
        (place->factor == 'A' ? pair.a : pair.b) = &tensor;
      }
    }
    if (file_.tensors().empty()) Refuse(absl::StatusCode::kInvalidArgument, "it holds no tensor");
    for (const auto& [place, pair] : pairs) {
      if (pair.a == nullptr || pair.b == nullptr) {
        Refuse(absl::StatusCode::kInvalidArgument,
               absl::StrCat("tensor ", Quoted((pair.a == nullptr ? pair.b : pair.a)->name), " has no ",
                            pair.a == nullptr ? "lora_a" : "lora_b",
                            " beside it; the file is incomplete: convert the adapter again"));
      } else if (pair.a->shape[0] != pair.b->shape[1]) {
        Refuse(absl::StatusCode::kInvalidArgument,
               absl::StrCat("tensors ", Quoted(pair.a->name), " ", ShapeText(pair.a->shape), " and ",
                            Quoted(pair.b->name), " ", ShapeText(pair.b->shape), " differ in their rank, ",
                            pair.a->shape[0], " and ", pair.b->shape[1]));
      }
    }
    return pairs;
  }

  // Of B in the file; empty: as it is.
  std::vector<int32_t> RowOrderOf(LoraModule module, const TensorView& b) {
    if (!traits_.permuted_gguf || (module != LoraModule::kQ && module != LoraModule::kK)) return {};
    if (base_ == nullptr) {
      if (!std::exchange(base_is_asked_for_, true)) {
        Refuse(absl::StatusCode::kFailedPrecondition,
               "its rows of Q and K are in llama.cpp's order, which depends on the base's number of heads; "
               "name the base with --base (its folder, config.json or GGUF file), or publish the PEFT "
               "adapter that it was converted from");
      }
      return {};
    }
    const int n_heads = module == LoraModule::kQ ? base_->n_heads : base_->n_kv_heads;
    if (b.shape[0] != int64_t{n_heads} * base_->head_dim) {
      Refuse(absl::StatusCode::kFailedPrecondition,
             absl::StrCat("tensor ", Quoted(b.name), " has ", b.shape[0], " rows, the base has ", n_heads,
                          " heads of ", base_->head_dim, " there; is the adapter for another base?"));
      return {};
    }
    return HalfSplitRowOrder(n_heads, base_->head_dim);
  }

  // `tensor` under `name` in a type that safetensors has, its rows in `order`.
  TensorView Plain(const TensorView& tensor, std::string name, const std::vector<int32_t>& order) {
    TensorView plain = tensor;
    plain.name = std::move(name);
    if (BlockElements(tensor.dtype) != 1) {
      const std::vector<float> values = DequantizeTensor(tensor);
      plain.dtype = DType::kF32;
      plain.bytes = Keep({reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(float)});
    }
    if (order.empty()) return plain;
    const size_t row_bytes = plain.bytes.size() / order.size();
    std::string rows;
    rows.reserve(plain.bytes.size());
    for (const int32_t row : order) {
      rows.append(reinterpret_cast<const char*>(plain.bytes.data()) + static_cast<size_t>(row) * row_bytes,
                  row_bytes);
    }
    plain.bytes = Keep({reinterpret_cast<const uint8_t*>(rows.data()), rows.size()});
    return plain;
  }
  std::span<const uint8_t> Keep(std::span<const uint8_t> bytes) {
    const std::vector<uint8_t>& kept = kept_.emplace_back(bytes.begin(), bytes.end());
    return kept;
  }

  static std::string Config(const GgufPairs& pairs, double alpha) {
    nlohmann::ordered_json config = {{"peft_type", "LORA"}, {"task_type", "CAUSAL_LM"}};
    std::map<int64_t, size_t> ranks;  // how many pairs have it
    for (const auto& [place, pair] : pairs) ++ranks[pair.a->shape[0]];
    const int64_t rank = std::max_element(ranks.begin(), ranks.end(), [](const auto& x, const auto& y) {
                           return x.second < y.second;
                         })->first;
    config["r"] = rank;
    config["lora_alpha"] = alpha == 0 ? static_cast<double>(rank) : alpha;
    nlohmann::ordered_json targets = nlohmann::ordered_json::array();
    for (const auto& [place, pair] : pairs) {
      const std::string module = LoraModuleName(place.first, place.second);
      targets.push_back(module);
      const int64_t own_rank = pair.a->shape[0];
      if (own_rank == rank) continue;
      config["rank_pattern"][module] = own_rank;
      if (alpha == 0) config["alpha_pattern"][module] = static_cast<double>(own_rank);
    }
    config["target_modules"] = std::move(targets);
    return config.dump(1);
  }

  const GgufFile& file_;
  const ModelConfig* const base_;
  std::vector<Status>* const problems_;
  ArchitectureTraits traits_ = {};
  bool base_is_asked_for_ = false;
  std::deque<std::vector<uint8_t>> kept_;
};

}  // namespace

PeftFiles ConvertGgufAdapter(const GgufFile& file, const ModelConfig* base, std::vector<Status>* problems) {
  return GgufAdapterReader(file, base, problems).Read();
}

}  // namespace coterie
