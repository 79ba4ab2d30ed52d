#ifndef COTERIE_TESTS_GPU_LORA_STEP_H_
#define COTERIE_TESTS_GPU_LORA_STEP_H_

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "device_arrays.h"
#include "kernels/cuda/linear_product.h"
#include "kernels/cuda/ops.h"
#include "kernels/cuda/shared_memory.h"
#include "kernels/formats/dequantize.h"
#include "kernels/formats/half.h"
#include "tests/testing/random_matrix.h"
#include "weight_values.h"

namespace coterie::cuda {

// A fixture for products: random weights and adapters, steps as the host describes them to kernels, and what
// comes out in float64.
class LoraStepTest : public DeviceArraysTest {
 protected:
  struct Part {
    DType dtype = DType::kBF16;
    int n_out = 0;
  };
  struct Weights {
    std::unique_ptr<CudaMatrix> matrix;
    std::vector<float> values;  // [n_out, n_in], as the device holds them
    std::vector<float> bounds;  // of what cancels in a value: the same, or four times the block's largest
  };
  // Adapters of each row, in order: (slot, weight).
  using RowAdapters = std::vector<std::vector<std::pair<int, float>>>;
  struct Adapter {
    struct Pair {
      int rank = 0;
      float scale = 0;
      std::vector<uint16_t> a, b;
    };
    std::vector<Pair> pairs;  // of the targets
  };
  struct Step {
    LoraWork work;
    LoraScratch scratch;
    int32_t *n_tiles, *rows;
    LoraTile* tiles;
    float* weights;
  };

  void TearDown() override {
    DeviceArraysTest::TearDown();
    emulation::TheSettings().shared_bytes = shared_bytes_;
  }

  // From here on the device gives a block as much shared memory as one of several kinds does. Only what a
  // product takes of it depends on that, and no bit.
  void TakeAnyDevice() {
    emulation::TheSettings().shared_bytes = OneOf<size_t>({kLeastSharedBytes, 163 << 10, 227 << 10});
  }

  Weights MakeWeights(const std::vector<Part>& parts, int64_t n_in, WeightChoice choice,
                      testing::Random* random) {
    std::vector<testing::RandomMatrix> matrices;
    std::vector<HostMatrix> hosts;
    Weights made;
    for (const Part& part : parts) {
      matrices.emplace_back(part.dtype, part.n_out, n_in, random);
      hosts.push_back(matrices.back().host);
    }
    for (size_t i = 0; i < parts.size(); ++i) {
      hosts[i].data = matrices[i].bytes.data();
      std::vector<float> values(static_cast<size_t>(parts[i].n_out * n_in));
      Dequantize(parts[i].dtype, hosts[i].data, static_cast<int64_t>(values.size()), values.data());
      made.values.insert(made.values.end(), values.begin(), values.end());
    }
    StatusOr<std::unique_ptr<CudaMatrix>> matrix = PackMatrix(hosts, choice);
    EXPECT_TRUE(matrix.ok()) << matrix.status();
    made.matrix = *std::move(matrix);
    for (const WeightSegment& segment : made.matrix->segments()) ReadBack(segment, &made);
    return made;
  }

  std::vector<uint16_t> Operand(int rows, int64_t n_in) {
    std::vector<uint16_t> x(static_cast<size_t>(rows * n_in));
    for (uint16_t& v : x) v = FloatToBf16(Normal());
    return x;
  }

  // want = x · wᵀ, sizes = |x| · bounds.
  static void Multiply(const Weights& w, const std::vector<uint16_t>& x, int rows, std::vector<double>* want,
                       std::vector<double>* sizes) {
    const auto n_in = static_cast<size_t>(w.matrix->n_in()), n_out = static_cast<size_t>(w.matrix->n_out());
    want->assign(static_cast<size_t>(rows) * n_out, 0);
    sizes->assign(want->size(), 0);
    for (size_t row = 0; row < static_cast<size_t>(rows); ++row) {
      for (size_t out = 0; out < n_out; ++out) {
        double sum = 0, size = 0;
        for (size_t k = 0; k < n_in; ++k) {
          const double v = Bf16ToFloat(x[row * n_in + k]);
          sum += v * w.values[out * n_in + k];
          size += std::fabs(v) * w.bounds[out * n_in + k];
        }
        (*want)[row * n_out + out] = sum;
        (*sizes)[row * n_out + out] = size;
      }
    }
  }

