#ifndef COTERIE_TESTS_GPU_EMULATION_GRID_H_
#define COTERIE_TESTS_GPU_EMULATION_GRID_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "fiber.h"

namespace coterie::emulation {

constexpr size_t kMostSharedBytes = 227 * 1024;  // of a block on any device: settings may say less

struct Grid {
  const void* kernel = nullptr;
  dim3 grid, block;
  size_t shared_bytes = 0;
  std::function<void()> lane;
};

// Faults on a launch that a GPU refuses.
void CheckShape(const Grid& grid);

// Runs all blocks of a grid to their end. A block that waits for another one (Pause) lets the others run
// meanwhile.
void RunGrid(const Grid& grid, FiberPool* fibers);

uint64_t StreamedBytes();  // by all kernels so far: CountStreamedBytes

// What runs on this host thread: a kernel's lane, or the caller. For messages.
std::string WhoRuns();

}  // namespace coterie::emulation

#endif  // COTERIE_TESTS_GPU_EMULATION_GRID_H_
