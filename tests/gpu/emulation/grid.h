#ifndef COTERIE_TESTS_GPU_EMULATION_GRID_H_
#define COTERIE_TESTS_GPU_EMULATION_GRID_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <functional>

namespace coterie::emulation {

struct Grid {
  const void* kernel = nullptr;
  dim3 grid, block;
  size_t shared_bytes = 0;
  std::function<void()> lane;
};

// Runs all blocks of a grid to their end. A block that waits for another one (Pause) lets the others run
// meanwhile.
void RunGrid(const Grid& grid);

}  // namespace coterie::emulation

#endif  // COTERIE_TESTS_GPU_EMULATION_GRID_H_
