// Linked into tests that speak gRPC under ThreadSanitizer. Debian's libgrpc is not instrumented: the
// sanitizer sees our threads and gRPC's header code on both sides of it, but not the order that the library
// gives them, and would report every hand-over as a race. These wrappers stand between the headers and the
// library and say where it orders:
//   an operation is started              -> its completion runs;
//   work is given to the library's threads (OnDone, OnCancel) -> it runs;
//   the server starts                    -> calls come in;
//   a reference to a call is dropped     -> the next is taken.
// Suppressions could not say that: they match any frame of a stack and so would hide races of ours in every
// callback.
//
// This file is compiled without instrumentation, so that nothing here orders anything by itself.
#include <dlfcn.h>
#include <grpc/grpc.h>
#include <link.h>
#include <sanitizer/tsan_interface.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

namespace {

using Run = void (*)(grpc_completion_queue_functor*, int);

template <typename Function>
Function* Next(const char* name) {
  void* found = dlsym(RTLD_NEXT, name);
  if (found == nullptr) std::abort();
  return reinterpret_cast<Function*>(found);
}

// Whether `address` is code: tells a completion's functor, which begins with a function, from a tag of the
// blocking interface, which begins with a table of virtual functions.
bool IsCode(const void* address) {
  const auto look = [](dl_phdr_info* object, size_t, void* wanted) -> int {
    for (int i = 0; i < object->dlpi_phnum; ++i) {
      const ElfW(Phdr)& part = object->dlpi_phdr[i];
      if (part.p_type != PT_LOAD || (part.p_flags & PF_X) == 0) continue;
      const uintptr_t begin = object->dlpi_addr + part.p_vaddr;
      const auto at = reinterpret_cast<uintptr_t>(wanted);
      if (at >= begin && at < begin + part.p_memsz) return 1;
    }
    return 0;
  };
  return dl_iterate_phdr(look, const_cast<void*>(address)) != 0;
}

// The library's functors have few different functions; each gets a stand-in that knows it.
constexpr int kMaxFunctions = 8;
std::atomic<Run> g_functions[kMaxFunctions];

template <int kIndex>
void RunInOrder(grpc_completion_queue_functor* functor, int ok) {
  __tsan_acquire(functor);
  g_functions[kIndex].load(std::memory_order_relaxed)(functor, ok);
}

constexpr Run kStandIns[kMaxFunctions] = {RunInOrder<0>, RunInOrder<1>, RunInOrder<2>, RunInOrder<3>,
                                          RunInOrder<4>, RunInOrder<5>, RunInOrder<6>, RunInOrder<7>};

Run StandInFor(Run function) {
  for (Run stand_in : kStandIns) {
    if (function == stand_in) return function;
  }
  for (int i = 0; i < kMaxFunctions; ++i) {
    Run known = nullptr;
    if (g_functions[i].compare_exchange_strong(known, function) || known == function) return kStandIns[i];
  }
  std::fputs("tests/tsan/grpc_order.cc: kMaxFunctions is too small\n", stderr);
  std::abort();
}

// grpc_closure of gRPC 1.51 (src/core/lib/iomgr/closure.h), as far as it is needed: work for the library's
// threads. The error is a class passed by value, that is by the address of the caller's copy.
struct Closure {
  void* next;
  void (*run)(void* argument, void* error);
  void* argument;
};

struct Scheduled {
  Closure* closure;
  Closure original;
};

void RunScheduled(void* argument, void* error) {
  auto* scheduled = static_cast<Scheduled*>(argument);
  const Closure original = scheduled->original;
  __tsan_acquire(scheduled->closure);
  scheduled->closure->run = original.run;
  scheduled->closure->argument = original.argument;
  std::free(scheduled);
  original.run(original.argument, error);
}

char g_started;  // an address for "a server has started"

}  // namespace

extern "C" {

// grpc_core::Executor::Run(grpc_closure*, absl::Status, ExecutorType, ExecutorJobType)
#define EXECUTOR_RUN \
  "_ZN9grpc_core8Executor3RunEP12grpc_closureN4absl7debian36StatusENS_12ExecutorTypeENS_15ExecutorJobTypeE"
void ExecutorRun(Closure* closure, void* error, int type, int job) __asm__(EXECUTOR_RUN);
void ExecutorRun(Closure* closure, void* error, int type, int job) {
  static auto* const next = Next<decltype(ExecutorRun)>(EXECUTOR_RUN);
  auto* scheduled = static_cast<Scheduled*>(std::malloc(sizeof(Scheduled)));
  *scheduled = {closure, *closure};
  closure->run = RunScheduled;
  closure->argument = scheduled;
  __tsan_release(closure);
  next(closure, error, type, job);
}

grpc_call_error grpc_call_start_batch(grpc_call* call, const grpc_op* ops, size_t n_ops, void* tag,
                                      void* reserved) {
  static auto* const next = Next<decltype(grpc_call_start_batch)>("grpc_call_start_batch");
  if (tag != nullptr && IsCode(*static_cast<void**>(tag))) {
    auto* functor = static_cast<grpc_completion_queue_functor*>(tag);
    functor->functor_run = StandInFor(functor->functor_run);
    __tsan_release(functor);
  }
  return next(call, ops, n_ops, tag, reserved);
}

void grpc_server_start(grpc_server* server) {
  static auto* const next = Next<decltype(grpc_server_start)>("grpc_server_start");
  __tsan_release(&g_started);
  next(server);
}

void grpc_call_ref(grpc_call* call) {
  static auto* const next = Next<decltype(grpc_call_ref)>("grpc_call_ref");
  __tsan_acquire(&g_started);
  __tsan_acquire(call);
  next(call);
}

void grpc_call_unref(grpc_call* call) {
  static auto* const next = Next<decltype(grpc_call_unref)>("grpc_call_unref");
  __tsan_acquire(call);
  __tsan_release(call);
  next(call);
}

void* grpc_call_arena_alloc(grpc_call* call, size_t size) {
  static auto* const next = Next<decltype(grpc_call_arena_alloc)>("grpc_call_arena_alloc");
  __tsan_acquire(&g_started);
  void* made = next(call, size);
  __tsan_acquire(call);
  return made;
}

}  // extern "C"
