// Makes experts that were never trained, to load a server with as many as a measurement wants.
//
//   bench_experts MODEL FOLDER --count=16 --rank=16
//
// Each is an expert folder (docs/expert-format.md) that fits the model: a PEFT adapter over every linear
// layer whose A and B have the spread that trained ones show, a card, and prototypes in random directions.
// The same seed makes the same bytes.
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <string>

#include "absl/strings/str_format.h"
#include "common/file.h"
#include "model/format/model_files.h"
#include "tests/bench/harness.h"
#include "tests/bench/made_adapter.h"

namespace coterie::bench {
namespace {

namespace fs = std::filesystem;

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
    RETURN_IF_ERROR(WriteMadeAdapter(folder, files->config(), flags.rank, flags.attention_only, &normal));
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
