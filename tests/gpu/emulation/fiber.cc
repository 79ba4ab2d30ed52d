// Compiled without the thread sanitizer: it would take the fibers' bookkeeping for races of the kernel.
#include "fiber.h"

#include <sys/mman.h>

#include <boost/context/detail/fcontext.hpp>
#include <new>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef COTERIE_EMULATION_TSAN
#include <sanitizer/tsan_interface.h>
#endif

namespace coterie::emulation {
namespace {

using boost::context::detail::jump_fcontext;
using boost::context::detail::make_fcontext;
using boost::context::detail::transfer_t;

constexpr size_t kStackBytes = 256 * 1024;
constexpr size_t kGuardBytes = 4096;  // a lane that overruns its stack faults
// Stacks begin at different places of a page: lanes do the same at the same depth, and would share a few
// lines of the caches.
constexpr size_t kColours = 61;

// Of pools that are gone. Their work is over, and whoever takes one knows that.
std::vector<Fiber*>& Reserve() {
  static auto& reserve = *new std::vector<Fiber*>;
  return reserve;
}

FiberPool* fibers_here = nullptr;

Context* arriving = nullptr;  // where the switch under way leads to

// On the new side of a switch: notes where the other side stands.
void Arrived(transfer_t from) {
  auto* const left = static_cast<Context*>(from.data);
  left->place = from.fctx;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(arriving->fake_stack, &left->stack, &left->stack_bytes);
#endif
}

}  // namespace

void Switch(Context* from, Context* to) {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&from->fake_stack, to->stack, to->stack_bytes);
#endif
#ifdef COTERIE_EMULATION_TSAN
  __tsan_switch_to_fiber(to->thread, __tsan_switch_to_fiber_no_sync);
#endif
  arriving = to;
  Arrived(jump_fcontext(to->place, from));
}

Context ThisContext() {
  Context context;
#ifdef COTERIE_EMULATION_TSAN
  context.thread = __tsan_get_current_fiber();
#endif
  return context;
}

Fiber::Fiber() {
  memory_ = mmap(nullptr, kGuardBytes + kStackBytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory_ == MAP_FAILED) throw std::bad_alloc();
  mprotect(memory_, kGuardBytes, PROT_NONE);
  static size_t n_made = 0;
  const size_t colour = n_made++ % kColours * 64;
  context_.stack = static_cast<char*>(memory_) + kGuardBytes;
  context_.stack_bytes = kStackBytes - colour;
#ifdef COTERIE_EMULATION_TSAN
  context_.thread = __tsan_create_fiber(0);
#endif
  auto* const top = static_cast<char*>(memory_) + kGuardBytes + context_.stack_bytes;
  context_.fiber = this;
  context_.place = make_fcontext(top, context_.stack_bytes, [](transfer_t from) {
    Arrived(from);
    arriving->fiber->Main();
  });
}

Fiber::~Fiber() {
#ifdef COTERIE_EMULATION_TSAN
  __tsan_destroy_fiber(context_.thread);
#endif
  munmap(memory_, kGuardBytes + kStackBytes);
}

void Fiber::Main() {
  for (;;) job_(argument_);
}

FiberPool::~FiberPool() {
  for (Fiber* fiber : idle_) Reserve().push_back(fiber);
}

Fiber* FiberPool::Take() {
#ifdef COTERIE_EMULATION_TSAN
  // The one that has rested longest, and only if others rest, too: lanes of two blocks that share a fiber are
  // ordered.
  constexpr size_t kResting = 97;
  const bool reuse = idle_.size() > kResting;
#else
  const bool reuse = !idle_.empty();
#endif
  if (!reuse) {
    if (Reserve().empty()) return new Fiber;
    Fiber* const fiber = Reserve().back();
    Reserve().pop_back();
    return fiber;
  }
#ifdef COTERIE_EMULATION_TSAN
  Fiber* const fiber = idle_.front();
  idle_.pop_front();
#else
  Fiber* const fiber = idle_.back();  // its stack is in the caches
  idle_.pop_back();
#endif
  return fiber;
}

FiberPool* Timeline::Fibers() { return fibers_here; }

#ifdef COTERIE_EMULATION_TSAN
void Release(void* address) { __tsan_release(address); }
void Acquire(void* address) { __tsan_acquire(address); }

Timeline::Timeline() : fiber_(new Fiber) {}
Timeline::~Timeline() { delete fiber_; }
void Timeline::Do(Work* work) {
  struct Turn {
    Timeline* timeline;
    Work* work;
    Context host;
  } turn = {this, work, ThisContext()};
  fibers_here = &fibers_;
  fiber_->Assign(
      [](void* argument) {
        auto* const turn = static_cast<Turn*>(argument);
        __tsan_acquire(turn->work);
        turn->work->run();
        delete turn->work;
        __tsan_release(&turn->timeline->order_);
        Switch(turn->timeline->fiber_->context(), &turn->host);
      },
      &turn);
  Switch(&turn.host, fiber_->context());
}
void Timeline::ReleaseTo(void* address) {
  void* const host = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(fiber_->context()->thread, __tsan_switch_to_fiber_no_sync);
  __tsan_release(address);
  __tsan_switch_to_fiber(host, __tsan_switch_to_fiber_no_sync);
}
void Timeline::AcquireFrom(void* address) {
  void* const host = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(fiber_->context()->thread, __tsan_switch_to_fiber_no_sync);
  __tsan_acquire(address);
  __tsan_switch_to_fiber(host, __tsan_switch_to_fiber_no_sync);
}
#else
void Release(void*) {}
void Acquire(void*) {}

Timeline::Timeline() = default;
Timeline::~Timeline() = default;
void Timeline::Do(Work* work) {
  static auto& shared = *new FiberPool;
  fibers_here = &shared;
  work->run();
  delete work;
}
void Timeline::ReleaseTo(void*) {}
void Timeline::AcquireFrom(void*) {}
#endif

}  // namespace coterie::emulation
