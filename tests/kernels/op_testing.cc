#include "tests/kernels/op_testing.h"

#include <bit>
#include <cmath>

#include "kernels/cpu/isa.h"
#include "tests/kernels/oracle.h"
#include "tests/testing/seed.h"

namespace coterie::testing {

Random::Random() {
  const ::testing::TestInfo* info = ::testing::UnitTest::GetInstance()->current_test_info();
  engine_.seed(static_cast<uint32_t>(std::hash<std::string>()(info->name())) + TestSeed());
}

std::vector<float> Random::Normals(size_t n, float scale) {
  std::vector<float> values(n);
  for (float& v : values) v = Normal() * scale;
  return values;
}

RandomMatrix::RandomMatrix(DType dtype, int64_t n_out, int64_t n_in, Random* random) {
  bytes.resize(static_cast<size_t>(n_out * RowBytes(dtype, n_in)));
  if (BlockElements(dtype) == 1) {
    for (int64_t i = 0; i < n_out * n_in; ++i) {
      const float v = random->Normal() * 0.1f;
      uint8_t* p = bytes.data() + i * BlockBytes(dtype);
      if (dtype == DType::kF32) {
        std::memcpy(p, &v, 4);
      } else if (dtype == DType::kF16) {
        const Float16 h = static_cast<Float16>(v);
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
    const size_t at = dtype == DType::kQ6_K ? 208 : 0;
    for (size_t begin = 0; begin < bytes.size(); begin += block) {
      for (size_t s = 0; s < (two ? 2u : 1u); ++s) {
        const int kind = random->Int(0, 19);
        const float scale = kind == 0 ? 0.0f : random->Normal() * (kind == 1 ? 1e-6f : 0.02f);
        const Float16 h = static_cast<Float16>(scale);
        std::memcpy(bytes.data() + begin + at + 2 * s, &h, 2);
      }
    }
  }
  host.dtype = dtype;
  host.n_out = n_out;
  host.n_in = n_in;
  host.data = bytes.data();
}

void ForEveryBackend(NumericsMode mode, const std::function<void(Backend&)>& test,
                     std::optional<DType> kv_dtype) {
  for (const cpu::KernelTable* table : cpu::AvailableKernels()) {
    for (int n_threads : {1, 2, 3}) {
      CpuBackendOptions options;
      options.mode = mode;
      options.n_threads = n_threads;
      options.isa = table->name;
      options.kv_dtype = kv_dtype;
      StatusOr<std::unique_ptr<Backend>> backend = Backend::Create(options);
      ASSERT_TRUE(backend.ok()) << backend.status();
      SCOPED_TRACE((*backend)->device_name());
      test(**backend);
      if (::testing::Test::HasFailure()) return;
    }
  }
}

std::unique_ptr<DeviceBuffer> Upload(Backend& backend, std::span<const float> values) {
  return std::move(backend.Upload(values)).value();
}

std::unique_ptr<PackedMatrix> Pack(Backend& backend, std::span<const HostMatrix> parts) {
  StatusOr<std::unique_ptr<PackedMatrix>> packed = backend.PackMatrix(parts);
  EXPECT_TRUE(packed.ok()) << packed.status();
  return packed.ok() ? std::move(*packed) : nullptr;
}

::testing::AssertionResult SameBits(std::span<const float> actual, std::span<const float> expected) {
  if (actual.size() != expected.size()) {
    return ::testing::AssertionFailure() << actual.size() << " values, expected " << expected.size();
  }
  for (size_t i = 0; i < actual.size(); ++i) {
    if (std::bit_cast<uint32_t>(actual[i]) != std::bit_cast<uint32_t>(expected[i])) {
      return ::testing::AssertionFailure()
             << "value " << i << " of " << actual.size() << ": " << actual[i] << " (" << std::hex
             << std::bit_cast<uint32_t>(actual[i]) << "), expected " << expected[i] << " ("
             << std::bit_cast<uint32_t>(expected[i]) << ")";
    }
  }
  return ::testing::AssertionSuccess();
}

}  // namespace coterie::testing
