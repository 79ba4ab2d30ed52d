#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <numbers>

#include "kernels/cpu/isa.h"
#include "kernels/formats/half.h"
#include "tests/kernels/op_testing.h"
#include "tests/kernels/oracle.h"

namespace coterie::testing {
namespace {

double Ulp(double value) {
  const float f = std::fabs(static_cast<float>(value));
  if (f < std::numeric_limits<float>::min()) return 0x1p-149;
  return std::ldexp(1.0, std::ilogb(f) - 23);
}

// Every 97th float of [lo, hi], signs apart.
template <class Body>
void ForFloats(float lo, float hi, Body body) {
  for (uint32_t bits = std::bit_cast<uint32_t>(lo); bits <= std::bit_cast<uint32_t>(hi); bits += 97) {
    body(std::bit_cast<float>(bits));
  }
}

// Largest error in units in the last place of the float64 answer, over the floats given.
template <class Reference>
double WorstUlps(void (*kernel)(const float*, int64_t, float*), const std::vector<float>& x,
                 Reference reference) {
  std::vector<float> y(x.size());
  kernel(x.data(), static_cast<int64_t>(x.size()), y.data());
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double want = reference(static_cast<double>(x[i]));
    worst = std::max(worst, std::fabs(y[i] - want) / Ulp(want));
  }
  return worst;
}

// The same in units in the last place of x.
template <class Reference>
double WorstOf(void (*kernel)(const float*, int64_t, float*), const std::vector<float>& x,
               Reference reference) {
  std::vector<float> y(x.size());
  kernel(x.data(), static_cast<int64_t>(x.size()), y.data());
  double worst = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const auto v = static_cast<double>(x[i]);
    worst = std::max(worst, std::fabs(y[i] - reference(v)) / Ulp(v));
  }
  return worst;
}

std::vector<float> Both(float lo, float hi) {
  std::vector<float> x;
  ForFloats(lo, hi, [&](float v) {
    x.push_back(v);
    x.push_back(-v);
  });
  return x;
}

// The bounds that docs/numerics.md states.
TEST(Math, ErrorsStayWithinTheStatedUlps) {
  const cpu::KernelTable& table = *cpu::AvailableKernels().front();
  const double exp_worst = WorstUlps(table.exp, Both(1e-6f, 87.0f), [](double v) { return std::exp(v); });
  EXPECT_LE(exp_worst, 1.1);
  const double erf_worst = WorstUlps(table.erf, Both(1e-6f, 6.0f), [](double v) { return std::erf(v); });
  EXPECT_LE(erf_worst, 2.5);
  const double silu_worst =
      WorstUlps(table.silu, Both(1e-6f, 80.0f), [](double v) { return v / (1.0 + std::exp(-v)); });
  EXPECT_LE(silu_worst, 2.6);
  // Far below zero the result is nothing beside x, and so is its error: bounded in ulps of x.
  const double gelu_worst = WorstOf(table.gelu_tanh, Both(1e-6f, 80.0f), [](double v) {
    return v / 2 * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (v + 0.044715 * v * v * v)));
  });
  EXPECT_LE(gelu_worst, 2.5);
  RecordProperty("gelu_tanh_ulps", std::to_string(gelu_worst));
  RecordProperty("exp_ulps", std::to_string(exp_worst));
  RecordProperty("erf_ulps", std::to_string(erf_worst));
  RecordProperty("silu_ulps", std::to_string(silu_worst));
}

