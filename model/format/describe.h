#ifndef COTERIE_MODEL_FORMAT_DESCRIBE_H_
#define COTERIE_MODEL_FORMAT_DESCRIBE_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace coterie {

// Text out of a file, fit for an error message: in double quotes, everything but printable ASCII escaped, and
// cut after 120 bytes. Names in hostile files must not reach a terminal or a log raw.
std::string Quote(std::string_view text);

// "[49152, 576]"
std::string ShapeText(std::span<const int64_t> shape);

}  // namespace coterie

#endif  // COTERIE_MODEL_FORMAT_DESCRIBE_H_
