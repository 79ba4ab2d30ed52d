#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "tests/kernels/op_testing.h"
#include "tests/kernels/oracle.h"

namespace coterie::testing {
namespace {

struct Shape {
  int64_t n_out;
  int64_t n_in;
};

// Every remainder of rows (tiles of up to 6; of 4 from 16 rows on, and on AVX2), of outputs (panels of 16,
// tiles of 3 panels), and of K where it may have one.
std::vector<Shape> ShapesFor(DType dtype, Random* random) {
  const int64_t block = BlockElements(dtype);
  const auto k = [&](int most) {
    return block * random->Int(1, static_cast<int>(std::max<int64_t>(1, most / block)));
  };
  return {
      {1, k(64)}, {16, k(256)}, {random->Int(17, 47), k(256)}, {48, k(512)}, {random->Int(49, 130), k(256)}};
}

float Expected(NumericsMode mode, const HostMatrix& matrix, int64_t output, std::span<const float> x) {
  return mode == NumericsMode::kFast ? oracle::LinearFast(matrix, output, x)
                                     : oracle::LinearExact(matrix, output, x);
}

void CheckLinear(NumericsMode mode, DType dtype) {
  Random random;
  for (const Shape& shape : ShapesFor(dtype, &random)) {
    RandomMatrix matrix(dtype, shape.n_out, shape.n_in, &random);
    if (random.Int(0, 1) == 1) {
      matrix.host.row_order.resize(static_cast<size_t>(shape.n_out));
      std::iota(matrix.host.row_order.begin(), matrix.host.row_order.end(), 0);
      std::reverse(matrix.host.row_order.begin(), matrix.host.row_order.end());
    }
    const int max_rows = 23;
    const std::vector<float> x = random.Normals(static_cast<size_t>(max_rows * shape.n_in));
    const std::vector<float> bias = random.Normals(static_cast<size_t>(shape.n_out));
    const std::vector<float> before = random.Normals(static_cast<size_t>(max_rows * shape.n_out));
    std::vector<float> product;
    for (int row = 0; row < max_rows; ++row) {
      const std::span<const float> x_row(x.data() + row * shape.n_in, static_cast<size_t>(shape.n_in));
      for (int64_t n = 0; n < shape.n_out; ++n) product.push_back(Expected(mode, matrix.host, n, x_row));
    }
    ForEveryBackend(mode, [&](Backend& backend) {
      const std::unique_ptr<PackedMatrix> packed = Pack(backend, {&matrix.host, 1});
      const std::unique_ptr<DeviceBuffer> bias_dev = Upload(backend, bias);
      for (int rows : {1, 2, 3, 4, 5, 6, 7, 9, 14, 16, 17, 18, 19, max_rows}) {
        SCOPED_TRACE(::testing::Message() << DTypeName(dtype) << " " << rows << " rows [" << shape.n_out
                                          << ", " << shape.n_in << "]");
        const size_t n = static_cast<size_t>(rows * shape.n_out);
        std::vector<float> y(before.begin(), before.begin() + static_cast<int64_t>(n));
        backend.Linear(x.data(), rows, *packed, nullptr, false, y.data());
        ASSERT_TRUE(SameBits(y, {product.data(), n}));

        std::vector<float> expected(n);
        y.assign(before.begin(), before.begin() + static_cast<int64_t>(n));
        for (size_t i = 0; i < n; ++i) {
          expected[i] = before[i] + (product[i] + bias[i % static_cast<size_t>(shape.n_out)]);
        }
        backend.Linear(x.data(), rows, *packed, bias_dev.get(), true, y.data());
        ASSERT_TRUE(SameBits(y, expected));
      }
    });
  }
}

class LinearOfEveryType : public ::testing::TestWithParam<DType> {};

TEST_P(LinearOfEveryType, EqualsTheOracleBitForBitInExactMode) {
  CheckLinear(NumericsMode::kExact, GetParam());
}
TEST_P(LinearOfEveryType, EqualsTheOracleBitForBitInFastMode) {
  CheckLinear(NumericsMode::kFast, GetParam());
}

TEST_P(LinearOfEveryType, EmbedGivesTheDequantisedRows) {
  Random random;
  const int64_t n_in = 256 * random.Int(1, 2);
  RandomMatrix matrix(GetParam(), 37, n_in, &random);
  Batch batch;
  batch.Clear();
  batch.token_ids = {36, 0, 15, 16, 36};
  batch.positions = {0, 1, 2, 3, 4};
  batch.cu_seqlens = {0, 5};
  AddSeat(std::vector{0}, &batch);
  batch.adapter_offsets = {0, 0};
  ForEveryBackend(NumericsMode::kFast, [&](Backend& backend) {
    const std::unique_ptr<PackedMatrix> packed = Pack(backend, {&matrix.host, 1});
    std::unique_ptr<StepContext> step =
        std::move(backend.MakeStepContext({.max_tokens = 5, .max_seqs = 1, .max_logit_rows = 5})).value();
    backend.BeginStep(step.get(), batch, TestSeats(), NoSlots());
    std::vector<float> x(static_cast<size_t>(5 * n_in));
    backend.Embed(*step, *packed, /*scale=*/1, x.data());
    std::vector<float> scaled(x.size());
    backend.Embed(*step, *packed, /*scale=*/25.3f, scaled.data());
    for (size_t i = 0; i < x.size(); ++i) ASSERT_EQ(scaled[i], 25.3f * x[i]);
    for (size_t t = 0; t < 5; ++t) {
      for (int64_t k = 0; k < n_in; ++k) {
        // Equal as numbers: a zero may have either sign.
        ASSERT_EQ(x[t * static_cast<size_t>(n_in) + static_cast<size_t>(k)],
                  oracle::Dequantise(matrix.host, batch.token_ids[t], k));
      }
    }
  });
}

TEST_P(LinearOfEveryType, StaysWithinRoundingOfFloat64) {
  Random random;
  const int64_t n_in = 512;
  const int64_t n_out = 64;
  RandomMatrix matrix(GetParam(), n_out, n_in, &random);
  const std::vector<float> x = random.Normals(static_cast<size_t>(n_in));
  for (NumericsMode mode : {NumericsMode::kExact, NumericsMode::kFast}) {
    std::unique_ptr<Backend> backend = std::move(Backend::Create({.mode = mode})).value();
    const std::unique_ptr<PackedMatrix> packed = Pack(*backend, {&matrix.host, 1});
    std::vector<float> y(static_cast<size_t>(n_out));
    backend->Linear(x.data(), 1, *packed, nullptr, false, y.data());
    double error_squares = 0;
    double squares = 0;
    for (int64_t n = 0; n < n_out; ++n) {
      double sum = 0;
      double magnitude = 0;
      for (int64_t k = 0; k < n_in; ++k) {
        const double term =
            static_cast<double>(oracle::Dequantise(matrix.host, n, k)) * x[static_cast<size_t>(k)];
        sum += term;
        magnitude += std::fabs(term);
      }
      const double error = y[static_cast<size_t>(n)] - sum;
      // K roundings of half an ulp each, on partial sums no larger than the sum of magnitudes.
      if (mode == NumericsMode::kExact) {
        ASSERT_LE(std::fabs(error), n_in * 0x1p-24 * magnitude);
      }
      error_squares += error * error;
      squares += sum * sum;
    }
    // int8 activations, one scale per 32: about 0.5 % of the product for Gaussian inputs, more where the
    // terms cancel.
    if (mode == NumericsMode::kFast) {
      EXPECT_LE(std::sqrt(error_squares / squares), 0.03);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, LinearOfEveryType, ::testing::ValuesIn(kAllDTypes),
                         [](const auto& info) { return std::string(DTypeName(info.param)); });

TEST(Linear, PartsOfDifferentTypesLieSideBySide) {
  Random random;
  const int64_t n_in = 256;
  RandomMatrix parts[] = {{DType::kQ4_1, 48, n_in, &random},
                          {DType::kQ4_1, 17, n_in, &random},
                          {DType::kQ6_K, 33, n_in, &random},
                          {DType::kBF16, 20, n_in, &random}};
  std::vector<HostMatrix> hosts;
  for (RandomMatrix& part : parts) hosts.push_back(part.host);
  const int rows = 5;
  const std::vector<float> x = random.Normals(static_cast<size_t>(rows * n_in));
  for (NumericsMode mode : {NumericsMode::kExact, NumericsMode::kFast}) {
    std::vector<float> expected;
    for (int row = 0; row < rows; ++row) {
      for (const HostMatrix& host : hosts) {
        for (int64_t n = 0; n < host.n_out; ++n) {
          expected.push_back(Expected(mode, host, n, {x.data() + row * n_in, static_cast<size_t>(n_in)}));
        }
      }
    }
    ForEveryBackend(mode, [&](Backend& backend) {
      const std::unique_ptr<PackedMatrix> packed = Pack(backend, hosts);
      std::vector<float> y(expected.size());
      backend.Linear(x.data(), rows, *packed, nullptr, false, y.data());
      ASSERT_TRUE(SameBits(y, expected));
    });
  }
}

TEST(Linear, ARowAloneEqualsTheRowInABatch) {
  Random random;
  RandomMatrix matrix(DType::kQ4_1, 100, 576, &random);
  const int rows = 97;  // one more than a block of rows
  const std::vector<float> x = random.Normals(static_cast<size_t>(rows * 576));
  ForEveryBackend(NumericsMode::kFast, [&](Backend& backend) {
    const std::unique_ptr<PackedMatrix> packed = Pack(backend, {&matrix.host, 1});
    std::vector<float> together(static_cast<size_t>(rows * 100));
    backend.Linear(x.data(), rows, *packed, nullptr, false, together.data());
    for (int row = 0; row < rows; ++row) {
      std::vector<float> alone(100);
      backend.Linear(x.data() + row * 576, 1, *packed, nullptr, false, alone.data());
      ASSERT_TRUE(SameBits(alone, {together.data() + row * 100, 100}));
    }
  });
}

// The largest sums of an instruction set that adds up products in 16 bits for as long as it can
// (linear_avx2.h), over more blocks and rows than it takes at a time.
TEST(Linear, TheLargestCodesTimesTheLargestActivationsGiveTheOraclesBits) {
  constexpr int64_t kOutputs = 20, kInputs = 2304;
  constexpr int kRows = 70;
  std::vector<float> x(kRows * kInputs);
  for (int row = 0; row < kRows; ++row) {
    for (int64_t k = 0; k < kInputs; ++k) {
      const float signs[] = {-1, 1, k % 2 == 0 ? 1.0f : -1.0f, k % 8 < 4 ? -1.0f : 1.0f,
                             k % 32 == 0 ? 1.0f : -1.0f};
      x[static_cast<size_t>(row * kInputs + k)] = signs[row % 5];
    }
  }
  for (const DType dtype : kAllDTypes) {
    if (BlockElements(dtype) == 1) continue;
    Random random;
    RandomMatrix matrix(dtype, kOutputs, kInputs, &random);
    const auto row_bytes = static_cast<size_t>(RowBytes(dtype, kInputs));
    constexpr uint8_t kBytes[] = {0xff, 0x00, 0x7f, 0x80, 0xf0};
    for (size_t i = 0; i < matrix.bytes.size(); ++i) {
      const size_t in_block = i % row_bytes % static_cast<size_t>(BlockBytes(dtype));
      const bool scale =
          in_block >= ScaleOffset(dtype) && in_block < ScaleOffset(dtype) + 4;  // as it was drawn
      if (!scale) matrix.bytes[i] = kBytes[i / row_bytes % std::size(kBytes)];
    }
    std::vector<float> expected;
    for (int row = 0; row < kRows; ++row) {
      const std::span<const float> x_row(x.data() + row * kInputs, static_cast<size_t>(kInputs));
      // Rows of five kinds.
      for (int64_t n = 0; n < kOutputs; ++n) {
        const auto before = static_cast<size_t>((row - 5) * kOutputs + n);
        expected.push_back(row < 5 ? oracle::LinearFast(matrix.host, n, x_row) : expected[before]);
      }
    }
    ForEveryBackend(NumericsMode::kFast, [&](Backend& backend) {
      SCOPED_TRACE(::testing::Message() << DTypeName(dtype) << " on " << backend.device_name());
      const std::unique_ptr<PackedMatrix> packed = Pack(backend, {&matrix.host, 1});
      for (const int rows : {1, 2, 5, kRows}) {
        std::vector<float> y(static_cast<size_t>(rows * kOutputs));
        backend.Linear(x.data(), rows, *packed, nullptr, false, y.data());
        ASSERT_TRUE(SameBits(y, {expected.data(), y.size()})) << rows << " rows";
      }
    });
  }
}

TEST(Linear, ActivationsAtTheEndsOfTheirRangeGiveTheOraclesBits) {
  Random random;
  RandomMatrix matrix(DType::kQ8_0, 16, 160, &random);
  std::vector<float> x(160, 0.0f);                                              // block 0: all zero
  for (size_t i = 32; i < 64; ++i) x[i] = 1e-38f;                               // would overflow 127 / max
  for (size_t i = 64; i < 96; ++i) x[i] = i % 2 == 0 ? 3e37f : -3e37f;          // near the largest float
  for (size_t i = 96; i < 128; ++i) x[i] = i % 2 == 0 ? -1.0f : 0.5f / 127.0f;  // ties
  x[130] = 1.0f;
  std::vector<float> expected;
  for (int64_t n = 0; n < 16; ++n) expected.push_back(oracle::LinearFast(matrix.host, n, x));
  ForEveryBackend(NumericsMode::kFast, [&](Backend& backend) {
    const std::unique_ptr<PackedMatrix> packed = Pack(backend, {&matrix.host, 1});
    std::vector<float> y(16);
    backend.Linear(x.data(), 1, *packed, nullptr, false, y.data());
    ASSERT_TRUE(SameBits(y, expected));
  });
}

TEST(Linear, AnInfiniteActivationGivesTheSameOnEveryInstructionSet) {
  Random random;
  for (const DType dtype : {DType::kQ8_0, DType::kQ4_1, DType::kQ6_K}) {
    RandomMatrix matrix(dtype, 16, 512, &random);
    std::vector<float> x = random.Normals(512);
    x[37] = INFINITY;
    x[301] = -INFINITY;
    std::vector<float> first;
    ForEveryBackend(NumericsMode::kFast, [&](Backend& backend) {
      const std::unique_ptr<PackedMatrix> packed = Pack(backend, {&matrix.host, 1});
      std::vector<float> y(16);
      backend.Linear(x.data(), 1, *packed, nullptr, false, y.data());
      for (float& v : y) {
        EXPECT_FALSE(std::isfinite(v));
        if (std::isnan(v)) v = NAN;  // which one is open
      }
      if (first.empty()) first = y;
      ASSERT_TRUE(SameBits(y, first)) << DTypeName(dtype);
    });
  }
}

TEST(PackMatrix, RefusesPartsThatDoNotFit) {
  Random random;
  RandomMatrix a(DType::kQ4_1, 16, 64, &random);
  RandomMatrix b(DType::kQ4_1, 16, 96, &random);
  std::unique_ptr<Backend> backend = std::move(Backend::Create({})).value();
  const HostMatrix different[] = {a.host, b.host};
  EXPECT_EQ(backend->PackMatrix(different).status().code(), absl::StatusCode::kInvalidArgument);
  HostMatrix ragged = a.host;
  ragged.n_in = 40;
  EXPECT_EQ(backend->PackMatrix({&ragged, 1}).status().code(), absl::StatusCode::kInvalidArgument);
  HostMatrix order = a.host;
  order.row_order.assign(16, 16);
  EXPECT_EQ(backend->PackMatrix({&order, 1}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(backend->PackMatrix({}).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(CpuBackend, RefusesAnInstructionSetItDoesNotKnowNamingThoseThatAre) {
  const absl::Status status = Backend::Create({.isa = "neon9"}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(status.message().find("portable"), absl::string_view::npos) << status;
}

}  // namespace
}  // namespace coterie::testing
