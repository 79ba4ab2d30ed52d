#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/kernels/op_testing.h"

namespace coterie::testing {
namespace {

struct Kept {
  std::vector<cpu::TopLogit> top;
  std::vector<float> whole;
};

// What LinearTop must give, from all values of y.
Kept Expected(std::span<const float> y, size_t n_out, std::span<const int32_t> keep) {
  Kept expected;
  for (size_t row = 0; row < keep.size(); ++row) {
    const std::span<const float> values = y.subspan(row * n_out, n_out);
    const size_t k = static_cast<size_t>(keep[row]);
    if (k == 0) {
      expected.whole.insert(expected.whole.end(), values.begin(), values.end());
    } else if (std::any_of(values.begin(), values.end(), [](float v) { return !std::isfinite(v); })) {
      expected.top.insert(expected.top.end(), k, {NAN, -1});
    } else {
      std::vector<cpu::TopLogit> all;
      for (size_t i = 0; i < n_out; ++i) all.push_back({values[i], static_cast<int32_t>(i)});
      std::sort(all.begin(), all.end(), cpu::Before);
      expected.top.insert(expected.top.end(), all.begin(), all.begin() + static_cast<int64_t>(k));
    }
  }
  return expected;
}

void ExpectKept(Backend& backend, const PackedMatrix& matrix, std::span<const float> x,
                std::span<const int32_t> keep) {
  const int rows = static_cast<int>(keep.size());
  const size_t n_out = static_cast<size_t>(matrix.n_out());
  std::vector<float> y(keep.size() * n_out);
  backend.Linear(x.data(), rows, matrix, nullptr, false, y.data());
  const Kept expected = Expected(y, n_out, keep);
  Kept kept;
  kept.top.resize(expected.top.size());
  kept.whole.resize(expected.whole.size());
  backend.LinearTop(x.data(), rows, matrix, keep, kept.whole.data(), kept.top.data());
  ASSERT_TRUE(SameBits(kept.whole, expected.whole));
  for (size_t i = 0; i < kept.top.size(); ++i) {
    ASSERT_EQ(kept.top[i].id, expected.top[i].id) << "place " << i;
    ASSERT_TRUE(SameBits({&kept.top[i].value, 1}, {&expected.top[i].value, 1})) << "place " << i;
  }
}

std::vector<int32_t> RandomKeep(int rows, int64_t n_out, Random* random) {
  const int most = static_cast<int>(std::min<int64_t>(n_out, cpu::kMaxTopLogits));
  std::vector<int32_t> keep;
  for (int row = 0; row < rows; ++row) {
    const int kind = random->Int(0, 3);
    keep.push_back(kind == 0 ? 0 : kind == 1 ? 1 : kind == 2 ? most : random->Int(1, most));
  }
  return keep;
}

class LinearTop : public ::testing::TestWithParam<NumericsMode> {};

TEST_P(LinearTop, KeepsTheLargestOfAllAndOfEqualOnesTheLowerIds) {
  Random random;
  constexpr int64_t kInputs = 64;
  for (DType dtype : {DType::kF32, DType::kBF16, DType::kQ8_0, DType::kQ4_1, DType::kQ4_0}) {
    for (int64_t n_out : {int64_t{1}, int64_t{64}, int64_t{random.Int(65, 130)}, int64_t{1501}}) {
      RandomMatrix matrix(dtype, n_out, kInputs, &random);
      const size_t row_bytes = matrix.bytes.size() / static_cast<size_t>(n_out);
      for (int64_t i = 0; i < n_out / 2; ++i) {  // half of the outputs repeat others
        std::copy_n(matrix.bytes.begin() +
                        random.Int(0, static_cast<int>(n_out) - 1) * static_cast<int64_t>(row_bytes),
                    row_bytes,
                    matrix.bytes.begin() +
                        random.Int(0, static_cast<int>(n_out) - 1) * static_cast<int64_t>(row_bytes));
      }
      const std::vector<float> x = random.Normals(static_cast<size_t>(130 * kInputs));
      std::vector<std::vector<int32_t>> keeps;
      for (int rows : {1, 2, 5, 16, 33, 130}) keeps.push_back(RandomKeep(rows, n_out, &random));
      keeps.push_back(std::vector<int32_t>(7, 0));
      keeps.push_back(std::vector<int32_t>(16, 1));
      ForEveryBackend(GetParam(), [&](Backend& backend) {
        const std::unique_ptr<PackedMatrix> packed = Pack(backend, {&matrix.host, 1});
        for (const std::vector<int32_t>& keep : keeps) {
          SCOPED_TRACE(::testing::Message()
                       << DTypeName(dtype) << " " << keep.size() << " rows, " << n_out << " outputs");
          ASSERT_NO_FATAL_FAILURE(ExpectKept(backend, *packed, x, keep));
        }
      });
    }
  }
}

TEST_P(LinearTop, CountsOutputsOverPartsOfSeveralTypes) {
  Random random;
  const RandomMatrix parts[] = {
      {DType::kQ4_1, 37, 64, &random}, {DType::kF32, 100, 64, &random}, {DType::kQ8_0, 5, 64, &random}};
  const HostMatrix hosts[] = {parts[0].host, parts[1].host, parts[2].host};
  const std::vector<float> x = random.Normals(20 * 64);
  const std::vector<int32_t> keep = RandomKeep(20, 142, &random);
  ForEveryBackend(GetParam(), [&](Backend& backend) {
    const std::unique_ptr<PackedMatrix> packed = Pack(backend, hosts);
    ASSERT_NO_FATAL_FAILURE(ExpectKept(backend, *packed, x, keep));
  });
}

TEST_P(LinearTop, TakesEqualOnesFromTheFirstPanels) {
  const std::vector<float> zeros(1000 * 8, 0.0f);
  HostMatrix host;
  host.n_out = 1000;
  host.n_in = 8;
  host.data = reinterpret_cast<const uint8_t*>(zeros.data());
  const std::vector<float> x = {1, -1, 1, -1, 1, -1, 1, -1};
  const int32_t keep = 50;
  ForEveryBackend(GetParam(), [&](Backend& backend) {
    const std::unique_ptr<PackedMatrix> packed = Pack(backend, {&host, 1});
    std::vector<cpu::TopLogit> top(50);
    backend.LinearTop(x.data(), 1, *packed, {&keep, 1}, nullptr, top.data());
    for (int32_t i = 0; i < 50; ++i) ASSERT_EQ(top[static_cast<size_t>(i)].id, i);
  });
}

TEST_P(LinearTop, AValueThatIsNotFiniteSpoilsItsRowWhereverItStands) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  Random random;
  for (const float bad : {NAN, kInfinity, -kInfinity}) {
    for (const int place : {0, 63, 64, 171, 255, 299}) {
      std::vector<float> one = random.Normals(300);
      one[static_cast<size_t>(place)] = bad;
      HostMatrix matrix;
      matrix.n_out = 300;
      matrix.n_in = 1;
      matrix.data = reinterpret_cast<const uint8_t*>(one.data());
      const std::vector<float> input = {1, 2, 3};
      const std::vector<int32_t> kept = {1, 0, 40};
      ForEveryBackend(GetParam(), [&](Backend& backend) {
        std::unique_ptr<PackedMatrix> packed = Pack(backend, {&matrix, 1});
        ASSERT_NO_FATAL_FAILURE(ExpectKept(backend, *packed, input, kept)) << bad << " at " << place;
        cpu::TopLogit top;
        backend.LinearTop(input.data(), 1, *packed, {kept.data(), 1}, nullptr, &top);
        ASSERT_TRUE(std::isnan(top.value)) << bad << " at " << place;
        ASSERT_EQ(top.id, -1);
      });
    }
  }
}

TEST_P(LinearTop, NotANumberSpoilsItsRowAlone) {
  Random random;
  std::vector<float> weights = random.Normals(300);  // one input
  HostMatrix host;
  host.n_out = 300;
  host.n_in = 1;
  host.data = reinterpret_cast<const uint8_t*>(weights.data());
  const std::vector<float> x = {1, NAN, 2, NAN, 1};
  const std::vector<int32_t> keep = {6, 5, 1, 0, 64};
  ForEveryBackend(GetParam(), [&](Backend& backend) {
    std::unique_ptr<PackedMatrix> packed = Pack(backend, {&host, 1});
    ASSERT_NO_FATAL_FAILURE(ExpectKept(backend, *packed, x, keep));
  });
  weights[200] = NAN;  // one output of every row
  ForEveryBackend(GetParam(), [&](Backend& backend) {
    std::unique_ptr<PackedMatrix> packed = Pack(backend, {&host, 1});
    cpu::TopLogit top;
    const int32_t one = 1;
    backend.LinearTop(x.data(), 1, *packed, {&one, 1}, nullptr, &top);
    EXPECT_TRUE(std::isnan(top.value));
    EXPECT_EQ(top.id, -1);
    ASSERT_NO_FATAL_FAILURE(ExpectKept(backend, *packed, x, keep));
  });
}

INSTANTIATE_TEST_SUITE_P(Modes, LinearTop, ::testing::Values(NumericsMode::kExact, NumericsMode::kFast),
                         [](const auto& mode) {
                           return mode.param == NumericsMode::kExact ? "Exact" : "Fast";
                         });

}  // namespace
}  // namespace coterie::testing
