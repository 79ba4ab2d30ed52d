// Products with weights of every form and with adapters, against float64.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/formats/dequantize.h"
#include "lora_step.h"

namespace coterie::cuda {
namespace {

using coterie::testing::kAllDTypes;

constexpr WeightChoice kAllChoices[] = {WeightChoice::kAsStored, WeightChoice::kQ8_0, WeightChoice::kFp8};

class CudaLinearTest : public LoraStepTest {
 protected:
  int64_t AnyInputs(DType dtype) {
    if (BlockElements(dtype) == 256) return 256 * Between(1, 8);
    if (BlockElements(dtype) == 32) return 32 * Between(1, 65);
    return OneOf<int>({Between(1, 300), 8 * Between(1, 260), 64 * Between(1, 32)});
  }
  // Compares with float64; `w` is what the device holds. Of sums in blocks, what cancels in a value (scale
  // times code, minimum) does not in the error: up to four times the block's largest value.
  void ExpectProduct(const std::vector<float>& got, const std::vector<double>& want,
                     const std::vector<double>& sizes, int64_t n_in) {
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], Bound(sizes[i], n_in)) << i;
  }
  static double Bound(double size, int64_t n_in) {
    return (static_cast<double>(n_in) / kKParts + 48) * 0x1p-24 * size + 1e-30;
  }
};
COTERIE_IN_ALL_ORDERS(CudaLinearTest);

TEST_P(CudaLinearTest, EveryFormOfWeights) {
  testing::Random random;
  for (const DType dtype : kAllDTypes) {
    for (const WeightChoice choice : kAllChoices) {
      if (choice != WeightChoice::kAsStored && dtype != DType::kF32) continue;
      const int64_t n_in = AnyInputs(dtype);
      const int n_out = OneOf<int>({Between(1, 60), Between(1, 250), Between(400, 600)});
      const int rows = OneOf<int>({Between(1, 16), Between(1, 64), n_out > 250 ? 3 : Between(65, 150)});
      const bool with_bias = Between(0, 1) == 1, accumulate = Between(0, 1) == 1;
      TakeAnyDevice();
      SCOPED_TRACE(std::string(DTypeName(dtype)) + " choice " + std::to_string(static_cast<int>(choice)) +
                   " [" + std::to_string(n_out) + ", " + std::to_string(n_in) + "], rows " +
                   std::to_string(rows) + ", " + std::to_string(SharedMemoryLimit()) +
                   " bytes of shared memory");
      const Weights w = MakeWeights({{dtype, n_out}}, n_in, choice, &random);
      const std::vector<uint16_t> x = Operand(rows, n_in);
      const std::vector<float> bias = Normals(static_cast<size_t>(n_out));
      std::vector<float> y = Normals(static_cast<size_t>(rows * n_out));
      std::vector<double> want, sizes;
      Multiply(w, x, rows, &want, &sizes);
      for (size_t i = 0; i < y.size(); ++i) {
        if (with_bias) want[i] += bias[i % static_cast<size_t>(n_out)];
        if (accumulate) want[i] += y[i];
        sizes[i] += std::fabs(want[i]);
      }
      if (!accumulate) std::fill(y.begin(), y.end(), NAN);
      auto* const y_device = Device(y);
      LinearLora(Device(x), rows, *w.matrix, with_bias ? Device(bias) : nullptr, accumulate, nullptr, {}, {},
                 y_device, 4, stream_);
      ExpectProduct(Host(y_device, y.size()), want, sizes, n_in);
      if (HasFatalFailure()) return;
    }
  }
}

