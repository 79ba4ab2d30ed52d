#include "tests/kernels/op_testing.h"

#include <bit>
#include <cmath>

#include "kernels/cpu/isa.h"
#include "tests/kernels/oracle.h"
#include "tests/testing/seed.h"

namespace coterie::testing {

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
