#ifndef COTERIE_TESTS_GPU_EMULATION_FIBER_H_
#define COTERIE_TESTS_GPU_EMULATION_FIBER_H_

#include <boost/context/fiber.hpp>
#include <cstddef>
#include <functional>

namespace coterie::emulation {

// A lane's thread of control: runs one job after another, and gives the processor back when it says so. The
// sanitizers know of every switch. One host thread at a time resumes fibers.
class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  void Assign(const std::function<void()>* job) { job_ = job; }  // borrowed until it is done
  // Runs the job until it yields or is done.
  void Resume();
  bool done() const { return job_ == nullptr; }

  // In a job: gives the processor back to whoever resumed this fiber.
  void Yield();

 private:
  void Run();

  boost::context::fiber self_, resumer_;
  const std::function<void()>* job_ = nullptr;
  void* stack_ = nullptr;  // its lowest address
  void* tsan_self_ = nullptr;
  void* tsan_resumer_ = nullptr;
  void* asan_fake_stack_ = nullptr;
  const void* resumer_stack_ = nullptr;
  size_t resumer_stack_bytes_ = 0;
};

}  // namespace coterie::emulation

#endif  // COTERIE_TESTS_GPU_EMULATION_FIBER_H_
