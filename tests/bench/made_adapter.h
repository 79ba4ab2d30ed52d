#ifndef COTERIE_TESTS_BENCH_MADE_ADAPTER_H_
#define COTERIE_TESTS_BENCH_MADE_ADAPTER_H_

#include <filesystem>
#include <string>
#include <string_view>

#include "common/status.h"
#include "model/format/model_config.h"

// Adapters that were never trained, with the spread of weights that trained ones show.
namespace coterie::bench {

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
  void Add(const std::string& name, const char* dtype, int64_t rows, int64_t columns, std::string_view bytes);
  Status Write(const std::filesystem::path& path) const;

 private:
  std::string header_, data_;
};

// adapter_config.json and adapter_model.safetensors in BF16 for every linear layer of the model, or those of
// attention alone.
Status WriteMadeAdapter(const std::filesystem::path& folder, const ModelConfig& model, int rank,
                        bool attention_only, Normal* normal);

}  // namespace coterie::bench

#endif  // COTERIE_TESTS_BENCH_MADE_ADAPTER_H_
