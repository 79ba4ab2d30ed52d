#ifndef COTERIE_TESTS_COMM_BUFFER_H_
#define COTERIE_TESTS_COMM_BUFFER_H_

#include <cstddef>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

namespace coterie::comm_testing {

// Memory that calls work on. Tests read and write it by copies, since it may be a device's.
class Buffer {
 public:
  virtual ~Buffer() = default;
  virtual std::byte* data() = 0;
  virtual void Write(size_t at, const void* from, size_t n_bytes) = 0;
  virtual void Read(size_t at, void* to, size_t n_bytes) = 0;

  template <typename T>
  T* As() {
    return reinterpret_cast<T*>(data());
  }
  template <typename T>
  void Write(const std::vector<T>& values) {
    Write(0, values.data(), values.size() * sizeof(T));
  }
  template <typename T>
  std::vector<T> Values(size_t n, size_t at = 0) {
    std::vector<T> values(n);
    Read(at * sizeof(T), values.data(), n * sizeof(T));
    return values;
  }
};

class HostBuffer : public Buffer {
 public:
  // Never without an address, and with what was there before.
  explicit HostBuffer(size_t n_bytes) : bytes_(new std::byte[n_bytes + 1]) {}
  std::byte* data() override { return bytes_.get(); }
  void Write(size_t at, const void* from, size_t n_bytes) override {
    if (n_bytes > 0) std::memcpy(bytes_.get() + at, from, n_bytes);
  }
  void Read(size_t at, void* to, size_t n_bytes) override {
    if (n_bytes > 0) std::memcpy(to, bytes_.get() + at, n_bytes);
  }

 private:
  const std::unique_ptr<std::byte[]> bytes_;
};

using Allocator = std::function<std::shared_ptr<Buffer>(size_t n_bytes)>;

inline std::shared_ptr<Buffer> AllocateOnHost(size_t n_bytes) {
  return std::make_shared<HostBuffer>(n_bytes);
}

}  // namespace coterie::comm_testing

#endif  // COTERIE_TESTS_COMM_BUFFER_H_
