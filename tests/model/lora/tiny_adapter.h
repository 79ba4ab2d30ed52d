#ifndef COTERIE_TESTS_MODEL_LORA_TINY_ADAPTER_H_
#define COTERIE_TESTS_MODEL_LORA_TINY_ADAPTER_H_

#include <string>
#include <string_view>
#include <vector>

#include "model/lora/module_resolver.h"
#include "tests/model/format/safetensors_writer.h"
#include "tests/model/format/tiny_model.h"

namespace coterie::testing {

// A configuration of rank 2 and alpha 4 on q_proj and down_proj; `more` adds or replaces fields.
inline std::string TinyAdapterJson(std::string_view more = "") {
  std::string out = "{\"peft_type\": \"LORA\", \"task_type\": \"CAUSAL_LM\"";
  const std::pair<std::string_view, std::string_view> fields[] = {
      {"r", "2"}, {"lora_alpha", "4"}, {"target_modules", "[\"q_proj\", \"down_proj\"]"}};
  for (const auto& [key, value] : fields) {
    if (more.find(absl::StrCat("\"", ToAbsl(key), "\"")) != std::string_view::npos) continue;
    absl::StrAppend(&out, ", \"", ToAbsl(key), "\": ", ToAbsl(value));
  }
  if (!more.empty()) absl::StrAppend(&out, ", ", ToAbsl(more));
  return out + "}";
}

// The weights such a configuration asks for: factor values are 1, 2, 3, ….
struct TinyAdapter {
  ModelConfig base = TinyConfig();
  int rank = 2;
  std::vector<LoraModule> modules = {LoraModule::kQ, LoraModule::kDown};
  float first_value = 1;
  bool zero_b = false;

  SafetensorsWriter Weights() const {
    SafetensorsWriter writer;
    float next = first_value;
    for (int layer = 0; layer < base.n_layers; ++layer) {
      for (const LoraModule module : modules) {
        const WeightRole role = module == LoraModule::kQ ? WeightRole::kQ : WeightRole::kDown;
        const std::vector<int64_t> shape = WeightShape(base, role);
        const std::string name = "base_model.model." + LoraModuleName(layer, module);
        const auto values = [&next](int64_t n, bool zero) {
          std::vector<float> v(static_cast<size_t>(n));
          for (float& x : v) x = zero ? 0 : next++;
          return v;
        };
        writer.AddF32(name + ".lora_A.weight", {rank, shape[1]}, values(rank * shape[1], false));
        writer.AddBF16(name + ".lora_B.weight", {shape[0], rank}, values(rank * shape[0], zero_b));
      }
    }
    return writer;
  }
};

}  // namespace coterie::testing

#endif  // COTERIE_TESTS_MODEL_LORA_TINY_ADAPTER_H_
