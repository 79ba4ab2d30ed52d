#ifndef COTERIE_TESTS_GPU_EMULATION_FIBER_H_
#define COTERIE_TESTS_GPU_EMULATION_FIBER_H_

#include <cstddef>
#include <deque>
#include <functional>

namespace coterie::emulation {

class Fiber;

// Where a thread of control stands while another one runs: a lane's, or that of the host thread which runs a
// grid.
struct Context {
  void* place = nullptr;  // Boost's
  const void* stack =
      nullptr;  // its lowest address; the address sanitizer tells a host thread's when it is left
  size_t stack_bytes = 0;
  void* fake_stack = nullptr;  // the address sanitizer's
  void* thread = nullptr;      // the thread sanitizer's
  Fiber* fiber = nullptr;      // null: a host thread
};

// Leaves `from` for `to`; returns when somebody switches back. The sanitizers know of it, and take nothing
// for ordered by it.
void Switch(Context* from, Context* to);
// That of the calling thread.
Context ThisContext();

// A stack, and a thread as the thread sanitizer sees it, that run one job after another. A job returns by
// switching away as its last act; the next switch to the fiber starts the job that was assigned meanwhile.
// Never unwound: when destroyed, it just isn't run any more.
class Fiber {
 public:
  using Job = void (*)(void* argument);
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  void Assign(Job job, void* argument) { job_ = job, argument_ = argument; }
  Context* context() { return &context_; }

 private:
  void Main();

  Context context_;
  void* memory_ = nullptr;  // stack and guard page
  Job job_ = nullptr;
  void* argument_ = nullptr;
};

// Fibers that nobody uses. One pool a stream under the thread sanitizer: a fiber that worked for one stream
// knows what that one did, and on another one it would hide races between the two.
class FiberPool {
 public:
  FiberPool() = default;
  ~FiberPool();
  FiberPool(const FiberPool&) = delete;
  FiberPool& operator=(const FiberPool&) = delete;
  Fiber* Take();
  void Return(Fiber* fiber) { idle_.push_back(fiber); }

 private:
  std::deque<Fiber*> idle_;
};

// What the thread sanitizer is told of order: who acquires an address comes after all who released it before.
// They do nothing in other builds.
void Release(void* address);
void Acquire(void* address);

// A piece of a stream's work.
struct Work {
  std::function<void()> run;
};

// A stream as the thread sanitizer sees it: a thread of its own, whichever host thread happens to do its
// work. What it does is ordered by what the API says and by nothing else: after the call that enqueued the
// work, after events that the stream waits for; before an event's record, and before a host thread that joins
// it.
class Timeline {
 public:
  Timeline();
  ~Timeline();
  Timeline(const Timeline&) = delete;
  Timeline& operator=(const Timeline&) = delete;

  void Do(Work* work);  // and deletes it
  // In work: for the lanes of its kernels.
  static FiberPool* Fibers();
  void ReleaseTo(void* address);
  void AcquireFrom(void* address);
  void Join() { Acquire(&order_); }  // by the calling host thread

 private:
  // With a stack of its own: what stands on a host thread's would be taken for shared by the two.
  Fiber* fiber_ = nullptr;
  char order_ = 0;
  FiberPool fibers_;
};

}  // namespace coterie::emulation

#endif  // COTERIE_TESTS_GPU_EMULATION_FIBER_H_