TEST(Math, EveryInstructionSetGivesTheOraclesBits) {
  std::vector<float> x = Both(1e-8f, 120.0f);
  const float infinity = std::numeric_limits<float>::infinity();
  for (float v :
       {0.0f, -0.0f, infinity, -infinity, 88.72f, 88.73f, -87.4f, -103.9f, -104.1f, 0.92f, 1e-40f}) {
    x.push_back(v);
  }
  std::vector<float> exp, erf, silu, gelu_tanh;
  for (float v : x) {
    exp.push_back(oracle::Exp(v));
    erf.push_back(oracle::Erf(v));
    silu.push_back(oracle::Silu(v));
    gelu_tanh.push_back(oracle::GeluTanh(v));
  }
  for (const cpu::KernelTable* table : cpu::AvailableKernels()) {
    SCOPED_TRACE(table->name);
    std::vector<float> y(x.size());
    table->exp(x.data(), static_cast<int64_t>(x.size()), y.data());
    EXPECT_TRUE(SameBits(y, exp));
    table->erf(x.data(), static_cast<int64_t>(x.size()), y.data());
    EXPECT_TRUE(SameBits(y, erf));
    table->silu(x.data(), static_cast<int64_t>(x.size()), y.data());
    EXPECT_TRUE(SameBits(y, silu));
    table->gelu_tanh(x.data(), static_cast<int64_t>(x.size()), y.data());
    EXPECT_TRUE(SameBits(y, gelu_tanh));
  }
}

TEST(Math, Exp2WeightIsNearAndEqualsTheOracle) {
  const float infinity = std::numeric_limits<float>::infinity();
  std::vector<float> t = {0.0f, -0.0f, -0.5f, -1.5f, -125.5f, -126.0f, -126.5f, -1e4f, -3.4e38f, -infinity};
  ForFloats(1e-8f, 126.0f, [&](float v) { t.push_back(-v); });
  std::vector<float> expected;
  for (const float v : t) expected.push_back(oracle::Exp2Weight(v));
  for (const cpu::KernelTable* table : cpu::AvailableKernels()) {
    SCOPED_TRACE(table->name);
    std::vector<float> y(t.size());
    table->exp2_weight(t.data(), static_cast<int64_t>(t.size()), y.data());
    ASSERT_TRUE(SameBits(y, expected));
    EXPECT_EQ(y[0], 1.0f);
    EXPECT_EQ(y[9], 0x1p-126f);
    double worst = 0;
    for (size_t i = 10; i < t.size(); ++i) {
      worst = std::max(worst, std::fabs(y[i] / std::exp2(static_cast<double>(t[i])) - 1.0));
    }
    EXPECT_LE(worst, 3e-6);
    const float nan = std::nanf("");
    table->exp2_weight(&nan, 1, y.data());
    EXPECT_TRUE(std::isnan(y[0]));
  }
}

TEST(Math, ExpReachesItsEndsAndKeepsNan) {
  const float infinity = std::numeric_limits<float>::infinity();
  const float x[] = {-infinity, -104.0f, 0.0f, 89.0f, infinity, std::nanf("")};
  for (const cpu::KernelTable* table : cpu::AvailableKernels()) {
    float y[6];
    table->exp(x, 6, y);
    EXPECT_EQ(y[0], 0.0f);
    EXPECT_EQ(y[1], 0.0f);
    EXPECT_EQ(y[2], 1.0f);
    EXPECT_EQ(y[3], infinity);
    EXPECT_EQ(y[4], infinity);
    EXPECT_TRUE(std::isnan(y[5]));
  }
}

TEST(Half, EveryValueWidensAndRoundsAsTheCompilersOwn) {
  for (uint32_t h = 0; h < 0x10000; ++h) {
    const uint16_t bits = static_cast<uint16_t>(h);
    const float expected = static_cast<float>(std::bit_cast<Float16>(bits));
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(HalfToFloat(bits)));
      continue;
    }
    ASSERT_EQ(std::bit_cast<uint32_t>(HalfToFloat(bits)), std::bit_cast<uint32_t>(expected)) << h;
    ASSERT_EQ(FloatToHalf(expected), bits);
  }
  for (uint64_t bits = 0; bits < 0x100000000ull; bits += 65521) {
    const float x = std::bit_cast<float>(static_cast<uint32_t>(bits));
    if (std::isnan(x)) continue;
    ASSERT_EQ(FloatToHalf(x), std::bit_cast<uint16_t>(static_cast<Float16>(x))) << x;
    if (std::fabs(x) < 3e38f) {
      ASSERT_EQ(Bf16ToFloat(RoundToBf16(x)), oracle::RoundKv(DType::kBF16, x)) << x;
    }
  }
}

