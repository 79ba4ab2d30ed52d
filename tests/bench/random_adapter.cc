#include "tests/bench/random_adapter.h"

#include "tests/bench/made_weights.h"

namespace coterie::bench {
namespace {

struct Module {
  LoraModule module;
  int n_out, n_in;
};
std::vector<Module> ModulesOf(const ModelConfig& c) {
  return {{LoraModule::kQ, c.q_size(), c.hidden_size},    {LoraModule::kK, c.kv_size(), c.hidden_size},
          {LoraModule::kV, c.kv_size(), c.hidden_size},   {LoraModule::kO, c.hidden_size, c.q_size()},
          {LoraModule::kGate, c.ffn_size, c.hidden_size}, {LoraModule::kUp, c.ffn_size, c.hidden_size},
          {LoraModule::kDown, c.hidden_size, c.ffn_size}};
}

}  // namespace

RandomAdapter::RandomAdapter(const ModelConfig& config, int rank, uint64_t seed) {
  for (int layer = 0; layer < config.n_layers; ++layer) {
    for (const Module& m : ModulesOf(config)) {
      HostLora pair;
      pair.a = Matrix(rank, m.n_in, &seed);
      pair.b = Matrix(m.n_out, rank, &seed);
      pair.scale = 1.0f;
      pair.layer = layer;
      pair.module = m.module;
      pairs_.push_back(std::move(pair));
    }
  }
}

HostMatrix RandomAdapter::Matrix(int n_out, int n_in, uint64_t* seed) {
  std::vector<uint16_t>& values =
      storage_.emplace_back(static_cast<size_t>(n_out) * static_cast<size_t>(n_in));
  uint64_t bits = 0;
  for (size_t i = 0; i < values.size(); ++i, bits >>= 16) {
    if (i % 4 == 0) bits = MixBits(*seed += 0x9E3779B97F4A7C15ULL);
    values[i] = static_cast<uint16_t>(0x3a00 | (bits & 0x80ff));  // about ±0.0005
  }
  HostMatrix matrix;
  matrix.dtype = DType::kBF16;
  matrix.n_out = n_out;
  matrix.n_in = n_in;
  matrix.data = reinterpret_cast<const uint8_t*>(values.data());
  return matrix;
}

size_t AdapterBytes(const ModelConfig& config, int rank) {
  size_t values = 0;
  for (const Module& m : ModulesOf(config)) {
    values += static_cast<size_t>(rank) * static_cast<size_t>(m.n_in + m.n_out);
  }
  return 2 * values * static_cast<size_t>(config.n_layers);
}

}  // namespace coterie::bench
