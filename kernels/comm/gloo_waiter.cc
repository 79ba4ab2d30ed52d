#ifdef COTERIE_WITH_GLOO
#include "kernels/comm/gloo_waiter.h"

#include <exception>

#include "kernels/comm/communicator.h"

namespace coterie {
namespace {

// Longer than any wait of ours: Gloo's own limit is never what ends one.
constexpr std::chrono::milliseconds kNever = std::chrono::hours(24);
static_assert(kMaxCommTimeout < absl::Hours(24));

}  // namespace

GlooWaiter::GlooWaiter() : thread_([this] { EndTurns(); }) {}

GlooWaiter::~GlooWaiter() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
    changed_.SignalAll();
  }
  thread_.join();
}

void GlooWaiter::EndTurns() {
  MutexLock lock(&mutex_);
  while (!stopping_) {
    changed_.WaitFor(&mutex_, kAbortSlice);
    if (waited_for_ == nullptr) continue;
    waited_for_->abortWaitRecv();
    waited_for_->abortWaitSend();
  }
}

void GlooWaiter::WaitFor(gloo::transport::UnboundBuffer* buffer) {
  MutexLock lock(&mutex_);
  waited_for_ = buffer;
}

GlooWaiter::Outcome GlooWaiter::Received(gloo::transport::UnboundBuffer* buffer) {
  Outcome outcome = Outcome::kBroken;
  WaitFor(buffer);
  try {
    outcome = buffer->waitRecv(kNever) ? Outcome::kDone : Outcome::kNotYet;
  } catch (const std::exception&) {
    // What the exception says is Gloo's view of a socket; who is lost is said by the caller.
  }
  WaitFor(nullptr);
  return outcome;
}

GlooWaiter::Outcome GlooWaiter::Sent(gloo::transport::UnboundBuffer* buffer) {
  Outcome outcome = Outcome::kBroken;
  WaitFor(buffer);
  try {
    outcome = buffer->waitSend(kNever) ? Outcome::kDone : Outcome::kNotYet;
  } catch (const std::exception&) {
    // As above.
  }
  WaitFor(nullptr);
  return outcome;
}

bool GlooWaiter::Broken(gloo::transport::UnboundBuffer* buffer) {
  buffer->abortWaitRecv();
  try {
    buffer->waitRecv(kNever);
    return false;
  } catch (const std::exception&) {
    return true;
  }
}

}  // namespace coterie
#endif
