#include "common/mapping_guard.h"

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <mutex>

namespace coterie {
namespace {

// Everything the handler touches is lock-free: it runs wherever the fault fell.
struct Guarded {
  std::atomic<bool> taken = false;
  std::atomic<uintptr_t> begin = 0;
  std::atomic<uintptr_t> end = 0;  // 0: not guarded (yet)
  std::atomic<bool> whole = true;
};
static_assert(std::atomic<uintptr_t>::is_always_lock_free && std::atomic<bool>::is_always_lock_free);

// A signal has one handler for the whole process, so its table cannot be passed to it.
std::array<Guarded, kMaxGuardedMappings> guarded_mappings;
struct sigaction action_before;
size_t page_bytes = 4096;

void PutZerosInPlace(int signal, siginfo_t* info, void* context) {
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  for (Guarded& guarded : guarded_mappings) {
    const uintptr_t end = guarded.end.load();
    if (address >= end || address < guarded.begin.load()) continue;
    // What is gone begins at this page: the rest at once, instead of a fault for each page.
    const uintptr_t page = address / page_bytes * page_bytes;
    guarded.whole.store(false);
    if (::mmap(reinterpret_cast<void*>(page), end - page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED,
               -1, 0) != MAP_FAILED) {
      return;
    }
    break;
  }
  if ((action_before.sa_flags & SA_SIGINFO) != 0 && action_before.sa_sigaction != nullptr) {
    action_before.sa_sigaction(signal, info, context);
    return;
  }
  // Returning repeats the access, which now ends the process as it would have without us.
  ::sigaction(SIGBUS, &action_before, nullptr);
}

void Install() {
  static std::once_flag once;
  std::call_once(once, [] {
    page_bytes = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
    struct sigaction action = {};
    action.sa_sigaction = PutZerosInPlace;
    action.sa_flags = SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    ::sigaction(SIGBUS, &action, &action_before);
  });
}

}  // namespace

int GuardMapping(const void* data, size_t n_bytes) {
  Install();
  for (int i = 0; i < kMaxGuardedMappings; ++i) {
    Guarded& guarded = guarded_mappings[static_cast<size_t>(i)];
    bool free = false;
    if (!guarded.taken.compare_exchange_strong(free, true)) continue;
    guarded.whole.store(true);
    guarded.begin.store(reinterpret_cast<uintptr_t>(data));
    guarded.end.store(reinterpret_cast<uintptr_t>(data) + n_bytes);
    return i;
  }
  return -1;
}

bool MappingIsWhole(int guard) { return guarded_mappings[static_cast<size_t>(guard)].whole.load(); }

void UnguardMapping(int guard) {
  Guarded& guarded = guarded_mappings[static_cast<size_t>(guard)];
  guarded.end.store(0);
  guarded.taken.store(false);
}

}  // namespace coterie
