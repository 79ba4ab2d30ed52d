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
#include "tests/testing/random_matrix.h"

namespace coterie::testing {

using Backend = cpu::CpuBackend;

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