  // Adapters for a product of these parts, one target each; rank 0: any, and some targets without a pair.
  void MakeAdapters(int n_slots, int64_t n_in, const std::vector<Part>& parts, int rank = 0) {
    const LoraModule modules[] = {LoraModule::kQ, LoraModule::kK, LoraModule::kV};
    site_ = {};
    site_.layer = 1;
    int column = 0;
    for (const Part& part : parts) {
      site_.targets[site_.n_targets] = {modules[site_.n_targets], column};
      site_.n_out[site_.n_targets++] = part.n_out;
      column += part.n_out;
    }
    n_columns_ = column;
    adapters_.assign(static_cast<size_t>(n_slots), {});
    constexpr int kLayers = 2;
    std::vector<LoraPair> table(static_cast<size_t>(n_slots * kLayers * kLoraModuleCount));
    max_rank_ = 8;
    for (int slot = 0; slot < n_slots; ++slot) {
      Adapter& adapter = adapters_[static_cast<size_t>(slot)];
      int rank_of_input = 0;
      for (int target = 0; target < site_.n_targets; ++target) {
        Adapter::Pair& pair = adapter.pairs.emplace_back();
        pair.rank = rank > 0 ? rank : 8 * OneOf<int>({0, 1, Between(1, 8), Between(1, 32)});
        pair.scale = Normal();
        rank_of_input += pair.rank;
        if (pair.rank == 0) continue;
        pair.a = Operand(pair.rank, n_in);
        pair.b = Operand(site_.n_out[target], pair.rank);
        const int at = (slot * kLayers + site_.layer) * kLoraModuleCount + target;
        table[static_cast<size_t>(at)] = {Device(pair.a), Device(pair.b), pair.rank, pair.scale};
      }
      max_rank_ = std::max(max_rank_, rank_of_input);
    }
    pairs_ = Device(table);
  }

  RowAdapters AnyAdapters(int rows, int most) {
    RowAdapters adapters(static_cast<size_t>(rows));
    for (auto& of_row : adapters) {
      for (int n = Between(0, most); n > 0; --n) {
        of_row.push_back({Between(0, static_cast<int>(adapters_.size()) - 1), Normal()});
      }
    }
    return adapters;
  }

  // Room for any adapters of so many rows, filled with these.
  Step MakeStep(const RowAdapters& adapters, int rows, int max_adapters, int64_t n_in) {
    Step step;
    const int max_entries = rows * max_adapters;
    const auto n = static_cast<size_t>(max_entries);
    step.n_tiles = DeviceOf<int32_t>(1);
    step.rows = DeviceOf<int32_t>(n);
    step.tiles = DeviceOf<LoraTile>(n);
    step.weights = DeviceOf<float>(n);
    step.work = {pairs_, step.n_tiles, step.tiles, step.rows, step.weights, 2, max_entries, max_entries};
    step.scratch.floats = DeviceOf<float>(LoraScratchFloats(max_entries, max_adapters, max_rank_, n_in));
    step.scratch.progress = Device(std::vector<uint32_t>(kLoraProgressWords));
    step.scratch.max_entries = max_entries;
    step.scratch.max_adapters = max_adapters;
    step.scratch.max_rank = max_rank_;
    FillStep(adapters, step);
    return step;
  }

