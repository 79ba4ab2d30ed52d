// Products of many rows by cuBLASLt, with weights of every form and with adapters, against float64; and that
// they ask of the library what was promised.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/fast_kernels.h"
#include "kernels/cuda/fast_products.h"
#include "lora_step.h"

namespace coterie::cuda {
namespace {

using coterie::testing::kAllDTypes;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr int kAnyRows = 1;

class FastProductsTest : public LoraStepTest {
 protected:
  void SetUp() override {
    LoraStepTest::SetUp();
    if (stream_ == nullptr) return;
    if (!emulation::kIsEmulated && absl::IsNotFound(VendorLibrary::Open().status())) {
      GTEST_SKIP() << "this machine has no cuBLASLt";
    }
  }
  void TearDown() override {
    emulation::ForgetFailures();
    emulation::TheSettings().vendor_library = true;
    LoraStepTest::TearDown();
  }

  std::unique_ptr<FastProducts> Open(int fewest_rows = kAnyRows, size_t unpack_bytes = size_t{1} << 20) {
    FastProductsOptions options;
    options.fewest_rows = fewest_rows;
    options.unpack_bytes = unpack_bytes;
    auto opened = FastProducts::Open(options, 4, stream_);
    EXPECT_TRUE(opened.ok()) << opened.status();
    return *std::move(opened);
  }

