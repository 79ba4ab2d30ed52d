#ifndef COTERIE_MODEL_FORMAT_GGUF_SCALAR_H_
#define COTERIE_MODEL_FORMAT_GGUF_SCALAR_H_

#include <cstdint>

#include "model/format/gguf.h"

namespace coterie {

// Bytes of one metadata value of a type of fixed width; strings and arrays have none.
constexpr uint64_t GgufScalarBytes(GgufType type) {
  switch (type) {
    case GgufType::kU8:
    case GgufType::kI8:
    case GgufType::kBool:
      return 1;
    case GgufType::kU16:
    case GgufType::kI16:
      return 2;
    case GgufType::kU32:
    case GgufType::kI32:
    case GgufType::kF32:
      return 4;
    default:
      return 8;
  }
}

}  // namespace coterie

#endif  // COTERIE_MODEL_FORMAT_GGUF_SCALAR_H_
