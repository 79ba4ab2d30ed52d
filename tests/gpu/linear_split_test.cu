// Products of few rows whose blocks share K: how they are divided, and that no bit depends on it.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "kernels/cuda/linear_division.h"
#include "kernels/cuda/shared_memory.h"
#include "lora_step.h"

namespace coterie::cuda {
namespace {

using coterie::testing::kAllDTypes;

constexpr size_t kH200Shared = 227 * 1024;
constexpr size_t kSharedLimits[] = {kH200Shared, 163 * 1024, kLeastSharedBytes};
constexpr int kH200Processors = 132;

class LinearSplitTest : public LoraStepTest {
 protected:
  void SetUp() override {
    LoraStepTest::SetUp();
    if (emulation::kIsEmulated) emulation::TheSettings().n_processors = kMostProcessors;
  }
  void TearDown() override {
    LoraStepTest::TearDown();
    emulation::TheSettings().n_processors = n_processors_;
  }
  SplitScratch MakeSplit(int max_rows, int n_processors) {
    SplitScratch split;
    split.sums = DeviceOf<float>(SplitScratchFloats(max_rows, n_processors));
    n_counters_ = static_cast<size_t>(SplitCounters(n_processors));
    split.counters = Device(std::vector<uint32_t>(n_counters_));
    split.tokens = SmallTokens(max_rows);
    return split;
  }
  void ExpectSplitCountersReset(const SplitScratch& split) {
    EXPECT_EQ(Host(split.counters, n_counters_), std::vector<uint32_t>(n_counters_));
  }
  // Compares products of every number of groups with that of one, twice each.
  void ExpectSameBits(DType dtype, int n_out, int64_t n_in, int rows, int n_processors, bool with_adapters) {
    SCOPED_TRACE(std::string(DTypeName(dtype)) + " [" + std::to_string(n_out) + ", " + std::to_string(n_in) +
                 "], " + std::to_string(rows) + " rows, " + std::to_string(n_processors) + " processors" +
                 (with_adapters ? ", adapters" : ""));
    testing::Random random;
    const std::vector<Part> parts = {{dtype, n_out}};
    const WeightChoice choice = OneOf<WeightChoice>({WeightChoice::kAsStored, WeightChoice::kFp8});
    const Weights w = MakeWeights(parts, n_in, choice, &random);
    const uint16_t* const x = Device(Operand(rows, n_in));
    const size_t n = static_cast<size_t>(rows) * static_cast<size_t>(n_out);
    const std::vector<float> old = Normals(n);
    LinearProduct product;
    product.x = x;
    product.rows = rows;
    product.w = w.matrix->segments()[0];
    if (Between(0, 1) == 1) product.bias = Device(Normals(static_cast<size_t>(n_out)));
    product.accumulate = Between(0, 1) == 1;
    product.y_pitch = n_out;
    product.split = MakeSplit(rows, n_processors);
    Step step;
    if (with_adapters) {
      MakeAdapters(3, n_in, parts);
      step = MakeStep(AnyAdapters(rows, 2), rows, 2, n_in);
      product.lora = {step.work, site_, step.scratch, x, static_cast<int>(n_in)};
      product.adapters = product.shrink = true;
    }
    std::vector<float> want;
    for (const int groups : {1, 2, 4, 8}) {
      if (groups > n_processors) break;
      for (int repeat = 0; repeat < 2; ++repeat) {
        product.y = product.accumulate ? Device(old) : DeviceOf<float>(n);
        const auto before = emulation::CountsNow();
        LinearSmall(product, n_processors, stream_, groups);
        const std::vector<float> got = Host(product.y, n);
        const auto after = emulation::CountsNow();
        if (groups == 1) want = got;
        ASSERT_EQ(std::memcmp(got.data(), want.data(), n * sizeof(float)), 0) << groups << " groups";
        ExpectSplitCountersReset(product.split);
        if (with_adapters) ExpectCountersReset(step);
        if (!emulation::kIsEmulated || with_adapters) continue;
        EXPECT_EQ(after.kernels - before.kernels, 1u);
        if (n_in % 8 != 0) continue;  // x is then read plainly
        // Each column reads x once, where it has room for it, and weights are read once.
        SmallShape shape = {product.w.form, n_out, n_in, rows};
        shape.split_tokens = product.split.tokens;
        shape.n_processors = n_processors;
        shape.shared_limit = SharedMemoryLimit();
        const SmallDivision division = DivideSmall(shape, groups);
        const int64_t x_bytes = division.x_pitch == 0 ? 0 : division.columns * rows * n_in * 2;
        const int64_t scale_bytes =
            product.w.form == WeightForm::kFp8 ? Strips(n_out) * kStripOutputs * 4 : 0;
        EXPECT_EQ(after.streamed_bytes - before.streamed_bytes,
                  SegmentBytes(product.w.form, n_out, n_in) - scale_bytes + static_cast<uint64_t>(x_bytes))
            << groups << " groups";
      }
    }
  }

