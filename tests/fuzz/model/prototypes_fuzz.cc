// Any bytes as prototypes.safetensors: what is accepted is [n, dim] of finite unit rows.
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "common/check.h"
#include "model/store/prototypes.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto prototypes = coterie::ParsePrototypes({data, size}, "prototypes.safetensors");
  if (!prototypes.ok()) return 0;
  COTERIE_CHECK(prototypes->n > 0 && prototypes->dim > 0);
  COTERIE_CHECK_EQ(prototypes->values.size(), prototypes->n * prototypes->dim);
  for (size_t row = 0; row < prototypes->n; ++row) {
    double norm_squared = 0;
    for (size_t i = 0; i < prototypes->dim; ++i) {
      const double value = prototypes->values[row * prototypes->dim + i];
      norm_squared += value * value;
    }
    COTERIE_CHECK(std::abs(std::sqrt(norm_squared) - 1) < 0.002) << "row " << row << ": ";
  }
  return 0;
}
