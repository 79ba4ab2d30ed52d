// Makes experts that were never trained, to load a server with as many as a measurement wants.
//
//   bench_experts MODEL FOLDER --count=16 --rank=16
//
// Each is an expert folder (docs/expert-format.md) that fits the model: a PEFT adapter over every linear
// layer whose A and B have the spread that trained ones show, a card, and prototypes in random directions.
// The same seed makes the same bytes.
#include <bit>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <string>

#include "absl/strings/str_format.h"
#include "common/file.h"
#include "model/format/model_files.h"
#include "tests/bench/harness.h"

namespace coterie::bench {
namespace {

namespace fs = std::filesystem;

// Standard deviations in the experts of this repository: A 0.029 to 0.034, B 0.017 to 0.021, with alpha 16.
constexpr double kDeviationA = 0.03;
constexpr double kDeviationB = 0.018;
constexpr int kAlpha = 16;
constexpr size_t kPrototypes = 4;

struct Flags {
  std::string model;
  std::string folder;
  int count = 16;
  int rank = 16;
  int embed_dim = 384;
  uint64_t seed = 1;
  bool attention_only = false;
};

class Normal {
 public:
  explicit Normal(uint64_t seed) : state_(seed) {}
  // Mean 0, deviation 1: the sum of the eight bytes of a splitmix64 draw, near enough to normal and fast.
  double operator()() {
    state_ += 0x9E3779B97F4A7C15ULL;
    uint64_t x = state_;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
    x ^= x >> 31;
    int sum = 0;
    for (int i = 0; i < 8; ++i) sum += static_cast<int>(x >> (8 * i) & 0xff);
    constexpr double kDeviation = 209.02;  // sqrt(8 (256^2 - 1) / 12)
    return (sum - 1020) / kDeviation;
  }

 private:
  uint64_t state_;
};

// Collects tensors and writes them as one .safetensors file.
class TensorFile {
 public:
  void Add(const std::string& name, const char* dtype, int64_t rows, int64_t columns,
           std::string_view bytes) {
    absl::StrAppendFormat(&header_, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%d,%d],\"data_offsets\":[%d,%d]}",
                          header_.empty() ? "" : ",", name, dtype, rows, columns, data_.size(),
                          data_.size() + bytes.size());
    data_ += bytes;
  }
  Status Write(const fs::path& path) const {
    const std::string header = "{" + header_ + "}";
    const uint64_t n = header.size();
    std::string file(reinterpret_cast<const char*>(&n), sizeof(n));
    return WriteFileAtomically(path, file + header + data_);
  }

 private:
  std::string header_, data_;
};

void AddMatrix(TensorFile* file, const std::string& name, int rows, int columns, double deviation,
               Normal* normal) {
  std::vector<uint16_t> values(static_cast<size_t>(rows) * static_cast<size_t>(columns));
  for (uint16_t& v : values) {
    v = static_cast<uint16_t>(std::bit_cast<uint32_t>(static_cast<float>((*normal)() * deviation)) >> 16);
  }
  file->Add(name, "BF16", rows, columns,
            {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(uint16_t)});
}

Status WriteAdapter(const fs::path& folder, const ModelConfig& c, const Flags& flags, Normal* normal) {
  struct Module {
    const char* block;
    const char* name;
    int n_out, n_in;
  };
  std::vector<Module> modules = {{"self_attn", "q_proj", c.q_size(), c.hidden_size},
                                 {"self_attn", "k_proj", c.kv_size(), c.hidden_size},
                                 {"self_attn", "v_proj", c.kv_size(), c.hidden_size},
                                 {"self_attn", "o_proj", c.hidden_size, c.q_size()}};
  if (!flags.attention_only) {
    modules.push_back({"mlp", "gate_proj", c.ffn_size, c.hidden_size});
    modules.push_back({"mlp", "up_proj", c.ffn_size, c.hidden_size});
    modules.push_back({"mlp", "down_proj", c.hidden_size, c.ffn_size});
  }
  TensorFile file;
  for (int layer = 0; layer < c.n_layers; ++layer) {
    for (const Module& m : modules) {
      const std::string name =
          absl::StrFormat("base_model.model.model.layers.%d.%s.%s.", layer, m.block, m.name);
      AddMatrix(&file, name + "lora_A.weight", flags.rank, m.n_in, kDeviationA, normal);
      AddMatrix(&file, name + "lora_B.weight", m.n_out, flags.rank, kDeviationB, normal);
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
          flags.rank, kAlpha, targets));
}

Status WritePrototypes(const fs::path& folder, size_t dim, Normal* normal) {
  std::vector<float> rows;
  for (size_t i = 0; i < kPrototypes; ++i) {
    std::vector<double> row(dim);
    double square = 0;
    for (double& v : row) {
      v = (*normal)();
      square += v * v;
    }
    for (const double v : row) rows.push_back(static_cast<float>(v / std::sqrt(square)));
  }
  TensorFile file;
  file.Add("prototypes", "F32", kPrototypes, static_cast<int64_t>(dim),
           {reinterpret_cast<const char*>(rows.data()), rows.size() * sizeof(float)});
  return file.Write(folder / "prototypes.safetensors");
}

Status Run(const Flags& flags) {
  ASSIGN_OR_RETURN(const std::unique_ptr<ModelFiles> files, ModelFiles::Open(flags.model));
  for (int i = 0; i < flags.count; ++i) {
    const std::string name = absl::StrFormat("synthetic-r%d-%04d", flags.rank, i);
    const fs::path folder = fs::path(flags.folder) / name;
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) return ErrnoStatus(error.value(), "cannot make the folder", folder.string());
    Normal normal(flags.seed * 1'000'003 + static_cast<uint64_t>(i));
    RETURN_IF_ERROR(WriteAdapter(folder, files->config(), flags, &normal));
    RETURN_IF_ERROR(WritePrototypes(folder, static_cast<size_t>(flags.embed_dim), &normal));
    RETURN_IF_ERROR(WriteFileAtomically(
        folder / "expert.yaml",
        absl::StrFormat("name: %s\nversion: \"1\"\ndescription: random weights of rank %d, for measuring\n",
                        name, flags.rank)));
  }
  std::printf("{\"experts\": %d, \"rank\": %d, \"folder\": \"%s\"}\n", flags.count, flags.rank,
              flags.folder.c_str());
  return absl::OkStatus();
}

}  // namespace
}  // namespace coterie::bench

int main(int argc, char** argv) {
  coterie::bench::Flags values;
  coterie::FlagSet flags("bench_experts", "Writes expert folders with random weights that fit a model.");
  flags.Positionals("MODEL FOLDER", 2, 2);
  flags.Int("count", &values.count, 1, 100'000, "N", "experts");
  flags.Int("rank", &values.rank, 1, 512, "R", "of every adapter");
  flags.Int("embed-dim", &values.embed_dim, 1, 8192, "N", "dimension of the prototypes: the embedder's");
  flags.Int("seed", &values.seed, 0, UINT64_MAX, "N", "of all weights");
  flags.Bool("attention-only", &values.attention_only,
             "leave the feed-forward layers to the base: a third the bytes");
  return coterie::bench::Main(&flags, argc, argv, [&] {
    values.model = flags.positionals()[0];
    values.folder = flags.positionals()[1];
    return coterie::bench::Run(values);
  });
}