// Bits of a float of any exponent: zeros, subnormals and infinities too, NaN not.
float AnyFloat(Random* random) {
  switch (random->Int(0, 9)) {
    case 0:
      return random->Int(0, 1) == 0 ? 0.0f : -0.0f;
    case 1:
      return std::ldexp(random->Normal(), -50);
    case 2:
      return std::ldexp(random->Normal(), random->Int(-149, 126));
    default:
      return random->Normal();
  }
}

TEST(Bf16, OperandsRoundToNearestAndToZeroBelowTheLimit) {
  Random random;
  std::vector<float> x = {0.0f,
                          -0.0f,
                          0x1p-50f,
                          -0x1p-50f,
                          std::nextafter(0x1p-50f, 0.0f),
                          1e-40f,
                          3.4e38f,
                          -std::numeric_limits<float>::infinity(),
                          1.00390625f,
                          1.01171875f,
                          0x1.fep-1f};
  while (x.size() < 16 * 4096) x.push_back(AnyFloat(&random));
  for (const cpu::KernelTable* table : cpu::AvailableKernels()) {
    SCOPED_TRACE(table->name);
    std::vector<uint16_t> y(x.size());
    table->round_bf16(x.data(), static_cast<int64_t>(x.size()), y.data());
    for (size_t i = 0; i < x.size(); ++i) {
      if (std::fabs(x[i]) > 3.38e38f) continue;  // rounds to infinity: no neighbour above for the oracle
      const float expected = oracle::RoundBf16Operand(x[i]);
      ASSERT_EQ(static_cast<uint32_t>(y[i]) << 16, std::bit_cast<uint32_t>(expected)) << x[i];
    }
    EXPECT_EQ(y[6], 0x7f80);
    EXPECT_EQ(y[7], 0xff80);
    const std::vector<float> nan(16, std::nanf(""));
    table->round_bf16(nan.data(), 16, y.data());
    EXPECT_TRUE(std::isnan(Bf16ToFloat(y[0])));
  }
}

// Long chains, so that sums cancel: with operands as far apart as they may be, and with ordinary ones.
TEST(Bf16, ChainsOfPairsGiveTheOraclesBits) {
  Random random;
  for (int trial = 0; trial < 200; ++trial) {
    const int spread = random.Int(0, 49);
    const auto draw = [&] {
      return oracle::RoundBf16Operand(std::ldexp(random.Normal(), random.Int(-spread, spread)));
    };
    constexpr size_t kLanes = 16, kSteps = 48;
    std::vector<float> expected(kLanes, 0.0f);
    std::vector<uint16_t> a(2 * kLanes * kSteps), b(a.size());
    for (size_t step = 0; step < kSteps; ++step) {
      for (size_t lane = 0; lane < kLanes; ++lane) {
        float v[4] = {draw(), draw(), draw(), draw()};
        if (random.Int(0, 3) == 0) v[1] = -v[0], v[3] = v[2];  // a pair that cancels itself
        expected[lane] = oracle::DotBf16Pair(expected[lane], v[0], v[1], v[2], v[3]);
        for (size_t i = 0; i < 2; ++i) {
          a[2 * (step * kLanes + lane) + i] = static_cast<uint16_t>(std::bit_cast<uint32_t>(v[i]) >> 16);
          b[2 * (step * kLanes + lane) + i] = static_cast<uint16_t>(std::bit_cast<uint32_t>(v[2 + i]) >> 16);
        }
      }
    }
    for (const cpu::KernelTable* table : cpu::AvailableKernels()) {
      std::vector<float> acc(kLanes, 0.0f);
      for (size_t step = 0; step < kSteps; ++step) {
        table->dot_bf16(a.data() + 2 * kLanes * step, b.data() + 2 * kLanes * step, kLanes, acc.data());
      }
      ASSERT_TRUE(SameBits(acc, expected)) << table->name << ", exponents within " << spread;
    }
  }
}

}  // namespace
}  // namespace coterie::testing
