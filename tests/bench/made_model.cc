#include "tests/bench/made_model.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <functional>
#include <map>
#include <thread>

#include "absl/strings/str_join.h"
#include "common/check.h"
#include "common/file.h"
#include "common/memory.h"
#include "model/format/weight_names.h"
#include "tests/bench/made_weights.h"
#include "tests/model/format/gguf_llama.h"

namespace coterie::bench {
namespace {

constexpr size_t kAlignment = 32;
constexpr DType kAllTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16,  DType::kQ8_0, DType::kQ4_0,
                               DType::kQ4_1, DType::kQ5_0, DType::kQ5_1,  DType::kQ4_K, DType::kQ5_K,
                               DType::kQ6_K, DType::kQ3_K, DType::kIQ4_NL};

uint32_t GgufTypeOf(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return 0;
    case DType::kF16:
      return 1;
    case DType::kQ4_0:
      return 2;
    case DType::kQ4_1:
      return 3;
    case DType::kQ5_0:
      return 6;
    case DType::kQ5_1:
      return 7;
    case DType::kQ8_0:
      return 8;
    case DType::kQ4_K:
      return 12;
    case DType::kQ5_K:
      return 13;
    case DType::kQ6_K:
      return 14;
    case DType::kQ3_K:
      return 11;
    case DType::kIQ4_NL:
      return 20;
    case DType::kBF16:
      return 30;
  }
  return 0;
}

// Calls f(role, layer) for every weight of the first `n_layers` layers, in the order in which they lie.
template <class F>
void ForEachWeightOf(const ModelConfig& config, int n_layers, const F& f) {
  for (int layer = -1; layer < n_layers; ++layer) {
    for (int r = 0; r < kWeightRoleCount; ++r) {
      const auto role = static_cast<WeightRole>(r);
      if (HasWeight(config, role) && IsPerLayer(role) == (layer >= 0)) f(role, std::max(layer, 0));
    }
  }
}

