#include "tests/bench/made_adapter.h"

#include <bit>
#include <vector>

#include "absl/strings/str_format.h"
#include "common/file.h"

namespace coterie::bench {
namespace {

// Standard deviations in the experts of this repository: A 0.029 to 0.034, B 0.017 to 0.021, with alpha 16.
constexpr double kDeviationA = 0.03;
constexpr double kDeviationB = 0.018;
constexpr int kAlpha = 16;

void AddMatrix(TensorFile* file, const std::string& name, int rows, int columns, double deviation,
               Normal* normal) {
  std::vector<uint16_t> values(static_cast<size_t>(rows) * static_cast<size_t>(columns));
  for (uint16_t& v : values) {
    v = static_cast<uint16_t>(std::bit_cast<uint32_t>(static_cast<float>((*normal)() * deviation)) >> 16);
  }
  file->Add(name, "BF16", rows, columns,
            {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(uint16_t)});
}

}  // namespace

void TensorFile::Add(const std::string& name, const char* dtype, int64_t rows, int64_t columns,
                     std::string_view bytes) {
  absl::StrAppendFormat(&header_, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%d,%d],\"data_offsets\":[%d,%d]}",
                        header_.empty() ? "" : ",", name, dtype, rows, columns, data_.size(),
                        data_.size() + bytes.size());
  data_ += bytes;
}

Status TensorFile::Write(const std::filesystem::path& path) const {
  const std::string header = "{" + header_ + "}";
  const uint64_t n = header.size();
  std::string file(reinterpret_cast<const char*>(&n), sizeof(n));
  file += header;
  file += data_;
  return WriteFileAtomically(path, file);
}

Status WriteMadeAdapter(const std::filesystem::path& folder, const ModelConfig& c, int rank,
                        bool attention_only, Normal* normal) {
  struct Module {
    const char* block;
    const char* name;
    int n_out, n_in;
  };
  std::vector<Module> modules = {{"self_attn", "q_proj", c.q_size(), c.hidden_size},
                                 {"self_attn", "k_proj", c.kv_size(), c.hidden_size},
                                 {"self_attn", "v_proj", c.kv_size(), c.hidden_size},
                                 {"self_attn", "o_proj", c.hidden_size, c.q_size()}};
  if (!attention_only) {
    modules.push_back({"mlp", "gate_proj", c.ffn_size, c.hidden_size});
    modules.push_back({"mlp", "up_proj", c.ffn_size, c.hidden_size});
    modules.push_back({"mlp", "down_proj", c.hidden_size, c.ffn_size});
  }
  TensorFile file;
  for (int layer = 0; layer < c.n_layers; ++layer) {
    for (const Module& m : modules) {
      const std::string name =
          absl::StrFormat("base_model.model.model.layers.%d.%s.%s.", layer, m.block, m.name);
      AddMatrix(&file, name + "lora_A.weight", rank, m.n_in, kDeviationA, normal);
      AddMatrix(&file, name + "lora_B.weight", m.n_out, rank, kDeviationB, normal);
    }
  }
  RETURN_IF_ERROR(file.Write(folder / "adapter_model.safetensors"));
  std::string targets;
  for (const Module& m : modules) absl::StrAppend(&targets, targets.empty() ? "\"" : ", \"", m.name, "\"");
  return WriteFileAtomically(
      folder / "adapter_config.json",
      absl::StrFormat(
          "{\"peft_type\": \"LORA\", \"task_type\": \"CAUSAL_LM\", \"r\": %d, \"lora_alpha\": %d, "
          "\"lora_dropout\": 0.0, \"bias\": \"none\", \"target_modules\": [%s]}\n",
          rank, kAlpha, targets));
}

}  // namespace coterie::bench