  // The weights as the library gets them: rounded to bfloat16.
  Weights AsMultiplied(Weights w) {
    w.bounds.clear();
    for (const WeightSegment& segment : w.matrix->segments()) {
      const auto n_in = static_cast<size_t>(segment.n_in);
      const size_t first = static_cast<size_t>(segment.first_out) * n_in;
      const auto pitch = static_cast<size_t>(UnpackedPitch(segment));
      const int64_t n_strips = Strips(segment.n_out);
      const size_t n = static_cast<size_t>(n_strips * kStripOutputs) * pitch;
      const auto* rows = reinterpret_cast<const uint16_t*>(segment.codes);
      if (!IsRowMajor(segment.form)) {
        auto* const to = DeviceOf<uint16_t>(n);
        UnpackStrips(segment, 0, n_strips, to, 4, stream_);
        rows = to;
      }
      const std::vector<uint16_t> rounded = Host(rows, n);
      for (size_t i = 0; i < static_cast<size_t>(segment.n_out) * n_in; ++i) {
        float& value = w.values[first + i];
        const float before = value;
        value = Bf16ToFloat(rounded[i / n_in * pitch + i % n_in]);
        if (!IsQuantised(segment.form)) {
          EXPECT_NEAR(value, before, std::fabs(before) * (0x1p-8 + 0x1p-16) + 0x1p-133) << i;
        }
        w.bounds.push_back(std::fabs(value));
      }
    }
    return w;
  }
  // Sums in any order: each addition rounds at most by the sum of all sizes.
  void ExpectNear(const std::vector<float>& got, const std::vector<double>& want,
                  const std::vector<double>& sizes, int64_t n_in) {
    ASSERT_EQ(got.size(), want.size());
    const double steps = std::sqrt(static_cast<double>(n_in)) + 16;
    for (size_t i = 0; i < got.size(); ++i) {
      ASSERT_NEAR(got[i], want[i], steps * 0x1p-24 * sizes[i] + 1e-30) << i;
    }
  }
  int64_t AnyInputs(DType dtype) {
    const int block = BlockElements(dtype);
    return block == 1 ? 8 * Between(1, 100) : block * Between(1, block == 32 ? 30 : 4);
  }
};
COTERIE_IN_ALL_ORDERS(FastProductsTest);

TEST_P(FastProductsTest, EveryFormOfWeights) {
  testing::Random random;
  for (const DType dtype : kAllDTypes) {
    for (const WeightChoice choice : {WeightChoice::kAsStored, WeightChoice::kQ8_0, WeightChoice::kFp8}) {
      if (choice != WeightChoice::kAsStored && dtype != DType::kF32) continue;
      const int64_t n_in = AnyInputs(dtype);
      const int n_out = OneOf<int>({Between(1, 60), Between(1, 250), 8 * Between(1, 30)});
      const int rows = OneOf<int>({Between(1, 64), Between(65, 150), Between(250, 300)});
      const bool with_bias = Between(0, 1) == 1, accumulate = Between(0, 1) == 1;
      const size_t unpack_bytes = OneOf<size_t>({1, size_t{64} << 10, size_t{1} << 20});
      SCOPED_TRACE(std::string(DTypeName(dtype)) + " choice " + std::to_string(static_cast<int>(choice)) +
                   " [" + std::to_string(n_out) + ", " + std::to_string(n_in) + "], rows " +
                   std::to_string(rows) + ", unpacked bytes " + std::to_string(unpack_bytes));
      const Weights w = AsMultiplied(MakeWeights({{dtype, n_out}}, n_in, choice, &random));
      const auto fast = Open(kAnyRows, unpack_bytes);
      ASSERT_TRUE(fast->Prepare(*w.matrix).ok());
      const std::vector<uint16_t> x = Operand(rows, n_in);
      const std::vector<float> bias = Normals(static_cast<size_t>(n_out));
      std::vector<float> y = Normals(static_cast<size_t>(rows * n_out));
      std::vector<double> want, sizes;
      Multiply(w, x, rows, &want, &sizes);
      for (size_t i = 0; i < y.size(); ++i) {
        if (with_bias) want[i] += bias[i % static_cast<size_t>(n_out)];
        if (accumulate) want[i] += y[i];
        sizes[i] += std::fabs(want[i]) + 4;
      }
      if (!accumulate) std::fill(y.begin(), y.end(), NAN);
      auto* const y_device = Device(y);
      const auto before = emulation::CountsNow();
      LinearLora(Device(x), rows, *w.matrix, with_bias ? Device(bias) : nullptr, accumulate, nullptr, {}, {},
                 y_device, 4, stream_, fast.get());
      ASSERT_TRUE(fast->TakeError().ok());
      if (emulation::kIsEmulated) {
        const auto after = emulation::CountsNow();
        EXPECT_GT(after.library_products, before.library_products) << "not the library's";
        EXPECT_EQ(after.library_split_sums, 0u);
      }
      ExpectNear(Host(y_device, y.size()), want, sizes, n_in);
      if (HasFatalFailure()) return;
    }
  }
}

// Segments of several forms, each with the rows that pay for it: some by the library, some not.
TEST_P(FastProductsTest, AdaptersOfMixedRanksAndSegmentsOfSeveralForms) {
  testing::Random random;
  for (const int rows : {Between(1, 64), Between(65, 255), Between(256, 280)}) {
    const std::vector<DType> kinds(std::begin(kAllDTypes), std::end(kAllDTypes));
    const int64_t n_in = 256 * Between(1, 2);
    std::vector<Part> parts;
    for (int n = Between(1, 3); n > 0; --n) parts.push_back({OneOf(kinds), Between(1, 40)});
    const int fewest = OneOf<int>({0, kAnyRows});
    SCOPED_TRACE(std::to_string(rows) + " rows, fewest " + std::to_string(fewest));
    const Weights w = MakeWeights(parts, n_in, WeightChoice::kAsStored, &random);
    const auto fast = Open(fewest);
    ASSERT_TRUE(fast->Prepare(*w.matrix).ok());
    MakeAdapters(Between(1, 6), n_in, parts);
    const RowAdapters adapters = AnyAdapters(rows, 3);
    const Step step = MakeStep(adapters, rows, 3, n_in);
    const std::vector<uint16_t> x = Operand(rows, n_in);
    const std::vector<float> bias = Normals(static_cast<size_t>(w.matrix->n_out()));
    std::vector<double> want, sizes;
    Multiply(w, x, rows, &want, &sizes);
    for (size_t i = 0; i < want.size(); ++i) {
      want[i] += bias[i % bias.size()];
      sizes[i] = (sizes[i] + 4) * 0x1p-9 * 0x1p24 / 600;  // weights are rounded: of bounds, not of values
    }
    AddAdapters(adapters, x, n_in, &want, &sizes);
    auto* const y = DeviceOf<float>(want.size());
    LinearLora(Device(x), rows, *w.matrix, Device(bias), false, &step.work, site_, step.scratch, y, 4,
               stream_, fast.get());
    ASSERT_TRUE(fast->TakeError().ok());
    const std::vector<float> got = Host(y, want.size());
    for (size_t i = 0; i < got.size(); ++i) {
      ASSERT_NEAR(got[i], want[i], 600 * 0x1p-24 * sizes[i] + 1e-30) << i;
    }
    ExpectCountersReset(step);
  }
}

TEST_P(FastProductsTest, TakesWhatPaysAndLeavesTheRest) {
  testing::Random random;
  const auto fast = Open(0);
  const auto takes = [&](DType dtype, int64_t n_in, int rows) {
    return fast->Takes(
        rows, MakeWeights({{dtype, 20}}, n_in, WeightChoice::kAsStored, &random).matrix->segments()[0]);
  };
  EXPECT_FALSE(takes(DType::kBF16, 64, kSmallRows)) << "decode is a graph of our own kernels";
  EXPECT_TRUE(takes(DType::kBF16, 64, kSmallRows + 1));
  EXPECT_TRUE(takes(DType::kF32, 64, kSmallRows + 1));
  EXPECT_FALSE(takes(DType::kF16, 64, 127));
  EXPECT_TRUE(takes(DType::kF16, 64, 128));
  EXPECT_FALSE(takes(DType::kQ4_K, 256, 255)) << "unpacking costs more than it saves";
  EXPECT_TRUE(takes(DType::kQ4_K, 256, 256));
  EXPECT_FALSE(takes(DType::kBF16, 63, 1000)) << "rows of x are not aligned";
}

// More rows than one call of the library is given.
TEST_P(FastProductsTest, ThousandsOfRows) {
  testing::Random random;
  for (const DType dtype : {DType::kBF16, DType::kF16, DType::kQ4_0}) {
    const int rows = 4096 + Between(1, 80), n_in = 32, n_out = Between(1, 20);
    const Weights w = AsMultiplied(MakeWeights({{dtype, n_out}}, n_in, WeightChoice::kAsStored, &random));
    const auto fast = Open();
    ASSERT_TRUE(fast->Prepare(*w.matrix).ok());
    const std::vector<uint16_t> x = Operand(rows, n_in);
    std::vector<double> want, sizes;
    Multiply(w, x, rows, &want, &sizes);
    auto* const y = DeviceOf<float>(want.size());
    LinearLora(Device(x), rows, *w.matrix, nullptr, false, nullptr, {}, {}, y, 4, stream_, fast.get());
    ASSERT_TRUE(fast->TakeError().ok());
    ExpectNear(Host(y, want.size()), want, sizes, n_in);
  }
}

TEST_P(FastProductsTest, OneSearchForEachShape) {
  if (!emulation::kIsEmulated) GTEST_SKIP() << "a real library counts no searches";
  testing::Random random;
  const int64_t n_in = 8 * Between(8, 60);
  const auto fast = Open();
  const auto searches = [&](const std::vector<Part>& parts, int64_t inputs) {
    const Weights w = MakeWeights(parts, inputs, WeightChoice::kAsStored, &random);
    const auto before = emulation::CountsNow().library_searches;
    EXPECT_TRUE(fast->Prepare(*w.matrix).ok());
    for (const int rows : {1, 66, 300}) {
      const std::vector<uint16_t> x = Operand(rows, inputs);
      auto* const y = DeviceOf<float>(static_cast<size_t>(rows * w.matrix->n_out()));
      LinearLora(Device(x), rows, *w.matrix, nullptr, false, nullptr, {}, {}, y, 4, stream_, fast.get());
    }
    EXPECT_TRUE(fast->TakeError().ok());
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    return emulation::CountsNow().library_searches - before;
  };
  EXPECT_EQ(searches({{DType::kBF16, 48}}, n_in), 1u);
  EXPECT_EQ(searches({{DType::kBF16, 48}}, n_in), 0u);
  EXPECT_EQ(searches({{DType::kF32, 48}}, n_in), 0u) << "its upper plane lies as BF16 does";
  EXPECT_EQ(searches({{DType::kBF16, 49}}, n_in), 1u);
  EXPECT_EQ(searches({{DType::kBF16, 48}}, n_in + 8), 1u);
  EXPECT_EQ(searches({{DType::kBF16, 64}, {DType::kF32, 64}}, n_in), 1u)
      << "of rows that are 128 outputs apart";
  EXPECT_EQ(searches({{DType::kBF16, 33}, {DType::kF32, 33}}, n_in), 2u)
      << "results of the second are aligned less";
}

// Equal pieces but for the last: two shapes at most. Each fits into the memory that was set aside.
TEST_P(FastProductsTest, LargeMatricesAreUnpackedPieceByPiece) {
  if (!emulation::kIsEmulated) GTEST_SKIP() << "a real library counts no products";
  testing::Random random;
  const int64_t n_in = 256;
  const int n_out = 1000, rows = 70;
  const Weights w =
      AsMultiplied(MakeWeights({{DType::kQ4_K, n_out}}, n_in, WeightChoice::kAsStored, &random));
  const std::vector<uint16_t> x = Operand(rows, n_in);
  std::vector<double> want, sizes;
  Multiply(w, x, rows, &want, &sizes);
  constexpr size_t kStripBytes = 16 * 256 * 2;
  const struct {
    size_t unpack_bytes;
    uint64_t n_pieces;
  } cases[] = {
      {63 * kStripBytes, 1}, {62 * kStripBytes, 2}, {20 * kStripBytes, 4}, {kStripBytes, 63}, {1, 63}};
  for (const auto& c : cases) {
    SCOPED_TRACE(c.unpack_bytes);
    const auto fast = Open(kAnyRows, c.unpack_bytes);
    const auto live = emulation::CountsNow().live_bytes;
    ASSERT_TRUE(fast->Prepare(*w.matrix).ok());
    EXPECT_LE(emulation::CountsNow().live_bytes - live, fast->MemoryBytes(n_out, n_in));
    auto* const y = DeviceOf<float>(want.size());
    const uint16_t* const x_device = Device(x);
    const auto before = emulation::CountsNow();
    LinearLora(x_device, rows, *w.matrix, nullptr, false, nullptr, {}, {}, y, 4, stream_, fast.get());
    EXPECT_EQ(emulation::CountsNow().library_products - before.library_products, c.n_pieces);
    ExpectNear(Host(y, want.size()), want, sizes, n_in);
  }
}

TEST_P(FastProductsTest, MemoryIsAllocatedOnceAndAsMuchAsWasPlanned) {
  if (!emulation::kIsEmulated) GTEST_SKIP() << "a real device has memory enough";
  testing::Random random;
  const Weights w = MakeWeights({{DType::kQ8_0, 300}}, 512, WeightChoice::kAsStored, &random);
  for (int n = 0; n < 2; ++n) {
    const auto fast = Open();
    emulation::FailAllocationAfter(n);
    const Status status = fast->Reserve(300, 512);
    emulation::ForgetFailures();
    EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
    EXPECT_THAT(ToStd(status.message()),
                HasSubstr(n == 0 ? "32 MB of device memory for the workspace of cuBLASLt"
                                 : "of device memory for weights that are unpacked"));
    const auto live = emulation::CountsNow().live_bytes;
    const size_t missing = n == 0 ? 0 : FastProducts::kWorkspaceBytes;
    ASSERT_TRUE(fast->Reserve(300, 512).ok());
    EXPECT_EQ(emulation::CountsNow().live_bytes - live, fast->MemoryBytes(300, 512) - missing);
    const auto reserved = emulation::CountsNow();
    ASSERT_TRUE(fast->Prepare(*w.matrix).ok());
    const std::vector<uint16_t> x = Operand(300, 512);
    auto* const x_device = Device(x);
    auto* const y = DeviceOf<float>(300 * 300);
    const auto before = emulation::CountsNow();
    EXPECT_EQ(before.live_allocations, reserved.live_allocations + 2) << "what was tried once is freed";
    LinearLora(x_device, 300, *w.matrix, nullptr, false, nullptr, {}, {}, y, 4, stream_, fast.get());
    EXPECT_EQ(emulation::CountsNow().live_allocations, before.live_allocations);
    ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
  }
}

TEST_P(FastProductsTest, AProductThatFailsIsToldOnceAndByName) {
  if (!emulation::kIsEmulated) GTEST_SKIP() << "a real library does not fail when it is told to";
  testing::Random random;
  const Weights w = MakeWeights({{DType::kBF16, 40}}, 64, WeightChoice::kAsStored, &random);
  const auto fast = Open();
  emulation::FailProductAfter(0);
  const Status at_load = fast->Prepare(*w.matrix);
  EXPECT_THAT(ToStd(at_load.message()),
              HasSubstr("a product of 65 x 40 x 64 gave CUBLAS_STATUS_EXECUTION_FAILED"));
  ASSERT_TRUE(fast->Prepare(*w.matrix).ok());
  const std::vector<uint16_t> x = Operand(90, 64);
  const uint16_t* const x_device = Device(x);
  auto* const y = DeviceOf<float>(90 * 40);
  const auto run = [&] {
    LinearLora(x_device, 90, *w.matrix, nullptr, false, nullptr, {}, {}, y, 4, stream_, fast.get());
    return fast->TakeError();
  };
  emulation::FailProductAfter(0);
  EXPECT_THAT(ToStd(run().message()),
              HasSubstr("a product of 90 x 40 x 64 gave CUBLAS_STATUS_EXECUTION_FAILED"));
  EXPECT_TRUE(run().ok());
}

TEST_P(FastProductsTest, NothingOfTheLibraryIsLeft) {
  if (!emulation::kIsEmulated) GTEST_SKIP() << "a real library does not count what it made";
  testing::Random random;
  const Weights w = MakeWeights({{DType::kQ4_0, 40}}, 64, WeightChoice::kAsStored, &random);
  const auto before = emulation::CountsNow();
  {
    const auto fast = Open();
    ASSERT_TRUE(fast->Prepare(*w.matrix).ok());
    EXPECT_GT(emulation::CountsNow().library_objects, before.library_objects);
  }
  EXPECT_EQ(emulation::CountsNow().library_objects, before.library_objects);
  EXPECT_EQ(emulation::CountsNow().live_bytes, before.live_bytes);
}

// --- The backend ---

TEST_P(FastProductsTest, AMachineWithoutTheLibraryIsToldSoWhenTheWorkerStarts) {
  if (!emulation::kIsEmulated) GTEST_SKIP() << "this machine has the library";
  emulation::TheSettings().vendor_library = false;
  CudaBackendOptions options;
  EXPECT_TRUE(CreateCudaDecoderOps(options).ok()) << "only who wants it needs it";
  options.prefill = CudaBackendOptions::Prefill::kFast;
  const Status status = CreateCudaDecoderOps(options).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(ToStd(status.message()), AllOf(HasSubstr("--gpu-prefill=fast: cuBLASLt is not on this machine"),
                                             HasSubstr("libcublasLt.so.13"), HasSubstr("LD_LIBRARY_PATH"),
                                             HasSubstr("--gpu-prefill=invariant")));
}

TEST_P(FastProductsTest, TheBackendSaysThatItIsAnotherClassAndNotInvariant) {
  CudaBackendOptions options;
  const auto invariant = *CreateCudaDecoderOps(options);
  options.prefill = CudaBackendOptions::Prefill::kFast;
  const auto fast = *CreateCudaDecoderOps(options);
  EXPECT_TRUE(invariant->batch_invariant());
  EXPECT_FALSE(fast->batch_invariant());
  EXPECT_THAT(fast->numerics_class(), HasSubstr(invariant->numerics_class() + " prefill=cublaslt-"));
}

}  // namespace
}  // namespace coterie::cuda
