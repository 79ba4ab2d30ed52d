#ifndef COTERIE_KERNELS_CPU_ALIGNED_BUFFER_H_
#define COTERIE_KERNELS_CPU_ALIGNED_BUFFER_H_

#include <cstddef>
#include <cstdint>
#include <utility>

namespace coterie::cpu {

// Zeroed memory on a 64-byte boundary. A large buffer is mapped from the kernel (page-aligned, huge pages
// asked for); its pages are fetched at once, or by FetchPages. data() is null after an allocation that
// failed; n_bytes() then is 0. Movable, not copyable.
class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  enum class Pages : uint8_t { kNow, kLater };
  explicit AlignedBuffer(size_t n_bytes, Pages pages = Pages::kNow);
  ~AlignedBuffer();
  AlignedBuffer(AlignedBuffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)),
        n_bytes_(std::exchange(other.n_bytes_, 0)),
        mapped_bytes_(std::exchange(other.mapped_bytes_, 0)) {}
  AlignedBuffer& operator=(AlignedBuffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(n_bytes_, other.n_bytes_);
    std::swap(mapped_bytes_, other.mapped_bytes_);
    return *this;
  }

  uint8_t* data() const { return data_; }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_);
  }
  size_t n_bytes() const { return n_bytes_; }

  // Fetches the pages of one of `parts` equal parts of a buffer made with Pages::kLater; parts may be fetched
  // by several threads at once. False where the system has no pages left. A system that cannot fetch ahead is
  // no failure: pages then come when they are used.
  bool FetchPages(int part, int parts) const;

  // Makes room for at least n_bytes, dropping the content when it grows. CHECKs that memory is there.
  void Reserve(size_t n_bytes, Pages pages = Pages::kNow);

 private:
  uint8_t* data_ = nullptr;
  size_t n_bytes_ = 0;
  size_t mapped_bytes_ = 0;  // 0: from the heap
};

}  // namespace coterie::cpu

#endif  // COTERIE_KERNELS_CPU_ALIGNED_BUFFER_H_