// Alone, among others, in a step of any size, on any device: the same bits. With segments of several forms.
TEST_P(CudaLinearTest, ARowHasTheSameBitsInAnyStep) {
  testing::Random random;
  const std::vector<DType> kinds(std::begin(kAllDTypes), std::end(kAllDTypes));
  for (int i = 0; i < 3; ++i) {
    const int64_t n_in = OneOf<int>({256, 256 * Between(2, 5), 256 * Between(8, 10)});
    const Weights w =
        MakeWeights({{OneOf(kinds), Between(1, 150)}, {OneOf(kinds), Between(1, 60)}}, n_in,
                    OneOf<WeightChoice>({WeightChoice::kAsStored, WeightChoice::kFp8}), &random);
    const int most = 150;
    const auto n_out = static_cast<size_t>(w.matrix->n_out());
    const std::vector<uint16_t> x = Operand(most, n_in);
    const uint16_t* const x_device = Device(x);
    const auto run = [&](int first, int rows) {
      TakeAnyDevice();
      auto* const y = DeviceOf<float>(static_cast<size_t>(rows) * n_out);
      LinearLora(x_device + first * n_in, rows, *w.matrix, nullptr, false, nullptr, {}, {}, y, Between(1, 4),
                 stream_);
      return Host(y, static_cast<size_t>(rows) * n_out);
    };
    const std::vector<float> all = run(0, most);
    for (const int rows : {1, 8, 16, 17, 64, 65, 129}) {
      const int first = Between(0, most - rows);
      const std::vector<float> some = run(first, rows);
      ASSERT_EQ(std::memcmp(some.data(), all.data() + static_cast<size_t>(first) * n_out,
                            some.size() * sizeof(float)),
                0)
          << rows << " rows from " << first;
    }
  }
}

// On devices whose blocks have little shared memory, too: no form's weights are read for each window of rows.
TEST_P(CudaLinearTest, ManyRowsAreOneLaunchOfTheSameBitsOnEveryDevice) {
  if (!emulation::kIsEmulated) GTEST_SKIP() << "a device has the shared memory that it has";
  testing::Random random;
  for (const DType dtype : kAllDTypes) {
    for (const WeightChoice choice : {WeightChoice::kAsStored, WeightChoice::kFp8}) {
      if (choice != WeightChoice::kAsStored && dtype != DType::kF32) continue;
      const int64_t n_in = BlockElements(dtype) == 1 ? 8 * Between(1, 40) : 256 * Between(1, 2);
      const int n_out = Between(1, 150), rows = Between(65, 200);
      const Weights w = MakeWeights({{dtype, n_out}}, n_in, choice, &random);
      const uint16_t* const x = Device(Operand(rows, n_in));
      std::vector<float> first;
      for (const size_t shared_bytes : {size_t{227} << 10, size_t{163} << 10, kLeastSharedBytes}) {
        emulation::TheSettings().shared_bytes = shared_bytes;
        SCOPED_TRACE(std::string(DTypeName(dtype)) + " choice " + std::to_string(static_cast<int>(choice)) +
                     ", " + std::to_string(rows) + " rows, " + std::to_string(shared_bytes) +
                     " bytes of shared memory");
        auto* const y = DeviceOf<float>(static_cast<size_t>(rows * n_out));
        const uint64_t kernels = emulation::CountsNow().kernels;
        LinearLora(x, rows, *w.matrix, nullptr, false, nullptr, {}, {}, y, 4, stream_);
        const std::vector<float> got = Host(y, static_cast<size_t>(rows * n_out));
        EXPECT_EQ(emulation::CountsNow().kernels - kernels, 1u);
        if (first.empty()) first = got;
        ASSERT_EQ(std::memcmp(got.data(), first.data(), got.size() * sizeof(float)), 0);
      }
    }
  }
}