size_t Aligned(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

// Calls f(0), ..., f(n - 1) on all cores.
void InParallel(int64_t n, const std::function<void(int64_t)>& f) {
  std::atomic<int64_t> next{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < std::max(1u, std::thread::hardware_concurrency()); ++t) {
    threads.emplace_back([&] {
      for (int64_t i; (i = next.fetch_add(1)) < n;) f(i);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace

StatusOr<ModelConfig> ShapeNamed(std::string_view name) {
  const struct {
    const char* name;
    int layers, hidden, heads, kv_heads, head_dim, ffn, vocab, context;
    double theta;
  } shapes[] = {{"tiny", 4, 256, 4, 2, 64, 512, 1024, 8192, 1e4},
                {"135m", 30, 576, 9, 3, 64, 1536, 49152, 8192, 1e5},
                {"1b", 16, 2048, 32, 8, 64, 8192, 128256, 8192, 5e5},
                {"8b", 32, 4096, 32, 8, 128, 14336, 128256, 8192, 5e5},
                {"70b", 80, 8192, 64, 8, 128, 28672, 128256, 8192, 5e5}};
  std::vector<std::string> names;
  for (const auto& shape : shapes) {
    names.push_back(shape.name);
    if (name != shape.name) continue;
    ModelConfig c;
    c.n_layers = shape.layers;
    c.hidden_size = shape.hidden;
    c.n_heads = shape.heads;
    c.n_kv_heads = shape.kv_heads;
    c.head_dim = shape.head_dim;
    c.ffn_size = shape.ffn;
    c.vocab_size = shape.vocab;
    c.context_length = 2 * shape.context;  // answers follow prompts of 8k
    c.rms_eps = 1e-5f;
    c.rope_theta = shape.theta;
    c.tied_embeddings = true;
    return c;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("no shape is called \"", ToAbsl(name), "\"; there are ", absl::StrJoin(names, ", ")));
}

StatusOr<DType> DTypeNamed(std::string_view name) {
  std::vector<std::string> names;
  for (const DType dtype : kAllTypes) {
    if (name == DTypeName(dtype)) return dtype;
    names.emplace_back(DTypeName(dtype));
  }
  return absl::InvalidArgumentError(absl::StrCat("no type of weights is called \"", ToAbsl(name),
                                                 "\"; there are ", absl::StrJoin(names, ", ")));
}

DType MadeModel::TypeOf(WeightRole role) const {
  if (WeightShape(config_, role).size() == 1) return DType::kF32;
  return role == WeightRole::kTokenEmbedding || role == WeightRole::kOutput ? embedding_dtype() : dtype_;
}

int64_t MadeModel::BytesOf(WeightRole role) const {
  const std::vector<int64_t> shape = WeightShape(config_, role);
  return RowBytes(TypeOf(role), shape.back()) * (shape.size() == 2 ? shape[0] : 1);
}

StatusOr<std::unique_ptr<MadeModel>> MadeModel::Outline(const ModelConfig& config, DType dtype) {
  auto model = std::unique_ptr<MadeModel>(new MadeModel(config, dtype));
  size_t bytes = 0;
  Status status;
  ForEachWeightOf(config, config.n_layers, [&](WeightRole role, int) {
    const int64_t n_in = WeightShape(config, role).back(), block = BlockElements(model->TypeOf(role));
    if (n_in % block != 0) {
      status = absl::InvalidArgumentError(absl::StrCat(
          ToAbsl(WeightRoleName(role)), " has rows of ", n_in, " values, and ",
          ToAbsl(DTypeName(model->TypeOf(role))), " holds them in blocks of ", block, ": take another type"));
    }
    bytes += Aligned(static_cast<size_t>(model->BytesOf(role)));
  });
  RETURN_IF_ERROR(status);
  model->data_at_ = Aligned(model->Header(config.n_layers).size());
  bytes += model->data_at_;
  model->memory_ = cpu::AlignedBuffer(bytes, cpu::AlignedBuffer::Pages::kLater);
  if (model->memory_.data() == nullptr) {
    return absl::ResourceExhaustedError(absl::StrCat("no ", MemoryText(bytes), " for a made base"));
  }
  return model;
}

StatusOr<std::unique_ptr<MadeModel>> MadeModel::Make(const ModelConfig& config, DType dtype, uint64_t seed) {
  ASSIGN_OR_RETURN(std::unique_ptr<MadeModel> model, Outline(config, dtype));
  RETURN_IF_ERROR(CheckMemoryFor(model->bytes(), "a made base"));
  model->Fill(seed);
  return model;
}

void MadeModel::Fill(uint64_t seed) {
  std::map<std::pair<DType, int64_t>, std::unique_ptr<WeightPool>> pools;  // by type and length of rows
  struct Piece {
    const WeightPool* pool;  // null: a norm's weight, all ones
    int64_t first_row, n_rows, n_in, row_bytes;
    uint8_t* to;
    uint64_t seed;
  };
  constexpr int64_t kPieceBytes = 8 << 20;
  std::vector<Piece> pieces;
  size_t at = data_at_;
  uint64_t index = 0;
  ForEachWeightOf(config_, config_.n_layers, [&](WeightRole role, int) {
    const std::vector<int64_t> shape = WeightShape(config_, role);
    const int64_t n_in = shape.back(), n_out = shape.size() == 2 ? shape[0] : 1;
    const DType type = TypeOf(role);
    const WeightPool* pool = nullptr;
    if (shape.size() == 2) {
      std::unique_ptr<WeightPool>& one = pools[{type, n_in}];
      if (one == nullptr) {
        one =
            std::make_unique<WeightPool>(type, 1 / std::sqrt(static_cast<double>(n_in)), seed + pools.size());
      }
      pool = one.get();
    }
    const int64_t row_bytes = RowBytes(type, n_in);
    const int64_t rows = std::max<int64_t>(1, kPieceBytes / row_bytes);
    for (int64_t row = 0; row < n_out; row += rows) {
      pieces.push_back({pool, row, std::min(rows, n_out - row), n_in, row_bytes,
                        memory_.data() + at + row * row_bytes, MixBits(seed ^ ++index << 32)});
    }
    at += Aligned(static_cast<size_t>(BytesOf(role)));
  });
  InParallel(std::ssize(pieces), [&](int64_t i) {
    const Piece& piece = pieces[static_cast<size_t>(i)];
    for (int64_t row = 0; row < piece.n_rows; ++row) {
      uint8_t* const to = piece.to + row * piece.row_bytes;
      if (piece.pool != nullptr) {
        piece.pool->FillRow(piece.seed + static_cast<uint64_t>(row), piece.n_in, to);
      } else {
        std::fill_n(reinterpret_cast<float*>(to), piece.n_in, 1.0f);
      }
    }
  });
}

std::string MadeModel::Header(int n_layers) const {
  testing::GgufWriter writer;
  testing::AddLlamaConfig(config_, n_layers, &writer);
  size_t at = 0;
  ForEachWeightOf(config_, n_layers, [&](WeightRole role, int layer) {
    writer.AddTensorInfo(WeightName(role, layer, config_.architecture, /*is_gguf=*/true),
                         GgufTypeOf(TypeOf(role)), WeightShape(config_, role), at);
    at += Aligned(static_cast<size_t>(BytesOf(role)));
  });
  return writer.Bytes();
}

std::span<const uint8_t> MadeModel::Bytes(int n_layers) {
  COTERIE_CHECK(n_layers >= 1 && n_layers <= config_.n_layers) << n_layers;
  const std::string header = Header(n_layers);
  uint8_t* const begin = memory_.data() + data_at_ - header.size();
  std::memcpy(begin, header.data(), header.size());
  return {begin, memory_.data() + memory_.n_bytes()};
}

StatusOr<std::unique_ptr<ModelFiles>> MadeModel::Files(int n_layers) {
  ASSIGN_OR_RETURN(GgufFile file, GgufFile::Parse(Bytes(n_layers), "a made base"));
  return ModelFiles::FromGguf(std::move(file));
}

Status MadeModel::Write(const std::filesystem::path& path) {
  const std::span<const uint8_t> bytes = Bytes(config_.n_layers);
  return WriteFileAtomically(path, {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

}  // namespace coterie::bench
