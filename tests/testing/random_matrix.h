#ifndef COTERIE_TESTS_TESTING_RANDOM_MATRIX_H_
#define COTERIE_TESTS_TESTING_RANDOM_MATRIX_H_

#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "kernels/device.h"
#include "kernels/formats/half.h"
#include "tests/testing/seed.h"

namespace coterie::testing {

// Seeded from the test's name and TestSeed(): so runs differ, and a failure can be repeated.
class Random {
 public:
  Random();
  int Int(int lo, int hi) {
    return std::uniform_int_distribution<int>(lo, hi)(engine_);
  }  // both ends included
  float Normal() { return normal_(engine_); }
  std::vector<float> Normals(size_t n, float scale = 1.0f);

 private:
  std::mt19937 engine_;
  std::normal_distribution<float> normal_;
};

// Random weights of a type in its file's layout, scales of the usual size (some zero, negative or subnormal).
struct RandomMatrix {
  RandomMatrix(DType dtype, int64_t n_out, int64_t n_in, Random* random);
  HostMatrix host;
  std::vector<uint8_t> bytes;
};

inline constexpr DType kAllDTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16,  DType::kQ8_0, DType::kQ4_0,
                                       DType::kQ4_1, DType::kQ5_0, DType::kQ5_1,  DType::kQ4_K, DType::kQ5_K,
                                       DType::kQ6_K, DType::kQ3_K, DType::kIQ4_NL};

// Of the float16 scale in a block.
constexpr size_t ScaleOffset(DType dtype) {
  return dtype == DType::kQ6_K ? 208 : dtype == DType::kQ3_K ? 108 : 0;
}

inline Random::Random() {
  const ::testing::TestInfo* info = ::testing::UnitTest::GetInstance()->current_test_info();
  engine_.seed(static_cast<uint32_t>(std::hash<std::string>()(info->name())) + TestSeed());
}

inline std::vector<float> Random::Normals(size_t n, float scale) {
  std::vector<float> values(n);
  for (float& v : values) v = Normal() * scale;
  return values;
}

inline RandomMatrix::RandomMatrix(DType dtype, int64_t n_out, int64_t n_in, Random* random) {
  bytes.resize(static_cast<size_t>(n_out * RowBytes(dtype, n_in)));
  if (BlockElements(dtype) == 1) {
    for (int64_t i = 0; i < n_out * n_in; ++i) {
      const float v = random->Normal() * 0.1f;
      uint8_t* p = bytes.data() + i * BlockBytes(dtype);
      if (dtype == DType::kF32) {
        std::memcpy(p, &v, 4);
      } else if (dtype == DType::kF16) {
        const uint16_t h = FloatToHalf(v);
        std::memcpy(p, &h, 2);
      } else {
        const uint16_t h = static_cast<uint16_t>(std::bit_cast<uint32_t>(v) >> 16);
        std::memcpy(p, &h, 2);
      }
    }
  } else {
    for (uint8_t& b : bytes) b = static_cast<uint8_t>(random->Int(0, 255));
    const bool two =
        dtype == DType::kQ4_1 || dtype == DType::kQ5_1 || dtype == DType::kQ4_K || dtype == DType::kQ5_K;
    const size_t block = static_cast<size_t>(BlockBytes(dtype));
    const size_t at = ScaleOffset(dtype);
    for (size_t begin = 0; begin < bytes.size(); begin += block) {
      for (size_t s = 0; s < (two ? 2u : 1u); ++s) {
        const int kind = random->Int(0, 19);
        const float scale = kind == 0 ? 0.0f : random->Normal() * (kind == 1 ? 1e-6f : 0.02f);
        const uint16_t h = FloatToHalf(scale);
        std::memcpy(bytes.data() + begin + at + 2 * s, &h, 2);
      }
    }
  }
  host.dtype = dtype;
  host.n_out = n_out;
  host.n_in = n_in;
  host.data = bytes.data();
}

}  // namespace coterie::testing

#endif  // COTERIE_TESTS_TESTING_RANDOM_MATRIX_H_
