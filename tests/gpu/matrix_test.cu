// Weights in device memory: every value is what the file says, or what it was rounded to.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>
#include <vector>

#include "device_arrays.h"
#include "kernels/cuda/matrix.h"
#include "kernels/cuda/ops.h"
#include "kernels/formats/dequantize.h"
#include "kernels/formats/fp8.h"
#include "kernels/formats/half.h"
#include "tests/testing/random_matrix.h"
#include "weight_values.h"

namespace coterie::cuda {
namespace {

using coterie::testing::kAllDTypes;
using coterie::testing::Random;
using coterie::testing::RandomMatrix;

std::vector<float> Decoded(const HostMatrix& part) {
  std::vector<float> values;
  for (int64_t row = 0; row < part.n_out; ++row) {
    const int64_t from = part.row_order.empty() ? row : part.row_order[static_cast<size_t>(row)];
    std::vector<float> one(static_cast<size_t>(part.n_in));
    Dequantize(part.dtype, part.data + from * RowBytes(part.dtype, part.n_in), part.n_in, one.data());
    values.insert(values.end(), one.begin(), one.end());
  }
  return values;
}

class CudaMatrixTest : public DeviceArraysTest {
 protected:
  std::vector<float> Read(const CudaMatrix& matrix) {
    const auto n = static_cast<size_t>(matrix.n_out() * matrix.n_in());
    auto* const to = DeviceOf<float>(n);
    for (const WeightSegment& segment : matrix.segments()) {
      EnqueueReadWeights(segment, to + segment.first_out * matrix.n_in(), stream_);
    }
    return Host(to, n);
  }
  int64_t AnyInputs(DType dtype) {
    const int64_t block = BlockElements(dtype);
    return block == 1 ? Between(1, 400) : block * Between(1, block == 32 ? 12 : 3);
  }
};
INSTANTIATE_TEST_SUITE_P(Orders, CudaMatrixTest, ::testing::Values(emulation::Order::kRandom), OrderName);

TEST_P(CudaMatrixTest, HoldsEveryTypeExactly) {
  Random random;
  for (const DType dtype : kAllDTypes) {
    for (int i = 0; i < 4; ++i) {
      const int64_t n_in = AnyInputs(dtype);
      RandomMatrix one(dtype, Between(1, 50), n_in, &random), two(dtype, Between(1, 20), n_in, &random);
      one.host.row_order.resize(static_cast<size_t>(one.host.n_out));
      std::iota(one.host.row_order.begin(), one.host.row_order.end(), 0);
      std::shuffle(one.host.row_order.begin(), one.host.row_order.end(), random_);
      SCOPED_TRACE(std::string(DTypeName(dtype)) + " " + std::to_string(one.host.n_out) + "+" +
                   std::to_string(two.host.n_out) + " x " + std::to_string(n_in));
      const HostMatrix parts[] = {one.host, two.host};
      const auto matrix = PackMatrix(parts, WeightChoice::kAsStored);
      ASSERT_TRUE(matrix.ok()) << matrix.status();
      EXPECT_EQ((*matrix)->segments().size(), 1u);
      EXPECT_EQ((*matrix)->bytes(),
                MatrixBytes(dtype, one.host.n_out + two.host.n_out, n_in, WeightChoice::kAsStored));
      EXPECT_EQ((*matrix)->quantised(), BlockElements(dtype) != 1);
      std::vector<float> want = Decoded(one.host);
      const std::vector<float> more = Decoded(two.host);
      want.insert(want.end(), more.begin(), more.end());
      const std::vector<float> got = Read(**matrix);
      for (size_t k = 0; k < want.size(); ++k) {
        if (dtype == DType::kF32) {
          ASSERT_NEAR(got[k], want[k], std::fabs(want[k]) * 0x1p-16) << k;
        } else {
          ASSERT_EQ(got[k], want[k]) << k;
        }
      }
    }
  }
}

TEST_P(CudaMatrixTest, PartsOfSeveralTypesStandSideBySide) {
  Random random;
  std::vector<RandomMatrix> matrices;
  std::vector<HostMatrix> parts;
  std::vector<float> want;
  for (const DType dtype :
       {DType::kQ4_K, DType::kQ4_K, DType::kQ6_K, DType::kBF16, DType::kF16, DType::kF32}) {
    matrices.emplace_back(dtype, Between(1, 40), 512, &random);
    parts.push_back(matrices.back().host);
    parts.back().data = matrices.back().bytes.data();
    if (dtype == DType::kF32) continue;
    const std::vector<float> values = Decoded(parts.back());
    want.insert(want.end(), values.begin(), values.end());
  }
  const auto matrix = PackMatrix(parts, WeightChoice::kAsStored);
  ASSERT_TRUE(matrix.ok()) << matrix.status();
  EXPECT_EQ((*matrix)->segments().size(), 5u);  // both of Q4_K are one
  EXPECT_TRUE((*matrix)->quantised());
  const std::vector<float> got = Read(**matrix);
  for (size_t k = 0; k < want.size(); ++k) ASSERT_EQ(got[k], want[k]) << k;
}

// What a type is held as: two that few files have are unpacked into the codes of another one.
DType HeldAs(DType dtype) {
  if (dtype == DType::kQ3_K) return DType::kQ6_K;
  return dtype == DType::kIQ4_NL ? DType::kQ8_0 : dtype;
}

// A device reads what it holds: more than the file has is time in every step.
TEST(MatrixBytesTest, NoTypeTakesThreePercentMoreThanAFileOfWhatItIsHeldAs) {
  for (const DType dtype : kAllDTypes) {
    const int64_t n_out = 4096, n_in = 14336;
    const auto bytes = static_cast<double>(MatrixBytes(dtype, n_out, n_in, WeightChoice::kAsStored));
    const auto in_file = static_cast<double>(n_out * RowBytes(HeldAs(dtype), n_in));
    EXPECT_LT(bytes, 1.03 * in_file) << DTypeName(dtype);
    EXPECT_GE(bytes, in_file) << DTypeName(dtype);
  }
}

// Infinities, NaN, the largest and the smallest numbers, as x = 1 finds them.
TEST_P(CudaMatrixTest, F16IsMultipliedExactly) {
  std::vector<uint16_t> halves = {0x7C00, 0xFC00, 0x7E00, 0x7BFF, 0xFBFF,
                                  0x0001, 0x8001, 0x03FF, 0x0400, 0x8000};
  while (halves.size() < 40)
    halves.push_back(static_cast<uint16_t>(Between(0, 0x7BFF) | Between(0, 1) << 15));
  constexpr int kInputs = 64;
  std::vector<uint16_t> weights(halves.size() * kInputs);
  std::vector<uint16_t> x(kInputs);
  const int at = Between(0, kInputs - 1);
  x[static_cast<size_t>(at)] = FloatToBf16(1.0f);
  for (size_t i = 0; i < halves.size(); ++i) weights[i * kInputs + static_cast<size_t>(at)] = halves[i];
  HostMatrix part;
  part.dtype = DType::kF16;
  part.n_out = static_cast<int64_t>(halves.size());
  part.n_in = kInputs;
  part.data = reinterpret_cast<const uint8_t*>(weights.data());
  const auto matrix = PackMatrix({&part, 1}, WeightChoice::kAsStored);
  ASSERT_TRUE(matrix.ok()) << matrix.status();
  auto* const y = DeviceOf<float>(halves.size());
  LinearLora(Device(x), 1, **matrix, nullptr, false, nullptr, {}, {}, y, 4, stream_);
  const std::vector<float> got = Host(y, halves.size());
  for (size_t i = 0; i < halves.size(); ++i) {
    const float want = coterie::HalfToFloat(halves[i]);
    if (std::isnan(want)) {
      EXPECT_TRUE(std::isnan(got[i])) << i;
    } else {
      EXPECT_EQ(got[i], want) << i;
    }
  }
}

TEST_P(CudaMatrixTest, FloatsAreRoundedToTheTypeThatIsAskedFor) {
  Random random;
  for (const DType dtype : {DType::kF32, DType::kF16, DType::kBF16}) {
    const RandomMatrix part(dtype, Between(1, 40), Between(1, 300), &random);
    const std::vector<float> want = Decoded(part.host);
    const auto n_in = static_cast<size_t>(part.host.n_in);
    for (const WeightChoice choice : {WeightChoice::kQ8_0, WeightChoice::kFp8}) {
      const auto matrix = PackMatrix({&part.host, 1}, choice);
      ASSERT_TRUE(matrix.ok()) << matrix.status();
      EXPECT_EQ((*matrix)->quantised(), choice == WeightChoice::kQ8_0);
      EXPECT_EQ((*matrix)->bytes(), MatrixBytes(dtype, part.host.n_out, part.host.n_in, choice));
      const std::vector<float> got = Read(**matrix);
      for (size_t row = 0; row < want.size() / n_in; ++row) {
        float most = 0;
        for (size_t k = 0; k < n_in; ++k) most = std::max(most, std::fabs(want[row * n_in + k]));
        for (size_t k = 0; k < n_in; ++k) {
          const float value = want[row * n_in + k];
          const float error = choice == WeightChoice::kQ8_0
                                  ? most / 127 * 0.51f
                                  : std::fabs(value) * 0x1.1p-4f + most / 448 * 0x1.1p-10f;
          ASSERT_NEAR(got[row * n_in + k], value, error) << row << " " << k;
        }
      }
    }
  }
}

TEST_P(CudaMatrixTest, RowsOfEveryTypeAreEmbedded) {
  Random random;
  for (const DType dtype : kAllDTypes) {
    const RandomMatrix table(dtype, Between(2, 70), AnyInputs(dtype), &random);
    const std::vector<float> values = Decoded(table.host);
    const auto matrix = PackMatrix({&table.host, 1}, WeightChoice::kAsStored);
    ASSERT_TRUE(matrix.ok()) << matrix.status();
    const auto d = static_cast<size_t>(table.host.n_in);
    const std::vector<int32_t> ids = {0, static_cast<int32_t>(table.host.n_out) - 1, 1};
    StepData step;
    step.n_tokens = Device(std::vector<int32_t>{3});
    step.token_ids = Device(ids);
    auto* const x = DeviceOf<float>(3 * d);
    Embed(step, **matrix, 3, x, stream_);
    const std::vector<float> got = Host(x, 3 * d);
    for (size_t i = 0; i < 3 * d; ++i) {
      const float want = values[static_cast<size_t>(ids[i / d]) * d + i % d];
      ASSERT_NEAR(got[i], want, dtype == DType::kF32 ? std::fabs(want) * 0x1p-16 : 0.0)
          << DTypeName(dtype) << " " << i;
    }
  }
}

TEST_P(CudaMatrixTest, RefusesWhatItCannotRound) {
  for (const float bad : {NAN, INFINITY, -1e30f}) {
    std::vector<float> values(3 * 40, 1.0f);
    values[2 * 40 + 39] = bad;
    HostMatrix part;
    part.n_out = 3;
    part.n_in = 40;
    part.data = reinterpret_cast<const uint8_t*>(values.data());
    const auto matrix = PackMatrix({&part, 1}, WeightChoice::kQ8_0);
    EXPECT_TRUE(absl::IsInvalidArgument(matrix.status())) << matrix.status();
    EXPECT_NE(matrix.status().message().find("row 2"), absl::string_view::npos) << matrix.status();
    EXPECT_EQ(PackMatrix({&part, 1}, WeightChoice::kFp8).ok(), std::isfinite(bad));
    EXPECT_TRUE(PackMatrix({&part, 1}, WeightChoice::kAsStored).ok());
  }
  HostMatrix empty;
  EXPECT_TRUE(absl::IsInvalidArgument(PackMatrix({&empty, 1}, WeightChoice::kAsStored).status()));
}

TEST_P(CudaMatrixTest, NamesTheBytesThatWereNotThere) {
  if (!emulation::kIsEmulated) GTEST_SKIP() << "a real device fails when it likes";
  const std::vector<float> values(64 * 64);
  HostMatrix part;
  part.n_out = part.n_in = 64;
  part.data = reinterpret_cast<const uint8_t*>(values.data());
  emulation::FailAllocationAfter(0);
  const auto matrix = PackMatrix({&part, 1}, WeightChoice::kAsStored);
  EXPECT_TRUE(absl::IsResourceExhausted(matrix.status())) << matrix.status();
  EXPECT_NE(matrix.status().message().find("weights [64, 64]"), absl::string_view::npos) << matrix.status();
  emulation::ForgetFailures();
  EXPECT_TRUE(PackMatrix({&part, 1}, WeightChoice::kAsStored).ok());
}

TEST(Fp8Test, RoundsToTheNearestAndTiesToEven) {
  for (int bits = 0; bits < 0x7f; ++bits) {
    const auto code = static_cast<uint8_t>(bits);
    const float value = E4M3ToFloat(code);
    EXPECT_EQ(FloatToE4M3(value), code);
    EXPECT_EQ(FloatToE4M3(-value), code | 0x80);
    EXPECT_EQ(E4M3ToFloat(code | 0x80), -value);
    if (bits == 0x7e) continue;
    const float middle = (value + E4M3ToFloat(static_cast<uint8_t>(bits + 1))) / 2;
    EXPECT_EQ(FloatToE4M3(middle), bits % 2 == 0 ? bits : bits + 1) << bits;
    EXPECT_EQ(FloatToE4M3(std::nextafter(middle, 1e9f)), bits + 1);
    EXPECT_EQ(FloatToE4M3(std::nextafter(middle, -1.0f)), bits);
  }
  EXPECT_EQ(FloatToE4M3(1e30f), 0x7e);
  EXPECT_EQ(E4M3ToFloat(0x7e), kMaxE4M3);
}

}  // namespace
}  // namespace coterie::cuda