 private:
  static constexpr int kMostProcessors = 11;  // of the products below, whose blocks all have to be resident
  const int n_processors_ = emulation::TheSettings().n_processors;
  size_t n_counters_ = 0;
};
COTERIE_IN_ALL_ORDERS(LinearSplitTest);

TEST_P(LinearSplitTest, BlocksThatShareKGiveTheSameBits) {
  for (const DType dtype : kAllDTypes) {
    const int64_t block = BlockElements(dtype);
    const int64_t n_in = block == 1 ? OneOf<int>({Between(1, 300), 8 * Between(1, 130)})
                                    : block * Between(1, block == 32 ? 40 : 5);
    const int rows = OneOf<int>({1, Between(1, 16), Between(17, 40)});
    ExpectSameBits(dtype, Between(1, rows > 16 ? 150 : 300), n_in, rows, OneOf<int>({2, 3, 5, 8, 11}),
                   n_in % 8 == 0 && Between(0, 1) == 1);
    if (HasFatalFailure()) return;
  }
}

// More turns than places: a place is used again by whoever comes next.
TEST_P(LinearSplitTest, PlacesOfSumsAreUsedOverAndOver) {
  if (GetParam() != emulation::Order::kRandom) GTEST_SKIP() << "one order is enough for so many turns";
  for (const bool adapters : {false, true}) {
    ExpectSameBits(DType::kQ8_0, 16 * 8 * (2 * kSplitTurns + 1) + Between(1, 100), 256, Between(1, 3), 8,
                   adapters);
    if (HasFatalFailure()) return;
  }
}

TEST_P(LinearSplitTest, AGraphThatSplitsIsReplayed) {
  testing::Random random;
  const int64_t n_in = 512;
  const int rows = 3, n_out = 200;
  const Weights w = MakeWeights({{DType::kQ4_K, n_out}}, n_in, WeightChoice::kAsStored, &random);
  LinearProduct product;
  product.rows = rows;
  product.w = w.matrix->segments()[0];
  product.y_pitch = n_out;
  product.split = MakeSplit(rows, 8);
  const std::vector<uint16_t> x = Operand(rows, n_in);
  auto* const x_device = Device(x);
  product.x = x_device;
  const size_t n = static_cast<size_t>(rows * n_out);
  product.y = DeviceOf<float>(n);
  LinearSmall(product, 8, stream_, 1);
  const std::vector<float> want = Host(product.y, n);
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  LinearSmall(product, 8, stream_, 4);
  ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
  ASSERT_EQ(cudaGraphInstantiate(&exec, graph), cudaSuccess);
  for (int replay = 0; replay < 3; ++replay) {
    Write(product.y, std::vector<float>(n, NAN));
    ASSERT_EQ(cudaGraphLaunch(exec, stream_), cudaSuccess);
    const std::vector<float> got = Host(product.y, n);
    ASSERT_EQ(std::memcmp(got.data(), want.data(), n * sizeof(float)), 0) << replay;
  }
  EXPECT_EQ(cudaGraphExecDestroy(exec), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
}

// --- How it is divided, on paper ---

WeightForm FormOf(int i) { return static_cast<WeightForm>(i); }

SmallShape ShapeOfH200(WeightForm form, int64_t n_out, int64_t n_in, int rows) {
  SmallShape shape;
  shape.form = form;
  shape.n_out = n_out;
  shape.n_in = n_in;
  shape.rows = rows;
  shape.adapters = true;
  shape.split_tokens = kSmallRows;
  shape.n_processors = kH200Processors;
  shape.shared_limit = kH200Shared;
  return shape;
}

TEST(LinearDivisionTest, InputsStayInSharedMemoryOnShapesThatPeopleServe) {
  const int64_t shapes[][2] = {{6144, 4096},   {4096, 4096},   {28672, 4096}, {4096, 14336},
                               {128256, 4096}, {10240, 8192},  {8192, 8192},  {57344, 8192},
                               {8192, 28672},  {128256, 8192}, {1024, 4096},  {3072, 8192}};
  for (const WeightForm form : {WeightForm::kBf16, WeightForm::kFp8, WeightForm::kCodes8, WeightForm::kCodes4,
                                WeightForm::kQ4K, WeightForm::kQ6K}) {
    for (const auto& [n_out, n_in] : shapes) {
      for (const int rows : {1, 2, 4, 8, 16}) {
        const SmallDivision division = DivideSmall(ShapeOfH200(form, n_out, n_in, rows));
        EXPECT_GT(division.x_pitch, 0) << n_out << " x " << n_in << ", " << rows << " rows";
        EXPECT_LE(division.bytes, kH200Shared);
        EXPECT_LE(division.columns * division.groups, kH200Processors);
        EXPECT_GE(division.columns * division.groups, std::min<int64_t>(Strips(n_out), 120));
      }
    }
    // A row alone needs no way over device memory, 16 rows of a down projection do.
    EXPECT_EQ(DivideSmall(ShapeOfH200(form, 4096, 14336, 1)).groups, 1);
    EXPECT_GT(DivideSmall(ShapeOfH200(form, 4096, 14336, 16)).groups, 1);
    EXPECT_EQ(DivideSmall(ShapeOfH200(form, 28672, 4096, 8)).groups, 1);
  }
}

// All forms but F32's two planes: 16 rows of 4,096 inputs, with adapters, in one block.
TEST(LinearDivisionTest, SixteenRowsOfAnEightBillionBaseFitOneBlock) {
  for (int i = 0; i < kWeightFormCount; ++i) {
    if (FormOf(i) == WeightForm::kPair) continue;
    const SmallShape shape = ShapeOfH200(FormOf(i), 28672, 4096, 16);
    const SmallDivision division = DivideSmall(shape);
    EXPECT_EQ(division.groups, 1) << "form " << i;
    EXPECT_GT(division.x_pitch, 0) << "form " << i;
    EXPECT_EQ(division.ring, RingRecords(shape.form)) << "form " << i;
  }
}

TEST(LinearDivisionTest, EnoughIsUnderWay) {
  for (int i = 0; i < kWeightFormCount; ++i) {
    const int record_bytes = RecordBytes(FormOf(i));
    EXPECT_GE(kKParts * (RingRecords(FormOf(i)) - 1) * record_bytes, 40 * 1024) << "form " << i;
    EXPECT_LE(kKParts * RingRecords(FormOf(i)) * record_bytes, 96 * 1024) << "form " << i;
  }
}

// More rows than 16: x is staged, whole or in windows, for each of which weights are read once more.
TEST(LinearDivisionTest, RowsOfLargerBatchesAreReadOnceToo) {
  for (int i = 0; i < kWeightFormCount; ++i) {
    for (const int64_t n_in : {2048, 4096, 8192, 14336, 28672}) {
      for (const int rows : {17, 24, 32, 48, 64}) {
        SmallShape shape = ShapeOfH200(FormOf(i), 4096, n_in, rows);
        shape.rows = RowsOfSmallWindow(shape);
        EXPECT_GT(DivideSmall(shape).x_pitch, 0) << "form " << i << ", " << n_in << " inputs, " << rows;
        EXPECT_TRUE(shape.rows == rows || n_in > 4096) << "form " << i << ", " << n_in << " inputs";
        // Most of a window is of use.
        const int n_windows = (rows + shape.rows - 1) / shape.rows;
        EXPECT_LE(n_windows * shape.rows, rows + 8 * n_windows);
      }
    }
  }
}

TEST(LinearDivisionTest, EveryShapeFitsEveryDevice) {
  for (int i = 0; i < kWeightFormCount; ++i) {
    for (const size_t limit : kSharedLimits) {
      for (const int64_t n_in : {2048, 4096, 5120, 8192, 11008, 14336, 28672}) {
        for (const int rows : {1, 8, 16, 17, 33, 64, 100}) {
          for (const bool adapters : {false, true}) {
            for (const int split_tokens : {0, kFewRows, kSmallRows}) {
              SmallShape shape = ShapeOfH200(FormOf(i), 4096, n_in, rows);
              shape.shared_limit = limit;
              shape.adapters = adapters;
              shape.split_tokens = split_tokens;
              shape.rows = RowsOfSmallWindow(shape);
              const SmallDivision division = DivideSmall(shape);
              EXPECT_LE(division.bytes, limit)
                  << "form " << i << ", " << n_in << " inputs, " << shape.rows << " of " << rows << " rows";
              // Of few rows, or few beyond one window, x may be read where it lies; and two planes of F32
              // leave no room.
              const bool wants_x =
                  (rows == 16 || rows > 32) && split_tokens > 0 && FormOf(i) != WeightForm::kPair;
              EXPECT_TRUE(division.x_pitch > 0 || !wants_x || n_in > 14336)
                  << "form " << i << ", " << n_in << " inputs, " << shape.rows << " of " << rows << " rows";
            }
          }
        }
      }
    }
  }
}

TEST(LinearDivisionTest, StaysWithinTheDevice) {
  std::mt19937 random(testing::TestSeed());
  const auto between = [&](int low, int high) {
    return std::uniform_int_distribution<int>(low, high)(random);
  };
  for (int i = 0; i < 2000; ++i) {
    const auto form = static_cast<WeightForm>(between(0, kWeightFormCount - 1));
    SmallShape shape = ShapeOfH200(form, between(1, 1 << between(0, 17)), between(1, 1 << between(0, 15)),
                                   between(1, kSmallRows));
    shape.n_processors = between(1, 160);
    constexpr int kSplitTokens[] = {kSmallRows, kSmallRows, kFewRows, 0};
    shape.split_tokens = kSplitTokens[between(0, 3)];
    shape.shared_limit = kSharedLimits[between(0, 2)];
    const int rows = RowsOfSmallWindow(shape);
    EXPECT_GE(rows, std::min(shape.rows, kFewRows));
    EXPECT_LE(rows, shape.rows);
    shape.rows = rows;
    const SmallDivision division = DivideSmall(shape);
    EXPECT_LE(division.columns * division.groups, shape.n_processors);
    EXPECT_LE(division.columns, Strips(shape.n_out));
    EXPECT_LE(division.bytes, shape.shared_limit);
    EXPECT_TRUE(shape.split_tokens >= rows || division.groups == 1);
    EXPECT_EQ(division.x % 16 + division.sums % 16 + division.deltas % 16, 0u);
  }
}

}  // namespace
}  // namespace coterie::cuda
