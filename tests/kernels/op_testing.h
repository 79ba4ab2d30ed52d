#ifndef COTERIE_TESTS_KERNELS_OP_TESTING_H_
#define COTERIE_TESTS_KERNELS_OP_TESTING_H_

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "kernels/cpu/cpu_backend.h"

namespace coterie::testing {

using Backend = cpu::CpuBackend;

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

constexpr DType kAllDTypes[] = {DType::kF32,  DType::kF16,  DType::kBF16, DType::kQ8_0,
                                DType::kQ4_0, DType::kQ4_1, DType::kQ5_0, DType::kQ5_1,
                                DType::kQ4_K, DType::kQ5_K, DType::kQ6_K};

// Calls `test` with every instruction set of this machine and 1, 2 and 3 threads.
void ForEveryBackend(NumericsMode mode, const std::function<void(Backend&)>& test,
                     std::optional<DType> kv_dtype = std::nullopt);

std::unique_ptr<DeviceBuffer> Upload(Backend& backend, std::span<const float> values);
std::unique_ptr<PackedMatrix> Pack(Backend& backend, std::span<const HostMatrix> parts);

// For steps in which nothing is sampled.
inline Seats* TestSeats() {
  static cpu::CpuSeats seats({.n_seats = 64, .max_blocks = 1024});
  return &seats;
}

// The next sequence of the batch has the next seat, with these blocks.
inline void AddSeat(std::span<const int32_t> blocks, Batch* batch) {
  const auto seat = static_cast<int>(batch->seats.size());
  batch->seats.push_back(seat);
  batch->ChangeBlocks(seat, 0, blocks);
}

// And for those under no adapter.
inline const AdapterSlots& NoSlots() {
  static const cpu::CpuAdapterSlots slots(0);
  return slots;
}

// Fails naming the first place where the bits differ.
::testing::AssertionResult SameBits(std::span<const float> actual, std::span<const float> expected);

}  // namespace coterie::testing

#endif  // COTERIE_TESTS_KERNELS_OP_TESTING_H_
