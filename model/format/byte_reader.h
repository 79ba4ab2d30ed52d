#ifndef COTERIE_MODEL_FORMAT_BYTE_READER_H_
#define COTERIE_MODEL_FORMAT_BYTE_READER_H_

#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>

#include "common/status.h"

namespace coterie {

inline std::string_view AsText(std::span<const uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Reads little-endian values from the front of a span; a read past its end is an OutOfRange error naming what
// was read, where, and the size. The position does not move on failure.
class ByteReader {
 public:
  explicit ByteReader(std::span<const uint8_t> bytes) : bytes_(bytes) {}

  size_t position() const { return position_; }
  size_t remaining() const { return bytes_.size() - position_; }

  template <typename T>
  Status Read(std::string_view what, T* value) {
    static_assert(std::is_trivially_copyable_v<T>);
    RETURN_IF_ERROR(Need(what, sizeof(T)));
    std::memcpy(value, bytes_.data() + position_, sizeof(T));
    position_ += sizeof(T);
    return absl::OkStatus();
  }

  Status ReadSpan(std::string_view what, uint64_t n_bytes, std::span<const uint8_t>* out) {
    RETURN_IF_ERROR(Need(what, n_bytes));
    *out = bytes_.subspan(position_, n_bytes);
    position_ += n_bytes;
    return absl::OkStatus();
  }

  Status ReadText(std::string_view what, uint64_t n_bytes, std::string_view* out) {
    std::span<const uint8_t> raw;
    RETURN_IF_ERROR(ReadSpan(what, n_bytes, &raw));
    *out = AsText(raw);
    return absl::OkStatus();
  }

 private:
  Status Need(std::string_view what, uint64_t n_bytes) const {
    if (n_bytes <= remaining()) return absl::OkStatus();
    return absl::OutOfRangeError(absl::StrCat("truncated: ", ToAbsl(what), " needs ", n_bytes,
                                              " bytes at offset ", position_, ", the file has ",
                                              bytes_.size()));
  }

  std::span<const uint8_t> bytes_;
  size_t position_ = 0;
};

}  // namespace coterie

#endif  // COTERIE_MODEL_FORMAT_BYTE_READER_H_
