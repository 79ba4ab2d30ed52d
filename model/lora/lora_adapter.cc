#include "model/lora/lora_adapter.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <set>
#include <system_error>

#include "common/file.h"
#include "common/quoted.h"
#include "kernels/formats/half.h"
#include "model/format/describe.h"
#include "model/format/safetensors.h"
#include "model/lora/lora_magnitude.h"
#include "model/lora/module_resolver.h"
#include "model/lora/tensor_words.h"

namespace coterie {
namespace {

constexpr size_t kMaxConfigBytes = 4 << 20;
constexpr std::string_view kPrefix = "base_model.model.";

std::string FactorName(const AdaptedModule& module, char factor) {
  return absl::StrCat(ToAbsl(kPrefix), module.name, ".lora_", std::string(1, factor), ".weight");
}

Status Refuse(std::string_view name, std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(ToAbsl(name), ": ", ToAbsl(what)));
}

StatusOr<TensorView> Factor(const SafetensorsFile& file, const AdaptedModule& module, char factor) {
  const std::string name = FactorName(module, factor);
  if (file.Find(name) == nullptr && !file.other_tensors().contains(name)) {
    return MissingTensor(file, name, module.name);
  }
  ASSIGN_OR_RETURN(TensorView tensor, file.Get(name));
  const std::vector<int64_t> shape = factor == 'A' ? std::vector<int64_t>{module.rank, module.n_in}
                                                   : std::vector<int64_t>{module.n_out, module.rank};
  if (tensor.shape != shape) {
    return absl::FailedPreconditionError(absl::StrCat(
        file.name(), ": tensor ", Quoted(name), " has shape ", ShapeText(tensor.shape),
        ", the base's layer and the configured rank ", module.rank, " make it ", ShapeText(shape)));
  }
  return tensor;
}

// One hash over everything that decides what the adapter computes.
Digest ComputeDigest(std::vector<std::pair<const AdaptedModule*, const LoraPair*>> modules) {
  std::sort(modules.begin(), modules.end(),
            [](const auto& x, const auto& y) { return x.first->name < y.first->name; });
  Hasher hasher;
  hasher.UpdateField("coterie lora 1").UpdateU64(modules.size());
  for (const auto& [module, pair] : modules) {
    uint32_t scale_bits;
    std::memcpy(&scale_bits, &pair->scale, sizeof scale_bits);
    hasher.UpdateField(module->name).UpdateU64(scale_bits);
    const auto factor = [&hasher](DType dtype, int rows, int columns, const uint8_t* data) {
      hasher.UpdateField(DTypeName(dtype))
          .UpdateU64(static_cast<uint64_t>(rows))
          .UpdateU64(static_cast<uint64_t>(columns));
      hasher.Update(data, static_cast<size_t>(RowBytes(dtype, columns) * rows));
    };
    factor(pair->a_dtype, pair->rank, pair->n_in, pair->a);
    factor(pair->b_dtype, pair->n_out, pair->rank, pair->b);
  }
  return hasher.Finish();
}

}  // namespace

int LoraAdapter::max_rank() const {
  int rank = 0;
  for (const LoraPair& pair : pairs_) rank = std::max(rank, pair.rank);
  return rank;
}

std::vector<HostLora> LoraAdapter::ToHost() const {
  std::vector<HostLora> out;
  out.reserve(pairs_.size());
  for (const LoraPair& p : pairs_) {
    HostLora host;
    host.a = {.dtype = p.a_dtype, .n_out = p.rank, .n_in = p.n_in, .data = p.a, .row_order = {}};
    host.b = {.dtype = p.b_dtype, .n_out = p.n_out, .n_in = p.rank, .data = p.b, .row_order = {}};
    host.scale = p.scale;
    host.layer = p.layer;
    host.module = p.module;
    out.push_back(std::move(host));
  }
  return out;
}

