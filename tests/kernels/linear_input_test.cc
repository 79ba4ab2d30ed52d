#include <gtest/gtest.h>

#include <cmath>

#include "tests/kernels/op_testing.h"

// A product that computes its input operand by an op gives the bits of the op and then the product.
namespace coterie::testing {
namespace {

using Op = LinearInput::Op;

struct InputCase {
  Op op;
  NumericsMode mode;
  std::vector<DType> parts;  // of the matrix
  int n_in;
};

void Check(const InputCase& c) {
  Random random;
  constexpr int kRows = 41;
  constexpr int kPartOutputs = 32;
  const int n_in = c.n_in;
  const int n_out = kPartOutputs * static_cast<int>(c.parts.size());
  std::vector<RandomMatrix> matrices;
  std::vector<HostMatrix> parts;
  for (const DType dtype : c.parts) matrices.emplace_back(dtype, kPartOutputs, n_in, &random);
  for (const RandomMatrix& matrix : matrices) parts.push_back(matrix.host);
  const int x_width = c.op == Op::kSwiGlu || c.op == Op::kGeGlu ? 2 * n_in : n_in;
  const std::vector<float> x = random.Normals(static_cast<size_t>(kRows * x_width), 2.0f);
  const std::vector<float> weights = random.Normals(static_cast<size_t>(n_in));
  const std::vector<float> biases = random.Normals(static_cast<size_t>(n_in));
  ForEveryBackend(c.mode, [&](Backend& backend) {
    const std::unique_ptr<PackedMatrix> w = Pack(backend, parts);
    const std::unique_ptr<DeviceBuffer> weight = Upload(backend, weights);
    const std::unique_ptr<DeviceBuffer> bias = Upload(backend, biases);
    for (const int rows : {1, 3, kRows}) {
      SCOPED_TRACE(::testing::Message() << rows << " rows of " << n_in << ", op " << static_cast<int>(c.op));
      std::vector<float> in_place(x.begin(), x.begin() + rows * x_width);
      std::vector<float> floats(static_cast<size_t>(rows * n_in), NAN);
      std::vector<float> computed(floats.size());
      LinearInput input = nullptr;
      switch (c.op) {
        case Op::kNone:
          input = x.data();
          computed.assign(x.begin(), x.begin() + rows * n_in);
          break;
        case Op::kRmsNorm:
          input = LinearInput::RmsNorm(x.data(), *weight, 1e-5f, floats.data());
          backend.RmsNorm(x.data(), *weight, 1e-5f, rows, n_in, computed.data());
          break;
        case Op::kSwiGlu:
          input = LinearInput::Gated(c.op, x.data(), floats.data());
          backend.SwiGlu(x.data(), rows, n_in, computed.data());
          break;
        case Op::kGeGlu:
          input = LinearInput::Gated(c.op, x.data(), floats.data());
          backend.GeGlu(x.data(), rows, n_in, computed.data());
          break;
        case Op::kLayerNorm:
          input = LinearInput::LayerNorm(in_place.data(), *weight, *bias, 1e-12f);
          backend.LayerNorm(x.data(), nullptr, *weight, *bias, 1e-12f, rows, n_in, computed.data());
          break;
        case Op::kGelu:
          input = LinearInput::Gelu(in_place.data());
          computed.assign(x.begin(), x.begin() + rows * n_in);
          backend.Gelu(computed.data(), rows, n_in);
          break;
      }
      std::vector<float> apart(static_cast<size_t>(rows * n_out), 1.0f);
      std::vector<float> fused(apart);
      backend.Linear(computed.data(), rows, *w, nullptr, /*accumulate=*/true, apart.data());
      backend.Linear(input, rows, *w, nullptr, /*accumulate=*/true, fused.data());
      ASSERT_TRUE(SameBits(fused, apart));
      if (c.op == Op::kLayerNorm) {  // the residual stream
        ASSERT_TRUE(SameBits(in_place, computed));
      }
    }
  });
}

class LinearInputOfEveryOp : public ::testing::TestWithParam<LinearInput::Op> {};

TEST_P(LinearInputOfEveryOp, GivesTheBitsOfOpAndProductOneAfterTheOther) {
  for (const int n_in : {32, 96, 576, 1536}) {
    Check({GetParam(), NumericsMode::kFast, {DType::kQ4_1}, n_in});
    Check({GetParam(), NumericsMode::kExact, {DType::kQ4_1}, n_in});
  }
}

TEST_P(LinearInputOfEveryOp, IsWrittenAsFloatsWhereAPartOfTheMatrixReadsFloats) {
  Check({GetParam(), NumericsMode::kFast, {DType::kQ8_0, DType::kBF16}, 96});
  Check({GetParam(), NumericsMode::kFast, {DType::kF32}, 40});
}

INSTANTIATE_TEST_SUITE_P(All, LinearInputOfEveryOp,
                         ::testing::Values(Op::kNone, Op::kRmsNorm, Op::kSwiGlu, Op::kGeGlu, Op::kLayerNorm,
                                           Op::kGelu));

}  // namespace
}  // namespace coterie::testing
