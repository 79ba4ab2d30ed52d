#include "kernels/cpu/aligned_buffer.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "common/check.h"
#include "common/memory.h"

namespace coterie::cpu {
namespace {
constexpr size_t kHugePage = size_t{2} << 20;
// Larger buffers first ask whether there is so much memory: if there is not, the system would kill the
// process while pages are fetched.
constexpr size_t kLooksFirst = size_t{32} << 20;
}  // namespace

AlignedBuffer::AlignedBuffer(size_t n_bytes, Pages pages) {
  if (n_bytes == 0) return;
  if (n_bytes < kHugePage) {
    const size_t rounded = (n_bytes + 63) / 64 * 64;
    data_ = static_cast<uint8_t*>(std::aligned_alloc(64, rounded));
    if (data_ != nullptr) std::memset(data_, 0, rounded);
  } else if (pages == Pages::kLater || n_bytes < kLooksFirst ||
             CheckMemoryFor(n_bytes, "a large buffer").ok()) {
    mapped_bytes_ = (n_bytes + 4095) / 4096 * 4096;
    void* p = mmap(nullptr, mapped_bytes_, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
      mapped_bytes_ = 0;
    } else {
      data_ = static_cast<uint8_t*>(p);
      // Advice: a refusal changes speed only.
      madvise(p, mapped_bytes_, MADV_HUGEPAGE);
      if (pages == Pages::kNow && !FetchPages(0, 1)) {
        munmap(p, mapped_bytes_);
        mapped_bytes_ = 0;
        data_ = nullptr;
      }
    }
  }
  if (data_ != nullptr) n_bytes_ = n_bytes;
}

AlignedBuffer::~AlignedBuffer() {
  if (data_ == nullptr) return;
  if (mapped_bytes_ != 0) {
    munmap(data_, mapped_bytes_);
  } else {
    std::free(data_);
  }
}

// Pages are fetched before the first requests, since it takes up to a few seconds per gigabyte
// (docs/benchmarks.md): a prompt took twice its time over fresh KV blocks.
bool AlignedBuffer::FetchPages(int part, int parts) const {
  const size_t n_pages = (mapped_bytes_ + kHugePage - 1) / kHugePage;
  const size_t n_parts = static_cast<size_t>(parts);
  const size_t begin = n_pages * static_cast<size_t>(part) / n_parts * kHugePage;
  const size_t end = std::min(n_pages * (static_cast<size_t>(part) + 1) / n_parts * kHugePage, mapped_bytes_);
  if (begin >= end) return true;
  while (madvise(data_ + begin, end - begin, MADV_POPULATE_WRITE) != 0) {
    if (errno == EINTR || errno == EAGAIN) continue;
    return errno != ENOMEM && errno != EFAULT;  // EINVAL: Linux before 5.14
  }
  return true;
}

void AlignedBuffer::Reserve(size_t n_bytes, Pages pages) {
  if (n_bytes <= n_bytes_) return;
  *this = AlignedBuffer(pages == Pages::kNow ? n_bytes + n_bytes / 2 : n_bytes, pages);
  COTERIE_CHECK(data_ != nullptr) << "out of memory for " << n_bytes << " bytes of scratch";
}

}  // namespace coterie::cpu
