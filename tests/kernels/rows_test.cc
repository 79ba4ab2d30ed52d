#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/cpu/isa.h"
#include "kernels/dot_rows.h"
#include "tests/kernels/op_testing.h"
#include "tests/kernels/oracle.h"

namespace coterie::testing {
namespace {

std::span<const float> Row(const std::vector<float>& x, int row, int d) {
  return {x.data() + static_cast<int64_t>(row) * d, static_cast<size_t>(d)};
}
void Append(std::vector<float>* to, const std::vector<float>& values) {
  to->insert(to->end(), values.begin(), values.end());
}
std::vector<int> Widths(Random* random) { return {1, 15, 16, 17, 64, random->Int(18, 200), 576}; }

TEST(RmsNorm, EqualsTheOracleBitForBit) {
  Random random;
  for (int d : Widths(&random)) {
    const int rows = random.Int(1, 40);
    const std::vector<float> x = random.Normals(static_cast<size_t>(rows * d), 3.0f);
    const std::vector<float> weight = random.Normals(static_cast<size_t>(d));
    std::vector<float> expected;
    for (int row = 0; row < rows; ++row) Append(&expected, oracle::RmsNorm(Row(x, row, d), weight, 1e-5f));
    ForEveryBackend(NumericsMode::kFast, [&](Backend& backend) {
      std::vector<float> y(x);
      backend.RmsNorm(y.data(), *Upload(backend, weight), 1e-5f, rows, d, y.data());  // in place
      ASSERT_TRUE(SameBits(y, expected)) << d;
    });
  }
}

TEST(AddRmsNorm, AddsTheNormOfTheOracleBitForBit) {
  Random random;
  for (int d : Widths(&random)) {
    const int rows = random.Int(1, 40);
    const std::vector<float> x = random.Normals(static_cast<size_t>(rows * d), 3.0f);
    const std::vector<float> stream = random.Normals(x.size());
    const std::vector<float> weight = random.Normals(static_cast<size_t>(d));
    std::vector<float> expected;
    for (int row = 0; row < rows; ++row) Append(&expected, oracle::RmsNorm(Row(x, row, d), weight, 1e-6f));
    for (size_t i = 0; i < expected.size(); ++i) expected[i] = stream[i] + expected[i];
    ForEveryBackend(NumericsMode::kFast, [&](Backend& backend) {
      std::vector<float> y(stream);
      backend.AddRmsNorm(x.data(), *Upload(backend, weight), 1e-6f, rows, d, y.data());
      ASSERT_TRUE(SameBits(y, expected)) << d;
    });
  }
}

TEST(RmsNorm, IsWithinThreeUlpsOfFloat64) {
  Random random;
  const int d = 576;
  const std::vector<float> x = random.Normals(d);
  const std::vector<float> weight(d, 1.0f);
  std::unique_ptr<Backend> backend = std::move(Backend::Create({})).value();
  std::vector<float> y(d);
  backend->RmsNorm(x.data(), *Upload(*backend, weight), 1e-5f, 1, d, y.data());
  double squares = 0;
  for (float v : x) squares += static_cast<double>(v) * v;
  for (int i = 0; i < d; ++i) {
    const double want = x[static_cast<size_t>(i)] / std::sqrt(squares / d + 1e-5f);
    EXPECT_NEAR(y[static_cast<size_t>(i)], want, 3 * 0x1p-23 * std::fabs(want));
  }
}

TEST(LayerNorm, EqualsTheOracleBitForBitWithAndWithoutResidual) {
  Random random;
  for (int d : Widths(&random)) {
    const int rows = random.Int(1, 30);
    const size_t n = static_cast<size_t>(rows * d);
    const std::vector<float> x = random.Normals(n);
    const std::vector<float> residual = random.Normals(n);
    const std::vector<float> weight = random.Normals(static_cast<size_t>(d));
    const std::vector<float> bias = random.Normals(static_cast<size_t>(d));
    for (bool with : {false, true}) {
      std::vector<float> expected;
      for (int row = 0; row < rows; ++row) {
        Append(&expected,
               oracle::LayerNorm(Row(x, row, d), with ? Row(residual, row, d) : std::span<const float>(),
                                 weight, bias, 1e-12f));
      }
      ForEveryBackend(NumericsMode::kExact, [&](Backend& backend) {
        std::vector<float> y(x);
        backend.LayerNorm(y.data(), with ? residual.data() : nullptr, *Upload(backend, weight),
                          *Upload(backend, bias), 1e-12f, rows, d, y.data());
        ASSERT_TRUE(SameBits(y, expected)) << d;
      });
    }
  }
}

TEST(SwiGlu, EqualsTheOracleBitForBit) {
  Random random;
  for (int f : Widths(&random)) {
    const int rows = random.Int(1, 30);
    const std::vector<float> gate_up = random.Normals(static_cast<size_t>(2 * rows * f), 8.0f);
    std::vector<float> expected;
    for (int row = 0; row < rows; ++row) Append(&expected, oracle::SwiGlu(Row(gate_up, row, 2 * f)));
    ForEveryBackend(NumericsMode::kFast, [&](Backend& backend) {
      std::vector<float> h(static_cast<size_t>(rows * f));
      backend.SwiGlu(gate_up.data(), rows, f, h.data());
      ASSERT_TRUE(SameBits(h, expected)) << f;
    });
  }
}

TEST(GeGlu, EqualsTheOracleBitForBit) {
  Random random;
  for (int f : Widths(&random)) {
    const int rows = random.Int(1, 30);
    const std::vector<float> gate_up = random.Normals(static_cast<size_t>(2 * rows * f), 4.0f);
    std::vector<float> expected;
    for (int row = 0; row < rows; ++row) Append(&expected, oracle::GeGlu(Row(gate_up, row, 2 * f)));
    ForEveryBackend(NumericsMode::kFast, [&](Backend& backend) {
      std::vector<float> h(static_cast<size_t>(rows * f));
      backend.GeGlu(gate_up.data(), rows, f, h.data());
      ASSERT_TRUE(SameBits(h, expected)) << f;
    });
  }
}

TEST(Gelu, EqualsTheOracleBitForBit) {
  Random random;
  for (int d : Widths(&random)) {
    const int rows = random.Int(1, 30);
    const std::vector<float> x = random.Normals(static_cast<size_t>(rows * d), 2.0f);
    std::vector<float> expected;
    for (float v : x) expected.push_back(oracle::Gelu(v));
    ForEveryBackend(NumericsMode::kExact, [&](Backend& backend) {
      std::vector<float> y(x);
      backend.Gelu(y.data(), rows, d);
      ASSERT_TRUE(SameBits(y, expected)) << d;
    });
  }
}

TEST(MeanPoolNormalize, EqualsTheOracleBitForBitAndHasUnitLength) {
  Random random;
  for (int d : Widths(&random)) {
    std::vector<int32_t> cu_seqlens = {0};
    for (int text = 0; text < 4; ++text) cu_seqlens.push_back(cu_seqlens.back() + random.Int(1, 20));
    const std::vector<float> x = random.Normals(static_cast<size_t>(cu_seqlens.back() * d));
    std::vector<float> expected;
    for (size_t text = 0; text < 4; ++text) {
      const int rows = cu_seqlens[text + 1] - cu_seqlens[text];
      Append(&expected, oracle::MeanPoolNormalize(
                            {x.data() + cu_seqlens[text] * d, static_cast<size_t>(rows * d)}, rows, d));
    }
    ForEveryBackend(NumericsMode::kExact, [&](Backend& backend) {
      std::vector<float> y(static_cast<size_t>(4 * d));
      backend.MeanPoolNormalize(x.data(), cu_seqlens, d, y.data());
      ASSERT_TRUE(SameBits(y, expected)) << d;
      double squares = 0;
      for (int i = 0; i < d; ++i)
        squares += static_cast<double>(y[static_cast<size_t>(i)]) * y[static_cast<size_t>(i)];
      ASSERT_NEAR(squares, 1.0, 1e-5);
    });
  }
}

TEST(DotRows, EqualsTheOracleBitForBit) {
  Random random;
  for (int dim : Widths(&random)) {
    const int n = random.Int(1, 20);
    const std::vector<float> query = random.Normals(static_cast<size_t>(dim));
    const std::vector<float> rows = random.Normals(static_cast<size_t>(n * dim));
    std::vector<float> expected;
    for (int row = 0; row < n; ++row) expected.push_back(oracle::Dot(query, Row(rows, row, dim)));
    std::vector<float> scores(static_cast<size_t>(n));
    DotRows(query, rows.data(), scores);
    ASSERT_TRUE(SameBits(scores, expected));
    for (const cpu::KernelTable* table : cpu::AvailableKernels()) {
      std::fill(scores.begin(), scores.end(), 0.0f);
      table->dot_rows(query.data(), rows.data(), n, dim, scores.data());
      ASSERT_TRUE(SameBits(scores, expected)) << table->name;
    }
  }
}

}  // namespace
}  // namespace coterie::testing