  // As a host does: level by level, rows of one adapter together, in tiles.
  void FillStep(const RowAdapters& adapters, const Step& step) {
    std::vector<int32_t> rows;
    std::vector<float> weights;
    std::vector<LoraTile> tiles;
    for (size_t level = 0, any = 1; any > 0; ++level) {
      any = 0;
      for (int slot = 0; slot < static_cast<int>(adapters_.size()); ++slot) {
        const size_t first = rows.size();
        for (size_t row = 0; row < adapters.size(); ++row) {
          if (level >= adapters[row].size() || adapters[row][level].first != slot) continue;
          rows.push_back(static_cast<int32_t>(row));
          weights.push_back(adapters[row][level].second);
          ++any;
        }
        for (size_t at = first; at < rows.size(); at += kLoraTileRows) {
          const size_t n = std::min<size_t>(kLoraTileRows, rows.size() - at);
          tiles.push_back({slot, static_cast<int32_t>(at), static_cast<int32_t>(n)});
        }
      }
    }
    Write(step.n_tiles, std::vector<int32_t>{static_cast<int32_t>(tiles.size())});
    Write(step.rows, rows);
    Write(step.weights, weights);
    Write(step.tiles, tiles);
  }

  void AddAdapters(const RowAdapters& adapters, const std::vector<uint16_t>& x, int64_t n_in,
                   std::vector<double>* want, std::vector<double>* sizes) {
    for (size_t row = 0; row < adapters.size(); ++row) {
      const uint16_t* of_row = x.data() + static_cast<int64_t>(row) * n_in;
      for (const auto& [slot, weight] : adapters[row]) {
        for (int target = 0; target < site_.n_targets; ++target) {
          const Adapter::Pair& pair = adapters_[static_cast<size_t>(slot)].pairs[static_cast<size_t>(target)];
          const size_t at =
              row * static_cast<size_t>(n_columns_) + static_cast<size_t>(site_.targets[target].y_column);
          for (int r = 0; r < pair.rank; ++r) {
            double t = 0, size = 0;
            for (int64_t k = 0; k < n_in; ++k) {
              const double product = static_cast<double>(Bf16ToFloat(of_row[k])) *
                                     Bf16ToFloat(pair.a[static_cast<size_t>(r * n_in + k)]);
              t += product;
              size += std::fabs(product);
            }
            size += std::fabs(t) * 128 * 8;  // t is rounded to 2^-17, against steps of 2^-24
            for (int out = 0; out < site_.n_out[target]; ++out) {
              const double b = static_cast<double>(weight) * pair.scale *
                               Bf16ToFloat(pair.b[static_cast<size_t>(out * pair.rank + r)]);
              (*want)[at + static_cast<size_t>(out)] += b * t;
              (*sizes)[at + static_cast<size_t>(out)] += std::fabs(b) * size;
            }
          }
        }
      }
    }
  }

  void ExpectCountersReset(const Step& step) {
    EXPECT_EQ(Host(step.scratch.progress, kLoraProgressWords), std::vector<uint32_t>(kLoraProgressWords));
  }

  LoraSite site_;

 private:
  // kFp8 and Q8_0 of floats: what they were rounded to. Weights of blocks: bounds.
  void ReadBack(const WeightSegment& segment, Weights* weights) {
    const auto n_in = static_cast<size_t>(segment.n_in);
    float* const values = weights->values.data() + static_cast<size_t>(segment.first_out) * n_in;
    const size_t n = static_cast<size_t>(segment.n_out) * n_in;
    auto* const on_device = DeviceOf<float>(n);
    EnqueueReadWeights(segment, on_device, stream_);
    const std::vector<float> read = Host(on_device, n);
    std::copy(read.begin(), read.end(), values);
    for (size_t i = 0; i < n; ++i) {
      if (!IsQuantised(segment.form)) {
        weights->bounds.push_back(std::fabs(values[i]));
        continue;
      }
      const size_t row = i / n_in * n_in, first = row + i % n_in / 32 * 32;
      float most = 0;
      for (size_t k = first; k < std::min(first + 32, row + n_in); ++k) {
        most = std::max(most, std::fabs(values[k]));
      }
      weights->bounds.push_back(4 * most);
    }
  }

  const size_t shared_bytes_ = emulation::TheSettings().shared_bytes;
  std::vector<Adapter> adapters_;
  const LoraPair* pairs_ = nullptr;
  int max_rank_ = 8;
  int n_columns_ = 0;
};

}  // namespace coterie::cuda

#endif  // COTERIE_TESTS_GPU_LORA_STEP_H_
