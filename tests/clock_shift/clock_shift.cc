// The wall clock of a process as if somebody set it: preloaded, this adds a shift to every look at the wall
// clock, and makes waits until a point on it end when the shifted clock gets there, as the kernel does when
// the real clock is set. The shift (nanoseconds, one int64) stands in the file that COTERIE_CLOCK_SHIFT
// names, mapped, so that a test moves it while the process runs. The monotonic clock is left alone.
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>

namespace {

constexpr int64_t kSecond = 1'000'000'000;
// A wait is cut into pieces this long, between which the shift is looked at again.
constexpr int64_t kSlice = 10'000'000;

std::atomic<int64_t>* MapShift() {
  static std::atomic<int64_t> none{0};
  const char* const path = getenv("COTERIE_CLOCK_SHIFT");
  if (path == nullptr) return &none;
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) abort();
  void* const page = mmap(nullptr, sizeof(int64_t), PROT_READ, MAP_SHARED, fd, 0);
  close(fd);
  if (page == MAP_FAILED) abort();
  return static_cast<std::atomic<int64_t>*>(page);
}

int64_t Shift() {
  static std::atomic<int64_t>* const shift = MapShift();
  return shift->load(std::memory_order_relaxed);
}

template <typename F>
F* Real(F*, const char* name) {
  return reinterpret_cast<F*>(dlsym(RTLD_NEXT, name));
}
#define REAL(name)                                                                  \
  [] {                                                                              \
    static auto* const real = Real(static_cast<decltype(&::name)>(nullptr), #name); \
    return real;                                                                    \
  }()

int64_t ToNanoseconds(const timespec& time) { return time.tv_sec * kSecond + time.tv_nsec; }
timespec FromNanoseconds(int64_t ns) { return {ns / kSecond, ns % kSecond}; }

bool IsWall(clockid_t clock) { return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE; }

int64_t Now(clockid_t clock) {
  timespec now{};
  clock_gettime(clock, &now);
  return ToNanoseconds(now);
}

// How long a piece of the wait until `deadline` may be; at most 0 when the wait is over.
int64_t Piece(const timespec& deadline) {
  const int64_t left = ToNanoseconds(deadline) - Now(CLOCK_REALTIME);
  return left < kSlice ? left : kSlice;
}

timespec OnMonotonic(int64_t from_now) { return FromNanoseconds(Now(CLOCK_MONOTONIC) + from_now); }

}  // namespace

extern "C" {

int clock_gettime(clockid_t clock, timespec* time) noexcept {
  const int result = REAL(clock_gettime)(clock, time);
  if (result == 0 && IsWall(clock)) *time = FromNanoseconds(ToNanoseconds(*time) + Shift());
  return result;
}

int gettimeofday(timeval* time, void*) noexcept {
  const timespec now = FromNanoseconds(Now(CLOCK_REALTIME));
  *time = {now.tv_sec, now.tv_nsec / 1000};
  return 0;
}

time_t time(time_t* out) noexcept {
  const time_t now = Now(CLOCK_REALTIME) / kSecond;
  if (out != nullptr) *out = now;
  return now;
}

// A piece that ends without a signal is a spurious wake-up, after which the caller looks at its condition.
int pthread_cond_clockwait(pthread_cond_t* condition, pthread_mutex_t* mutex, clockid_t clock,
                           const timespec* until) {
  if (!IsWall(clock)) return REAL(pthread_cond_clockwait)(condition, mutex, clock, until);
  const int64_t piece = Piece(*until);
  const timespec end = OnMonotonic(piece > 0 ? piece : 0);
  const int result = REAL(pthread_cond_clockwait)(condition, mutex, CLOCK_MONOTONIC, &end);
  return result == ETIMEDOUT && piece > 0 ? 0 : result;
}

int pthread_cond_timedwait(pthread_cond_t* condition, pthread_mutex_t* mutex, const timespec* until) {
  // A condition variable may have been made for the monotonic clock; its points are far smaller.
  if (until->tv_sec < 1'000'000'000) return REAL(pthread_cond_timedwait)(condition, mutex, until);
  return pthread_cond_clockwait(condition, mutex, CLOCK_REALTIME, until);
}

int sem_timedwait(sem_t* semaphore, const timespec* until) {
  for (;;) {
    const int64_t piece = Piece(*until);
    const timespec end = OnMonotonic(piece > 0 ? piece : 0);
    const int result = sem_clockwait(semaphore, CLOCK_MONOTONIC, &end);
    if (result == 0 || errno != ETIMEDOUT || piece <= 0) return result;
  }
}

// Abseil's waits are futexes until a point on the wall clock.
long syscall(long number, ...) noexcept {
  va_list list;
  va_start(list, number);
  long a[6];
  for (long& value : a) value = va_arg(list, long);
  va_end(list);
  const auto real = REAL(syscall);
  constexpr long kWait = FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME;
  if (number != SYS_futex || (a[1] & ~FUTEX_PRIVATE_FLAG) != kWait || a[3] == 0) {
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
  }
  const auto* const until = reinterpret_cast<const timespec*>(a[3]);
  for (;;) {
    const int64_t piece = Piece(*until);
    const timespec end = OnMonotonic(piece > 0 ? piece : 0);
    const long result = real(number, a[0], a[1] & ~FUTEX_CLOCK_REALTIME, a[2], &end, a[4], a[5]);
    if (result == 0 || errno != ETIMEDOUT || piece <= 0) return result;
  }
}

}  // extern "C"