TEST_P(CudaLinearTest, NanStaysInItsRow) {
  testing::Random random;
  for (const DType dtype : {DType::kBF16, DType::kQ8_0, DType::kQ4_K}) {
    const int64_t n_in = 512;
    const Weights w = MakeWeights({{dtype, 40}}, n_in, WeightChoice::kAsStored, &random);
    const int rows = 11;
    std::vector<uint16_t> x = Operand(rows, n_in);
    auto* const clean = DeviceOf<float>(rows * 40);
    LinearLora(Device(x), rows, *w.matrix, nullptr, false, nullptr, {}, {}, clean, 4, stream_);
    x[static_cast<size_t>(5 * n_in + Between(0, 511))] = 0x7FC0;
    x[static_cast<size_t>(9 * n_in + Between(0, 511))] = 0x7F80;
    auto* const y = DeviceOf<float>(rows * 40);
    LinearLora(Device(x), rows, *w.matrix, nullptr, false, nullptr, {}, {}, y, 4, stream_);
    const std::vector<float> before = Host(clean, rows * 40), after = Host(y, rows * 40);
    for (int i = 0; i < rows * 40; ++i) {
      if (i / 40 == 5 || i / 40 == 9) {
        EXPECT_FALSE(std::isfinite(after[static_cast<size_t>(i)])) << i;
      } else {
        EXPECT_EQ(after[static_cast<size_t>(i)], before[static_cast<size_t>(i)]) << i;
      }
    }
  }
}

// --- Adapters ---

TEST_P(CudaLinearTest, AdaptersOfMixedRanksAndWeights) {
  testing::Random random;
  for (int i = 0; i < 6; ++i) {
    const int64_t n_in = 8 * Between(1, 200);
    const int n_targets = Between(1, 3);
    std::vector<Part> parts;
    // Many strips: more than wait for their deltas at a time.
    const int most_outputs = OneOf<int>({50, 50, 300});
    for (int target = 0; target < n_targets; ++target) {
      parts.push_back({DType::kBF16, Between(1, most_outputs)});
    }
    TakeAnyDevice();
    const Weights w = MakeWeights(parts, n_in, WeightChoice::kAsStored, &random);
    const int rows = OneOf<int>({Between(1, 20), Between(1, 64), Between(65, 140)});
    SCOPED_TRACE(std::to_string(rows) + " rows, " + std::to_string(n_in) + " inputs");
    MakeAdapters(Between(1, 6), n_in, parts);
    const RowAdapters adapters = AnyAdapters(rows, 3);
    const Step step = MakeStep(adapters, rows, 3, n_in);
    const std::vector<uint16_t> x = Operand(rows, n_in);
    std::vector<double> want, sizes;
    Multiply(w, x, rows, &want, &sizes);
    AddAdapters(adapters, x, n_in, &want, &sizes);
    auto* const y = DeviceOf<float>(want.size());
    LinearLora(Device(x), rows, *w.matrix, nullptr, false, &step.work, site_, step.scratch, y, 4, stream_);
    ExpectProduct(Host(y, want.size()), want, sizes, n_in + 8 * 256);
    if (HasFatalFailure()) return;
    ExpectCountersReset(step);
  }
}

TEST_P(CudaLinearTest, RowsWithoutAdaptersGetNothingAdded) {
  testing::Random random;
  const int64_t n_in = 8 * Between(1, 100);
  const std::vector<Part> parts = {{DType::kQ8_0, 33}, {DType::kQ8_0, 18}};
  const int64_t whole = n_in / 32 * 32 + 32;
  const Weights w = MakeWeights(parts, whole, WeightChoice::kAsStored, &random);
  for (const int rows : {7, 90}) {
    MakeAdapters(3, whole, parts, 8 * Between(1, 4));
    RowAdapters adapters = AnyAdapters(rows, 2);
    for (int row = 0; row < rows; row += 2) adapters[static_cast<size_t>(row)].clear();
    adapters[1] = {{0, 1.0f}};
    const Step step = MakeStep(adapters, rows, 2, whole), none = MakeStep(RowAdapters(rows), rows, 2, whole);
    std::vector<uint16_t> x = Operand(rows, whole);
    for (int64_t k = 0; k < whole; ++k) x[static_cast<size_t>(k)] = 0x8000;  // -0: a row of -0 or +0
    const size_t n = static_cast<size_t>(rows) * 51;
    const std::vector<float> old(n, -0.0f);
    float* const results[] = {Device(old), Device(old), Device(old)};
    const uint16_t* const x_device = Device(x);
    LinearLora(x_device, rows, *w.matrix, nullptr, true, nullptr, {}, {}, results[0], 4, stream_);
    LinearLora(x_device, rows, *w.matrix, nullptr, true, &step.work, site_, step.scratch, results[1], 4,
               stream_);
    LinearLora(x_device, rows, *w.matrix, nullptr, true, &none.work, site_, none.scratch, results[2], 4,
               stream_);
    const std::vector<float> base = Host(results[0], n), with = Host(results[1], n),
                             empty = Host(results[2], n);
    EXPECT_EQ(std::memcmp(base.data(), empty.data(), n * sizeof(float)), 0);
    for (int row = 0; row < rows; row += 2) {
      EXPECT_EQ(std::memcmp(base.data() + row * 51, with.data() + row * 51, 51 * sizeof(float)), 0) << row;
    }
    EXPECT_NE(std::memcmp(base.data(), with.data(), n * sizeof(float)), 0);
  }
}

