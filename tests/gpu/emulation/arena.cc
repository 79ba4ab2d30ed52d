#include "arena.h"

#include <signal.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <iterator>
#include <string>

#include "control.h"
#include "machine.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, bytes)
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes)
#endif

namespace coterie::emulation {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kAlignment = 256;
constexpr unsigned char kRedZone = 0xA5;
constexpr unsigned char kPoison = 0xFF;  // a NaN in every float type, -1 in integers
constexpr size_t kMostFreed = 4096;      // allocations whose addresses are not given out again

// The bytes of an allocation's pages that lie before and behind it. Before: only those next to it are
// watched.
size_t BytesBefore(const Allocation& a, uintptr_t begin) {
  return std::min(begin - reinterpret_cast<uintptr_t>(a.map) - kPage, kAlignment);
}
size_t BytesBehind(const Allocation& a) { return (kAlignment - a.bytes % kAlignment) % kAlignment; }

void CheckRedZone(const unsigned char* begin, size_t bytes, const Allocation& a, const char* where) {
  for (size_t i = 0; i < bytes; ++i) {
    if (begin[i] != kRedZone) {
      Fault(std::string("memory ") + where + " an allocation of " + std::to_string(a.bytes) +
            " bytes was written");
    }
  }
}

// Says what was touched that must not be. Runs on the stack of who touched it.
void OnFault(int signal, siginfo_t* info, void*) {
  if (const auto what = TheMachine().arena.Describe(info->si_addr)) Fault(*what);
  ::signal(signal, SIG_DFL);
}

void WatchFaults() {
  static const bool watching = [] {
    struct sigaction before = {};
    if (sigaction(SIGSEGV, nullptr, &before) == 0 && before.sa_handler == SIG_DFL) {
      struct sigaction action = {};
      action.sa_sigaction = OnFault;
      action.sa_flags = SA_SIGINFO | SA_NODEFER;
      sigaction(SIGSEGV, &action, nullptr);
    }
    return true;
  }();
  static_cast<void>(watching);
}

}  // namespace

void* Arena::Allocate(size_t bytes, bool pinned, int device) {
  WatchFaults();
  const size_t aligned = (bytes + kAlignment - 1) / kAlignment * kAlignment;
  const size_t inner = (aligned + kPage - 1) / kPage * kPage;
  const size_t map_bytes = inner + 2 * kPage;
  void* const map = mmap(nullptr, map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (map == MAP_FAILED) return nullptr;
  auto* const base = static_cast<unsigned char*>(map);
  if (mprotect(base + kPage, inner, PROT_READ | PROT_WRITE) != 0) {
    munmap(map, map_bytes);
    return nullptr;
  }
  unsigned char* const begin = base + kPage + inner - aligned;
  const Allocation allocation = {bytes, pinned, device, base, map_bytes};
  const auto address = reinterpret_cast<uintptr_t>(begin);
  const size_t before = BytesBefore(allocation, address), behind = BytesBehind(allocation);
  std::memset(begin - before, kRedZone, before);
  std::memset(begin, kPoison, bytes);
  std::memset(begin + bytes, kRedZone, behind);
  ASAN_POISON_MEMORY_REGION(begin - before, before);
  ASAN_POISON_MEMORY_REGION(begin + bytes, behind);
  allocations_[address] = allocation;
  if (TheSettings().protect && !pinned && n_open_ == 0) mprotect(base + kPage, inner, PROT_NONE);
  return begin;
}

void Arena::Free(void* pointer, bool pinned) {
  const auto found = allocations_.find(reinterpret_cast<uintptr_t>(pointer));
  if (found == allocations_.end() || found->second.pinned != pinned) {
    Fault("a pointer is freed that is none of cudaMalloc's or cudaHostAlloc's, or by the wrong function");
  }
  const Allocation a = found->second;
  auto* const begin = static_cast<unsigned char*>(pointer);
  const size_t before = BytesBefore(a, found->first), behind = BytesBehind(a);
  mprotect(a.map + kPage, a.map_bytes - 2 * kPage, PROT_READ | PROT_WRITE);
  ASAN_UNPOISON_MEMORY_REGION(begin - before, before);
  ASAN_UNPOISON_MEMORY_REGION(begin + a.bytes, behind);
  CheckRedZone(begin - before, before, a, "before");
  CheckRedZone(begin + a.bytes, behind, a, "behind");
  allocations_.erase(found);
  // The addresses stay taken, without memory behind them.
  mmap(a.map, a.map_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  const auto map = reinterpret_cast<uintptr_t>(a.map);
  freed_[map] = a.map_bytes;
  freed_order_.push_back(map);
  if (freed_order_.size() > kMostFreed) {
    const auto oldest = freed_.find(freed_order_.front());
    munmap(reinterpret_cast<void*>(oldest->first), oldest->second);
    freed_.erase(oldest);
    freed_order_.pop_front();
  }
}

const Allocation* Arena::Find(const void* pointer, size_t bytes) const {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  auto after = allocations_.upper_bound(address);
  if (after == allocations_.begin()) return nullptr;
  const auto& [begin, allocation] = *--after;
  return address + bytes <= begin + allocation.bytes ? &allocation : nullptr;
}

std::optional<const char*> Arena::Describe(const void* address) const {
  const auto at = reinterpret_cast<uintptr_t>(address);
  const auto freed = freed_.upper_bound(at);
  if (freed != freed_.begin()) {
    const auto& [map, bytes] = *std::prev(freed);
    if (at < map + bytes) return "touches memory that was freed";
  }
  for (const auto& [begin, a] : allocations_) {
    const auto map = reinterpret_cast<uintptr_t>(a.map);
    if (at < map || at >= map + a.map_bytes) continue;
    if (at < begin) return "touches memory before an allocation";
    if (at >= begin + a.bytes) return "touches memory behind an allocation";
    return "touches device memory, which only kernels and copies may";
  }
  return std::nullopt;
}

void Arena::Open() {
  if (TheSettings().protect && n_open_++ == 0) Protect(PROT_READ | PROT_WRITE);
}

void Arena::Close() {
  if (TheSettings().protect && --n_open_ == 0) Protect(PROT_NONE);
}

void Arena::Protect(int protection) {
  for (const auto& [begin, a] : allocations_) {
    if (!a.pinned) mprotect(a.map + kPage, a.map_bytes - 2 * kPage, protection);
  }
}

}  // namespace coterie::emulation
