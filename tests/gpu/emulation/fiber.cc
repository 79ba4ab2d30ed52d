// Compiled without the thread sanitizer: it would take the fibers' bookkeeping for races of the kernel.
#include "fiber.h"

#include <sys/mman.h>

#include <new>
#include <utility>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef COTERIE_EMULATION_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace coterie::emulation {
namespace {

constexpr size_t kStackBytes = 256 * 1024;
constexpr size_t kGuardBytes = 4096;  // a lane that overruns its stack faults

// Memory of one fiber's stack, given to Boost once.
struct Stack {
  void* base;
  boost::context::stack_context allocate() {
    boost::context::stack_context context;
    context.size = kStackBytes;
    context.sp = static_cast<char*>(base) + kGuardBytes + kStackBytes;
    return context;
  }
  void deallocate(boost::context::stack_context&) { munmap(base, kGuardBytes + kStackBytes); }
};

}  // namespace

Fiber::Fiber() {
  void* base = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) throw std::bad_alloc();
  mprotect(base, kGuardBytes, PROT_NONE);
  stack_ = static_cast<char*>(base) + kGuardBytes;
#ifdef COTERIE_EMULATION_TSAN
  tsan_self_ = __tsan_create_fiber(0);
#endif
  self_ = boost::context::fiber(std::allocator_arg, Stack{base}, [this](boost::context::fiber&& resumer) {
    resumer_ = std::move(resumer);
    Run();
    return std::move(resumer_);
  });
}

Fiber::~Fiber() {
  Resume();  // without a job it ends
#ifdef COTERIE_EMULATION_TSAN
  __tsan_destroy_fiber(tsan_self_);
#endif
}

void Fiber::Run() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(nullptr, &resumer_stack_, &resumer_stack_bytes_);
#endif
  while (job_ != nullptr) {
    (*job_)();
    job_ = nullptr;
    Yield();
  }
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(nullptr, resumer_stack_, resumer_stack_bytes_);
#endif
#ifdef COTERIE_EMULATION_TSAN
  __tsan_switch_to_fiber(tsan_resumer_, __tsan_switch_to_fiber_no_sync);
#endif
}

void Fiber::Resume() {
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, stack_, kStackBytes);
#endif
#ifdef COTERIE_EMULATION_TSAN
  tsan_resumer_ = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(tsan_self_, __tsan_switch_to_fiber_no_sync);
#endif
  self_ = std::move(self_).resume();
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

void Fiber::Yield() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&asan_fake_stack_, resumer_stack_, resumer_stack_bytes_);
#endif
#ifdef COTERIE_EMULATION_TSAN
  __tsan_switch_to_fiber(tsan_resumer_, __tsan_switch_to_fiber_no_sync);
#endif
  resumer_ = std::move(resumer_).resume();
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(asan_fake_stack_, &resumer_stack_, &resumer_stack_bytes_);
#endif
}

}  // namespace coterie::emulation