TEST_P(CudaLinearTest, ARowWithAdaptersHasTheSameBitsInAnyStep) {
  testing::Random random;
  const int64_t n_in = 8 * Between(60, 300);
  const std::vector<Part> parts = {{DType::kBF16, 40}, {DType::kBF16, 17}};
  const Weights w = MakeWeights(parts, n_in, WeightChoice::kAsStored, &random);
  MakeAdapters(5, n_in, parts);
  const int most = 100;
  const RowAdapters adapters = AnyAdapters(most, 3);
  const std::vector<uint16_t> x = Operand(most, n_in);
  const uint16_t* const x_device = Device(x);
  const auto run = [&](int first, int rows) {
    const RowAdapters some(adapters.begin() + first, adapters.begin() + first + rows);
    const Step step = MakeStep(some, rows, 3, n_in);
    TakeAnyDevice();
    auto* const y = DeviceOf<float>(static_cast<size_t>(rows) * 57);
    LinearLora(x_device + first * n_in, rows, *w.matrix, nullptr, false, &step.work, site_, step.scratch, y,
               Between(1, 4), stream_);
    return Host(y, static_cast<size_t>(rows) * 57);
  };
  const std::vector<float> all = run(0, most);
  for (const int rows : {1, 3, 16, 33, 64, 65}) {
    const int first = Between(0, most - rows);
    const std::vector<float> some = run(first, rows);
    ASSERT_EQ(std::memcmp(some.data(), all.data() + first * 57, some.size() * sizeof(float)), 0)
        << rows << " rows from " << first;
  }
}

// Captured under one adapter, replayed under one, five and one again; gives how many values each replay has
// wrong. With `planted` the graph keeps the number of adapters that it was captured with.
class CudaGraphTest : public CudaLinearTest {
 protected:
  std::vector<int> WrongValues(bool planted) {
    testing::Random random;
    const int64_t n_in = 8 * Between(60, 200);
    const std::vector<Part> parts = {{DType::kBF16, 50}};
    const Weights w = MakeWeights(parts, n_in, WeightChoice::kAsStored, &random);
    MakeAdapters(5, n_in, parts, 16);
    const int rows = 12;
    RowAdapters one(rows), five(rows);
    for (int row = 0; row < rows; ++row) {
      one[static_cast<size_t>(row)] = {{0, 1.0f}};
      five[static_cast<size_t>(row)] = {{row % 5, 0.5f}};
    }
    const std::vector<uint16_t> x = Operand(rows, n_in);
    const uint16_t* const x_device = Device(x);
    auto* const y = DeviceOf<float>(rows * 50);
    const Step step = MakeStep(one, rows, 1, n_in);
    LoraWork work = step.work;
    if (planted) work.n_tiles = Device(Host(step.n_tiles, 1));
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    EXPECT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    LinearLora(x_device, rows, *w.matrix, nullptr, false, &work, site_, step.scratch, y, 4, stream_);
    EXPECT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
    EXPECT_EQ(cudaGraphInstantiate(&exec, graph), cudaSuccess);
    std::vector<int> n_wrong;
    for (const RowAdapters* adapters : {&one, &five, &one}) {
      FillStep(*adapters, step);
      EXPECT_EQ(cudaGraphLaunch(exec, stream_), cudaSuccess);
      std::vector<double> want, sizes;
      Multiply(w, x, rows, &want, &sizes);
      AddAdapters(*adapters, x, n_in, &want, &sizes);
      const std::vector<float> got = Host(y, want.size());
      n_wrong.push_back(0);
      for (size_t i = 0; i < got.size(); ++i) {
        if (!(std::fabs(got[i] - want[i]) <= Bound(sizes[i], n_in + 8 * 256))) ++n_wrong.back();
      }
    }
    EXPECT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
    EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
    return n_wrong;
  }
};
COTERIE_IN_ALL_ORDERS(CudaGraphTest);

