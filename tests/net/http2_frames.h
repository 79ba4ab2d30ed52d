#ifndef COTERIE_TESTS_NET_HTTP2_FRAMES_H_
#define COTERIE_TESTS_NET_HTTP2_FRAMES_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace coterie::net::testing {

inline constexpr std::string_view kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
inline constexpr std::string_view kEmptySettings("\0\0\0\4\0\0\0\0\0", 9);

// RFC 9113, 4.1.
inline std::string Frame(uint8_t type, uint8_t flags, uint32_t stream, std::string_view payload) {
  std::string frame;
  const auto append = [&frame](uint32_t value, int n_bytes) {
    while (n_bytes-- > 0) frame.push_back(static_cast<char>(value >> (8 * n_bytes)));
  };
  append(static_cast<uint32_t>(payload.size()), 3);
  append(type, 1);
  append(flags, 1);
  append(stream, 4);
  return frame.append(payload);
}

// A header field that no table knows, in plain letters (RFC 7541, 6.2.2); shorter than 127 bytes each.
inline std::string Field(std::string_view name, std::string_view value) {
  std::string field(1, '\0');
  field.push_back(static_cast<char>(name.size()));
  field.append(name);
  field.push_back(static_cast<char>(value.size()));
  return field.append(value);
}

// A call of `path` with this message (as gRPC frames it), broken off at once. Streams of clients are odd.
inline std::string OpenAndReset(uint32_t stream, std::string_view path, std::string_view message) {
  const std::string headers = Field(":method", "POST") + Field(":scheme", "http") + Field(":path", path) +
                              Field(":authority", "localhost") + Field("content-type", "application/grpc") +
                              Field("te", "trailers");
  const std::string cancel("\0\0\0\x08", 4);
  return Frame(1, 4, stream, headers) + Frame(0, 1, stream, message) + Frame(3, 0, stream, cancel);
}

// A serialised protobuf as gRPC sends it: not compressed, its length, itself.
inline std::string GrpcMessage(std::string_view serialised) {
  std::string message(1, '\0');
  for (int shift = 24; shift >= 0; shift -= 8) {
    message.push_back(static_cast<char>(serialised.size() >> shift));
  }
  return message.append(serialised);
}

}  // namespace coterie::net::testing

#endif  // COTERIE_TESTS_NET_HTTP2_FRAMES_H_