std::unique_ptr<LoraAdapter> LoraAdapter::Read(std::string_view config_json,
                                               std::span<const uint8_t> safetensors, std::string_view name,
                                               const ModelConfig& base, const LoraLimits& limits,
                                               size_t max_problems, std::vector<Status>* problems) {
  const std::string config_name = absl::StrCat(ToAbsl(name), "/adapter_config.json");
  const std::string weights_name = absl::StrCat(ToAbsl(name), "/adapter_model.safetensors");
  // True: enough is known.
  const auto note = [&](Status status) {
    if (!status.ok()) problems->push_back(std::move(status));
    return problems->size() >= max_problems;
  };
  if (safetensors.size() > limits.max_bytes) {
    note(absl::InvalidArgumentError(
        absl::StrCat(weights_name, " has ", safetensors.size(), " bytes, the limit is ", limits.max_bytes)));
    return nullptr;
  }
  const PeftConfig peft = ReadPeftConfig(config_json, config_name, limits, problems);
  if (!problems->empty()) return nullptr;
  const auto modules = ResolveModules(peft, base, config_name, limits);
  if (!modules.ok()) note(modules.status());
  const StatusOr<SafetensorsFile> file = SafetensorsFile::Parse(safetensors, weights_name);
  if (problems->size() < max_problems) note(file.status());
  if (!problems->empty()) return nullptr;

  auto out = std::unique_ptr<LoraAdapter>(new LoraAdapter());
  out->storage_ = std::make_unique_for_overwrite<uint8_t[]>(safetensors.size());
  const auto keep = [&out](const TensorView& tensor) {
    uint8_t* place = out->storage_.get() + out->n_bytes_;
    if (!tensor.bytes.empty()) std::memcpy(place, tensor.bytes.data(), tensor.bytes.size());
    out->n_bytes_ += tensor.bytes.size();
    return place;
  };
  std::set<std::string, std::less<>> expected;
  bool changes_something = false;
  for (const AdaptedModule& module : *modules) {
    const StatusOr<TensorView> a = Factor(*file, module, 'A');
    if (note(a.status())) return nullptr;
    const StatusOr<TensorView> b = Factor(*file, module, 'B');
    if (note(b.status())) return nullptr;
    for (const char factor : {'A', 'B'}) expected.insert(FactorName(module, factor));
    if (!a.ok() || !b.ok()) continue;
    const TensorValues a_values = InspectValues(*a);
    const TensorValues b_values = InspectValues(*b);
    for (const auto& [tensor, values] : {std::pair(&*a, a_values), std::pair(&*b, b_values)}) {
      if (values.finite) continue;
      if (note(Refuse(weights_name, absl::StrCat("tensor ", Quoted(tensor->name),
                                                 " holds infinity or NaN: its training diverged")))) {
        return nullptr;
      }
    }
    if (!a_values.finite || !b_values.finite) continue;
    if (const double term = LargestTerm(*a, *b, module.scale); !(term < kTermLimit)) {
      const bool enough = note(absl::FailedPreconditionError(absl::StrCat(
          weights_name, ": the update of ", module.name, " stretches its input by ", term,
          " (scale times the lengths of a row of lora_A and a column of lora_B); the limit is ", kTermLimit,
          ": answers would not be numbers; the training diverged, publish an earlier checkpoint")));
      if (enough) return nullptr;
    }
    const auto scale = static_cast<float>(module.scale);
    changes_something |= scale != 0 && !a_values.zero && !b_values.zero;
    out->pairs_.push_back({.layer = module.layer,
                           .module = module.module,
                           .rank = module.rank,
                           .n_in = module.n_in,
                           .n_out = module.n_out,
                           .scale = scale,
                           .a_dtype = a->dtype,
                           .b_dtype = b->dtype,
                           .a = keep(*a),
                           .b = keep(*b)});
  }
  for (const TensorView& tensor : file->tensors()) {
    if (!expected.contains(tensor.name) && note(UnexpectedTensor(weights_name, tensor.name))) return nullptr;
  }
  for (const auto& [tensor, type] : file->other_tensors()) {
    if (!expected.contains(tensor) && note(UnexpectedTensor(weights_name, tensor))) return nullptr;
  }
  if (!problems->empty()) return nullptr;
  if (!changes_something) {
    note(absl::FailedPreconditionError(
        absl::StrCat(ToAbsl(name), ": the adapter would change nothing: in each of its ", modules->size(),
                     " modules the scale (field \"lora_alpha\") is 0 or lora_A or lora_B is all zeros")));
    return nullptr;
  }
  std::vector<std::pair<const AdaptedModule*, const LoraPair*>> named;
  for (size_t i = 0; i < modules->size(); ++i) named.emplace_back(&(*modules)[i], &out->pairs_[i]);
  out->digest_ = ComputeDigest(std::move(named));
  return out;
}

StatusOr<std::unique_ptr<const LoraAdapter>> LoraAdapter::Parse(std::string_view config_json,
                                                                std::span<const uint8_t> safetensors,
                                                                std::string_view name,
                                                                const ModelConfig& base,
                                                                const LoraLimits& limits) {
  std::vector<Status> problems;
  std::unique_ptr<LoraAdapter> adapter =
      Read(config_json, safetensors, name, base, limits, /*max_problems=*/1, &problems);
  if (adapter == nullptr) return std::move(problems.front());
  return adapter;
}

std::vector<Status> LoraAdapter::Problems(std::string_view config_json, std::span<const uint8_t> safetensors,
                                          std::string_view name, const ModelConfig& base,
                                          const LoraLimits& limits) {
  constexpr size_t kMaxProblems = 1000;  // more help nobody, and a hostile file has no end of them
  std::vector<Status> problems;
  Read(config_json, safetensors, name, base, limits, kMaxProblems, &problems);
  return problems;
}

StatusOr<std::unique_ptr<const LoraAdapter>> LoraAdapter::Load(const std::filesystem::path& folder,
                                                               const ModelConfig& base,
                                                               const LoraLimits& limits) {
  const std::filesystem::path weights_path = folder / "adapter_model.safetensors";
  ASSIGN_OR_RETURN(const std::string config_json, ReadFile(folder / "adapter_config.json", kMaxConfigBytes));
  std::error_code ignored;
  if (!std::filesystem::exists(weights_path, ignored) &&
      std::filesystem::exists(folder / "adapter_model.bin", ignored)) {
    return absl::UnimplementedError(
        absl::StrCat((folder / "adapter_model.bin").string(),
                     " is a Python pickle, which can run code; save the adapter as "
                     "adapter_model.safetensors"));
  }
  // Read, not mapped: a store is written by others, and a file that shrinks under a mapping reads as zeros.
  ASSIGN_OR_RETURN(const std::string weights, ReadFile(weights_path, limits.max_bytes));
  return Parse(config_json, {reinterpret_cast<const uint8_t*>(weights.data()), weights.size()},
               folder.string(), base, limits);
}

}  // namespace coterie
