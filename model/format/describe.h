#ifndef COTERIE_MODEL_FORMAT_DESCRIBE_H_
#define COTERIE_MODEL_FORMAT_DESCRIBE_H_

#include <cstdint>
#include <span>
#include <string>

namespace coterie {

// "[49152, 576]"
std::string ShapeText(std::span<const int64_t> shape);

}  // namespace coterie

#endif  // COTERIE_MODEL_FORMAT_DESCRIBE_H_
