#include "common/random.h"

#include <random>

namespace coterie {

uint64_t DrawSeed() {
  std::random_device device;
  return (uint64_t{device()} << 32) | device();
}

}  // namespace coterie
