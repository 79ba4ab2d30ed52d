// Ops that work row by row, against float64.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "device_arrays.h"
#include "kernels/batch.h"
#include "kernels/cuda/device_code.h"
#include "kernels/cuda/matrix.h"
#include "kernels/cuda/ops.h"

namespace coterie::cuda {
namespace {

class CudaRowsTest : public DeviceArraysTest {
 protected:
  // Rows of a width with any remainder, some of several blocks.
  int AnyWidth() { return OneOf<int>({Between(1, 70), 4 * Between(1, 300), Between(500, 2500)}); }
};
COTERIE_IN_ALL_ORDERS(CudaRowsTest);

// Ids of a step are tokens, or rows of the step before whose samples are looked up (FromRow).
TEST_P(CudaRowsTest, EmbedsWhatTheStepBeforeHasSampledAndSomeTokenWhereThatIsNone) {
  const int vocab = Between(3, 40), d = AnyWidth();
  const std::vector<float> values = Normals(static_cast<size_t>(vocab * d));
  std::vector<uint16_t> rounded(values.size());
  for (size_t i = 0; i < values.size(); ++i) rounded[i] = FloatToBf16(values[i]);
  HostMatrix host;
  host.dtype = DType::kBF16;
  host.n_out = vocab;
  host.n_in = d;
  host.data = reinterpret_cast<const uint8_t*>(rounded.data());
  const auto table = PackMatrix({&host, 1}, WeightChoice::kAsStored);
  ASSERT_TRUE(table.ok()) << table.status();
  StepData step;
  // Row 5 is behind the step: what stands there is of an older one, and may name any row.
  step.n_tokens = Device<int32_t>({5});
  step.token_ids = Device<int32_t>({vocab - 1, FromRow(1), FromRow(0), 0, FromRow(2), FromRow(1 << 30)});
  step.sampled = Device<int32_t>({2, 1, -1});  // row 2 was not finite
  auto* const x = DeviceOf<float>(static_cast<size_t>(6 * d));
  Embed(step, **table, 6, x, stream_);
  const std::vector<float> got = Host(x, static_cast<size_t>(6 * d));
  const int want[] = {vocab - 1, 1, 2, 0, 0};
  for (int row = 0; row < 5; ++row) {
    for (int c = 0; c < d; ++c) {
      ASSERT_EQ(got[static_cast<size_t>(row * d + c)],
                Bf16ToFloat(rounded[static_cast<size_t>(want[row] * d + c)]));
    }
  }
  for (int c = 0; c < d; ++c) EXPECT_TRUE(std::isnan(got[static_cast<size_t>(5 * d + c)]));
}

// One bfloat16 has 8 bits of precision.
void ExpectOperand(uint16_t got, double want, const char* what) {
  EXPECT_NEAR(Bf16ToFloat(got), want, std::fabs(want) * 0x1.02p-8 + 1e-30) << what;
}

TEST_P(CudaRowsTest, RmsNorm) {
  for (int i = 0; i < 4; ++i) {
    const int rows = Between(1, 5), d = AnyWidth();
    SCOPED_TRACE(std::to_string(rows) + " rows of " + std::to_string(d));
    const std::vector<float> x = Normals(static_cast<size_t>(rows * d));
    const std::vector<float> weight = Normals(static_cast<size_t>(d));
    const float eps = 1e-3f;
    auto* const operand = DeviceOf<uint16_t>(x.size());
    RmsNormOperand(Device(x), Device(weight), eps, rows, d, operand, stream_);
    const std::vector<uint16_t> got = Host(operand, x.size());
    for (int row = 0; row < rows; ++row) {
      const size_t at = static_cast<size_t>(row * d);
      double squares = 0;
      for (int c = 0; c < d; ++c) squares += static_cast<double>(x[at + c]) * x[at + c];
      const double inverse = 1 / std::sqrt(squares / d + eps);
      for (int c = 0; c < d; ++c) ExpectOperand(got[at + c], x[at + c] * inverse * weight[c], "norm");
    }
  }
}

TEST_P(CudaRowsTest, RowsOutOfRangeComeOutOfANormAsNanAndLeaveOthersAlone) {
  const int d = 4 * Between(1, 200) + Between(0, 3);
  const std::vector<float> good = Normals(static_cast<size_t>(d));
  const float bad[] = {NAN, INFINITY, -INFINITY, 0x1p60f, 3e38f};
  std::vector<float> x;
  for (const float value : bad) {
    x.insert(x.end(), good.begin(), good.end());
    x[x.size() - static_cast<size_t>(d) + static_cast<size_t>(Between(0, d - 1))] = value;
  }
  x.insert(x.end(), good.begin(), good.end());
  const float* const weight = Device(std::vector<float>(static_cast<size_t>(d), 1.0f));
  auto* const operand = DeviceOf<uint16_t>(x.size());
  auto* const alone = DeviceOf<uint16_t>(good.size());
  RmsNormOperand(Device(x), weight, 1e-5f, 6, d, operand, stream_);
  RmsNormOperand(Device(good), weight, 1e-5f, 1, d, alone, stream_);
  const std::vector<uint16_t> got = Host(operand, x.size());
  for (size_t i = 0; i < static_cast<size_t>(5 * d); ++i) EXPECT_TRUE(std::isnan(Bf16ToFloat(got[i]))) << i;
  EXPECT_EQ(std::vector<uint16_t>(got.begin() + 5 * d, got.end()), Host(alone, good.size()));
}

TEST_P(CudaRowsTest, SwiGlu) {
  for (int i = 0; i < 4; ++i) {
    const int rows = Between(1, 4), f = AnyWidth();
    SCOPED_TRACE(std::to_string(rows) + " rows of " + std::to_string(f));
    std::vector<float> gate_up = Normals(static_cast<size_t>(rows * 2 * f));
    for (float& value : gate_up) value *= 4;
    gate_up[0] = -200;  // e^200 is an infinity: the result is no NaN
    auto* const operand = DeviceOf<uint16_t>(static_cast<size_t>(rows * f));
    SwiGluOperand(Device(gate_up), rows, f, operand, stream_);
    const std::vector<uint16_t> got = Host(operand, static_cast<size_t>(rows * f));
    for (int row = 0; row < rows; ++row) {
      for (int c = 0; c < f; ++c) {
        const double gate = gate_up[static_cast<size_t>(2 * row * f + c)];
        const double up = gate_up[static_cast<size_t>((2 * row + 1) * f + c)];
        ExpectOperand(got[static_cast<size_t>(row * f + c)], gate / (1 + std::exp(-gate)) * up, "silu");
      }
    }
  }
}

TEST_P(CudaRowsTest, NoValueOutOfRangeComesOutOfSwiGluButAsNan) {
  const std::vector<float> gate_up = {2,      NAN, 3e38f, 1e20f, -INFINITY, 5,
                                      /**/ 3, 1,   3e38f, 1e20f, 1,         INFINITY};
  auto* const operand = DeviceOf<uint16_t>(6);
  SwiGluOperand(Device(gate_up), 1, 6, operand, stream_);
  const std::vector<uint16_t> got = Host(operand, 6);
  ExpectOperand(got[0], 2 / (1 + std::exp(-2.0)) * 3, "silu");
  for (size_t i = 1; i < 6; ++i) EXPECT_TRUE(std::isnan(Bf16ToFloat(got[i]))) << i;
}

TEST_P(CudaRowsTest, PlainRowsRoundToNearestEven) {
  const int rows = Between(1, 4), d = AnyWidth();
  const std::vector<float> x = Normals(static_cast<size_t>(rows * d));
  auto* const operand = DeviceOf<uint16_t>(x.size());
  PlainOperand(Device(x), rows, d, operand, stream_);
  const std::vector<uint16_t> got = Host(operand, x.size());
  for (size_t i = 0; i < x.size(); ++i) EXPECT_EQ(got[i], FloatToBf16(x[i])) << i;
}

TEST_P(CudaRowsTest, GathersTheLogitRowsAndNoneBehindThem) {
  const int rows = Between(1, 9), d = AnyWidth(), n_logit_rows = Between(1, rows);
  std::vector<int32_t> wanted;
  for (int i = 0; i < n_logit_rows; ++i) wanted.push_back(Between(0, rows - 1));
  const std::vector<float> x = Normals(static_cast<size_t>(rows * d));
  StepData step;
  step.logit_rows = Device(wanted);
  step.n_logit_rows = Device(std::vector<int32_t>{n_logit_rows});
  auto* const y = DeviceOf<float>(static_cast<size_t>((n_logit_rows + 2) * d));
  GatherRows(step, Device(x), n_logit_rows + 2, d, y, stream_);
  const std::vector<float> got = Host(y, static_cast<size_t>((n_logit_rows + 2) * d));
  for (int row = 0; row < n_logit_rows; ++row) {
    for (int c = 0; c < d; ++c) {
      EXPECT_EQ(got[static_cast<size_t>(row * d + c)], x[static_cast<size_t>(wanted[row] * d + c)]);
    }
  }
  for (size_t i = static_cast<size_t>(n_logit_rows * d); i < got.size(); ++i) EXPECT_TRUE(std::isnan(got[i]));
}

}  // namespace
}  // namespace coterie::cuda
