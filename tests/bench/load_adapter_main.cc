// How long a cold load of an adapter takes: from its PEFT files (read, checked, hashed, packed), and from the
// packed file that the first load leaves beside them (mapped, its checksum, copied). One line of JSON for
// each shape and rank; file reads are those of the system's cache.
#include <cstdio>
#include <filesystem>
#include <limits>
#include <memory>

#include "common/check.h"
#include "common/file.h"
#include "kernels/create.h"
#include "model/lora/lora_adapter.h"
#include "model/lora/packed_folder.h"
#include "tests/bench/harness.h"
#include "tests/bench/made_adapter.h"

namespace coterie::bench {
namespace {

namespace fs = std::filesystem;

struct LoadFlags {
  BackendFlags backend;
  int rank = 0;
  int layers = 0;
  int rounds = 5;
  std::string shape = "both";
};

ModelConfig Shape(const std::string& name) {
  ModelConfig c;
  c.architecture = Architecture::kLlama;
  const bool small = name == "135m";
  c.n_layers = small ? 30 : 32;
  c.hidden_size = small ? 576 : 4096;
  c.ffn_size = small ? 1536 : 14336;
  c.n_heads = small ? 9 : 32;
  c.n_kv_heads = small ? 3 : 8;
  c.head_dim = small ? 64 : 128;
  c.vocab_size = small ? 49152 : 128256;
  c.context_length = 8192;
  c.tied_embeddings = small;
  return c;
}

// The best of several: neighbours on the machine only ever add.
struct Best {
  double ms = std::numeric_limits<double>::infinity();
  double cpu_ms = std::numeric_limits<double>::infinity();
};

template <class Body>
Best Minimum(int rounds, const Body& body) {
  Best best;
  for (int i = 0; i < rounds; ++i) {
    const double cpu = ThreadCpuMicroseconds();
    best.ms = std::min(best.ms, MicrosecondsOf(body) / 1e3);
    best.cpu_ms = std::min(best.cpu_ms, (ThreadCpuMicroseconds() - cpu) / 1e3);
  }
  return best;
}

Status MeasureOne(const LoadFlags& flags, const std::string& shape, int rank, DecoderOps* backend,
                  const fs::path& scratch) {
  ModelConfig config = Shape(shape);
  const int all_layers = config.n_layers;
  if (flags.layers > 0) config.n_layers = std::min(flags.layers, all_layers);
  Normal normal(static_cast<uint64_t>(rank));
  RETURN_IF_ERROR(WriteMadeAdapter(scratch, config, rank, /*attention_only=*/false, &normal));

  std::vector<HostLora> pairs;
  PackedKey key;
  std::unique_ptr<PackedAdapter> packed;
  size_t file_bytes = 0;
  Status status;
  const auto from_files = [&]() -> Status {
    packed.reset();
    ASSIGN_OR_RETURN(const auto adapter, LoraAdapter::Load(scratch, config));
    pairs = adapter->ToHost();
    ASSIGN_OR_RETURN(packed, backend->PackAdapter(pairs));
    key = {adapter->digest(), PackedLayout(backend->adapter_layout(), Digest(), {})};
    file_bytes = adapter->bytes();
    return absl::OkStatus();
  };
  const Best before = Minimum(flags.rounds, [&] { status.Update(from_files()); });
  RETURN_IF_ERROR(status);

  PackedFolderOptions options;
  options.max_bytes = uint64_t{1} << 40;
  options.log = [&](std::string_view words) { status.Update(absl::UnknownError(ToAbsl(words))); };
  PackedFolder folder(scratch / "packed", options);
  const Best write =
      Minimum(flags.rounds, [&] { folder.Save(key, pairs, packed->weights(), /*replace=*/true); });
  RETURN_IF_ERROR(status);
  std::unique_ptr<PackedAdapter> copy;
  const auto from_packed = [&]() -> Status {
    copy.reset();
    ASSIGN_OR_RETURN(const auto file, folder.Open(key));
    ASSIGN_OR_RETURN(const PackedFile parsed, ParsePackedFile(file->bytes(), key, config));
    ASSIGN_OR_RETURN(copy, backend->CopyAdapter(parsed.pairs, parsed.weights));
    return file->CheckWhole();
  };
  const Best after = Minimum(flags.rounds, [&] { status.Update(from_packed()); });
  RETURN_IF_ERROR(status);
  COTERIE_CHECK(std::ranges::equal(copy->weights(), packed->weights())) << "the copy has other weights";
  std::printf(
      "{\"case\": \"%s\", \"rank\": %d, \"layers\": %d, \"of_layers\": %d, \"file_mb\": %.1f, \"packed_mb\": "
      "%.1f, "
      "\"files_ms\": %.2f, \"files_cpu_ms\": %.2f, \"packed_ms\": %.2f, \"packed_cpu_ms\": %.2f, "
      "\"write_ms\": %.2f, \"times_faster\": %.1f}\n",
      shape.c_str(), rank, config.n_layers, all_layers, static_cast<double>(file_bytes) / 1e6,
      static_cast<double>(packed->bytes()) / 1e6, before.ms, before.cpu_ms, after.ms, after.cpu_ms, write.ms,
      before.cpu_ms / after.cpu_ms);
  std::fflush(stdout);
  return absl::OkStatus();
}

Status Run(const LoadFlags& flags) {
  ASSIGN_OR_RETURN(const auto backend, CreateCpuDecoderOps(flags.backend.Options()));
  std::string scratch = (fs::temp_directory_path() / "coterie-load-XXXXXX").string();
  if (::mkdtemp(scratch.data()) == nullptr) return ErrnoStatus(errno, "cannot make", scratch);
  Status status;
  for (const std::string shape : {"135m", "8b"}) {
    if (flags.shape != "both" && flags.shape != shape) continue;
    for (const int rank : {8, 16, 64, 256}) {
      if (flags.rank != 0 && flags.rank != rank) continue;
      if (status.ok()) status = MeasureOne(flags, shape, rank, backend.get(), scratch);
    }
  }
  std::error_code ignored;
  fs::remove_all(scratch, ignored);
  return status;
}

}  // namespace
}  // namespace coterie::bench

int main(int argc, char** argv) {
  coterie::bench::LoadFlags values;
  coterie::FlagSet flags("bench_load_adapter",
                         "Measures cold loads of adapters, from PEFT files and from packed ones.");
  flags.Choice("shape", &values.shape, {"both", "135m", "8b"}, "of the base: SmolLM2-135M, Llama 3 8B");
  flags.Int("rank", &values.rank, 0, 256, "R", "8, 16, 64 or 256; 0: all");
  flags.Int("layers", &values.layers, 0, 1024, "N", "only so many layers; 0: all");
  flags.Int("rounds", &values.rounds, 1, 1000, "N", "loads of each kind, of which the best counts");
  values.backend.Declare(&flags);
  return coterie::bench::Main(&flags, argc, argv, [&] { return coterie::bench::Run(values); });
}