TEST_P(CudaGraphTest, CapturedWithOneAdapterServesFive) {
  EXPECT_EQ(WrongValues(false), (std::vector<int>{0, 0, 0}));
}
TEST_P(CudaGraphTest, ACountOfAdaptersThatStaysAsItWasCapturedIsFound) {
  const std::vector<int> n_wrong = WrongValues(true);
  EXPECT_EQ(n_wrong[0] + n_wrong[2], 0);
  EXPECT_GT(n_wrong[1], 0);
}

// --- What a product costs ---

TEST_P(CudaLinearTest, EachByteOfWeightsAndAdaptersIsReadOnce) {
  if (!emulation::kIsEmulated) GTEST_SKIP() << "a real device counts no bytes";
  testing::Random random;
  for (const DType dtype : kAllDTypes) {
    const int64_t n_in = 256 * Between(1, 4) + (BlockElements(dtype) == 256 ? 0 : 32);
    const int n_out = Between(1, 100), rows = Between(1, 8);
    const std::vector<Part> parts = {{dtype, n_out}};
    const Weights w = MakeWeights(parts, n_in, WeightChoice::kAsStored, &random);
    const int rank = 8 * Between(1, 6);
    MakeAdapters(1, n_in, parts, rank);
    const Step step = MakeStep(RowAdapters(rows, {{0, 1.0f}}), rows, 1, n_in);
    const std::vector<uint16_t> x = Operand(rows, n_in);
    const uint16_t* const x_device = Device(x);
    auto* const y = DeviceOf<float>(static_cast<size_t>(rows * n_out));
    const auto before = emulation::CountsNow();
    LinearLora(x_device, rows, *w.matrix, nullptr, false, nullptr, {}, {}, y, 4, stream_);
    ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    const auto base = emulation::CountsNow();
    LinearLora(x_device, rows, *w.matrix, nullptr, false, &step.work, site_, step.scratch, y, 4, stream_);
    ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    const auto adapted = emulation::CountsNow();
    // x goes once to each of the blocks.
    const auto blocks = static_cast<uint64_t>(std::min<int64_t>(4, Strips(n_out)));
    const uint64_t x_bytes = x.size() * sizeof(uint16_t) * blocks;
    const WeightSegment& segment = w.matrix->segments()[0];
    EXPECT_EQ(base.streamed_bytes - before.streamed_bytes,
              static_cast<uint64_t>(SegmentBytes(segment.form, n_out, n_in)) + x_bytes)
        << DTypeName(dtype);
    const auto adapter_bytes = static_cast<uint64_t>(rank * (n_in + n_out) * 2);
    EXPECT_EQ(adapted.streamed_bytes - base.streamed_bytes,
              base.streamed_bytes - before.streamed_bytes + adapter_bytes)
        << DTypeName(dtype) << " rank " << rank;
    EXPECT_EQ(adapted.kernels - base.kernels, 1u);
  }
}

}  // namespace
}  // namespace coterie::cuda
