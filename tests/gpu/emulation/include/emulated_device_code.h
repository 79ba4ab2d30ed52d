#ifndef COTERIE_TESTS_GPU_EMULATION_INCLUDE_EMULATED_DEVICE_CODE_H_
#define COTERIE_TESTS_GPU_EMULATION_INCLUDE_EMULATED_DEVICE_CODE_H_

#include <cuda_runtime.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <type_traits>

// The twins of kernels/cuda/device_code_nvcc.h: the same names and meaning, lane by lane, on a CPU.

namespace coterie::emulation {

// What the lanes of a warp compute together. Each lane brings words `in` and gets `n_out` of them back.
enum class WarpOp : int {
  kBarrier,
  kShuffle,
  kBallot,
  kMmaBf16,
  kLoadMatrices,
  kLoadMatricesTransposed,
};
void WarpTogether(WarpOp op, const uint32_t* in, uint32_t* out, int n_out);
void BarrierOfWarp();
void BarrierOfBlock(int id, int n_threads);  // n_threads 0: all
void PauseLane();
void CountPoll();  // of a counter: who polls without Pause() would wait for ever
// Other blocks may run here, before the lane goes on: it has fenced (null), or changes a counter.
void MeetBlocks(const void* counter);
// Whether the release, acquire or fence that asks is to order nothing: where the thread sanitizer must say
// so.
bool IsOrderDropped();
// What the thread sanitizer doesn't know of fences and relaxed atomics.
void FenceHere();
void AtomicHere(void* counter);
[[noreturn]] void MisalignedRow();
void* SharedMemoryOfBlock();
void CopyLater16(void* shared, const void* global, bool valid);
void CommitLaterCopies();
struct LaterCopy {
  void* to;
  const void* from;
  bool valid;  // else zeros
};
// The next of this lane's copies that has to land when at most `groups_left` groups may still be under way;
// false: none.
bool TakeLandedCopy(int groups_left, LaterCopy* copy);
void CountStreamedBytes(size_t bytes);

}  // namespace coterie::emulation

namespace coterie::cuda {

inline float FloatOfBits(uint32_t bits) { return std::bit_cast<float>(bits); }
inline uint32_t BitsOfFloat(float value) { return std::bit_cast<uint32_t>(value); }
inline float Fma(float a, float b, float c) { return std::fma(a, b, c); }
inline double Fma(double a, double b, double c) { return std::fma(a, b, c); }
inline float Exp2(float x) { return x < -126.0f ? 0.0f : std::exp2(x); }

// Always inline: where a barrier returns to is its place in the kernel (control.h: DropBarrier).
[[gnu::always_inline]] inline void BlockBarrier() { emulation::BarrierOfBlock(0, 0); }
[[gnu::always_inline]] inline void NamedBarrier(int id, int n_threads) {
  emulation::BarrierOfBlock(id, n_threads);
}
[[gnu::always_inline]] inline void WarpBarrier() { emulation::BarrierOfWarp(); }

// Words of a value: what a shuffle moves.
template <class T>
T ShuffleFrom(T value, int lane) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) % 4 == 0 && sizeof(T) <= 16);
  constexpr int kWords = sizeof(T) / 4;
  uint32_t in[kWords + 1];
  __builtin_memcpy(in + 1, &value, sizeof(T));
  in[0] = static_cast<uint32_t>(lane);
  uint32_t out[kWords];
  emulation::WarpTogether(emulation::WarpOp::kShuffle, in, out, kWords);
  __builtin_memcpy(&value, out, sizeof(T));
  return value;
}
template <class T>
T ShuffleXor(T value, int mask) {
  return ShuffleFrom(value, (static_cast<int>(threadIdx.x) % 32) ^ mask);
}
template <class T>
T Shuffle(T value, int lane) {
  return ShuffleFrom(value, lane % 32);
}
template <class T>
T ShuffleUp(T value, int n) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  return ShuffleFrom(value, lane < n ? lane : lane - n);
}
template <class T>
T ShuffleDown(T value, int n) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  return ShuffleFrom(value, lane + n > 31 ? lane : lane + n);
}
inline uint32_t ChooseBytes(uint32_t a, uint32_t b, uint32_t selector) {
  const uint64_t bytes = a | static_cast<uint64_t>(b) << 32;
  uint32_t chosen = 0;
  for (int i = 0; i < 4; ++i)
    chosen |= static_cast<uint32_t>(bytes >> 8 * (selector >> 4 * i & 7) & 0xFF) << 8 * i;
  return chosen;
}
inline uint32_t Ballot(bool vote) {
  const uint32_t in = vote ? 1 : 0;
  uint32_t out;
  emulation::WarpTogether(emulation::WarpOp::kBallot, &in, &out, 1);
  return out;
}

inline uint32_t AtomicAdd(uint32_t* counter, uint32_t n) {
#ifdef __SANITIZE_THREAD__
  emulation::AtomicHere(counter);
#endif
  emulation::MeetBlocks(counter);
  const uint32_t old = __atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
  emulation::MeetBlocks(counter);
  return old;
}
inline uint32_t AtomicMax(uint32_t* counter, uint32_t n) {
#ifdef __SANITIZE_THREAD__
  emulation::AtomicHere(counter);
#endif
  uint32_t old = __atomic_load_n(counter, __ATOMIC_RELAXED);
  while (old < n &&
         !__atomic_compare_exchange_n(counter, &old, n, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  emulation::MeetBlocks(counter);
  return old;
}
[[gnu::always_inline]] inline void DeviceFence() {
#ifdef __SANITIZE_THREAD__
  if (!emulation::IsOrderDropped()) emulation::FenceHere();
#else
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
  emulation::MeetBlocks(nullptr);
}
[[gnu::always_inline]] inline uint32_t LoadAcquire(const uint32_t* counter) {
  emulation::CountPoll();
#ifdef __SANITIZE_THREAD__
  if (emulation::IsOrderDropped()) return __atomic_load_n(counter, __ATOMIC_RELAXED);
#endif
  return __atomic_load_n(counter, __ATOMIC_ACQUIRE);
}
[[gnu::always_inline]] inline uint32_t AddRelease(uint32_t* counter, uint32_t n) {
  emulation::MeetBlocks(counter);
#ifdef __SANITIZE_THREAD__
  if (emulation::IsOrderDropped()) return __atomic_fetch_add(counter, n, __ATOMIC_RELAXED);
#endif
  const uint32_t old = __atomic_fetch_add(counter, n, __ATOMIC_ACQ_REL);
  emulation::MeetBlocks(counter);
  return old;
}
inline void Pause() { emulation::PauseLane(); }

template <class T>
T* SharedMemory() {
  return static_cast<T*>(emulation::SharedMemoryOfBlock());
}
template <class T>
T LoadStream(const T* from) {
  static_assert(sizeof(T) == 4 || sizeof(T) == 8 || sizeof(T) == 16);
  emulation::CountStreamedBytes(sizeof(T));
  return *from;
}
// Of memory that is there: the sanitizers watch.
inline void PrefetchToSecondCache(const void* address) {
  static_cast<void>(*static_cast<const volatile unsigned char*>(address));
}
// Lands at its wait. Until then nobody may read what it writes, nor write what it reads: both are touched
// here, too, where the sanitizers watch, and what it will overwrite is NaN from now on.
inline void CopyAsync16(void* shared, const void* global, bool valid = true) {
  emulation::CopyLater16(shared, global, valid);
  constexpr unsigned kUnset = 0xFFFFFFFFu;
  *static_cast<uint4*>(shared) = {kUnset, kUnset, kUnset, kUnset};
  if (valid) static_cast<void>(*static_cast<const volatile unsigned*>(global));
}
inline void CommitCopies() { emulation::CommitLaterCopies(); }
template <int kLeft>
void WaitCopies() {
  emulation::LaterCopy copy;
  while (emulation::TakeLandedCopy(kLeft, &copy)) {  // here, where the sanitizers watch
    *static_cast<uint4*>(copy.to) = copy.valid ? *static_cast<const uint4*>(copy.from) : uint4{0, 0, 0, 0};
  }
}

inline void MmaBf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  const uint32_t in[10] = {a[0],
                           a[1],
                           a[2],
                           a[3],
                           b[0],
                           b[1],
                           BitsOfFloat(d[0]),
                           BitsOfFloat(d[1]),
                           BitsOfFloat(d[2]),
                           BitsOfFloat(d[3])};
  uint32_t out[4];
  emulation::WarpTogether(emulation::WarpOp::kMmaBf16, in, out, 4);
  for (int i = 0; i < 4; ++i) d[i] = FloatOfBits(out[i]);
}
// Each lane reads its row here, where the sanitizers watch.
inline void LoadMatrixRow(emulation::WarpOp op, uint32_t (&r)[4], const void* shared_row) {
  if (reinterpret_cast<uintptr_t>(shared_row) % 16 != 0) emulation::MisalignedRow();
  const uint4 row = *static_cast<const uint4*>(shared_row);
  const uint32_t in[4] = {row.x, row.y, row.z, row.w};
  emulation::WarpTogether(op, in, r, 4);
}
inline void LoadMatrices4(uint32_t (&r)[4], const void* shared_row) {
  LoadMatrixRow(emulation::WarpOp::kLoadMatrices, r, shared_row);
}
inline void LoadMatrices4Transposed(uint32_t (&r)[4], const void* shared_row) {
  LoadMatrixRow(emulation::WarpOp::kLoadMatricesTransposed, r, shared_row);
}

inline uint64_t RoundToUint64(float value) { return static_cast<uint64_t>(std::nearbyint(value)); }
inline uint16_t FloatToBf16(float value) {
  const uint32_t bits = BitsOfFloat(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return 0x7FFF;  // NaN, as cvt gives it
  return static_cast<uint16_t>((bits + 0x7FFFu + (bits >> 16 & 1)) >> 16);
}
inline uint32_t PackBf16(float low, float high) {
  return FloatToBf16(low) | static_cast<uint32_t>(FloatToBf16(high)) << 16;
}
inline uint32_t FmaBf16Pairs(uint32_t a, uint32_t b, uint32_t c) {
  const auto one = [](uint32_t x, uint32_t y, uint32_t z) {
    return std::fma(FloatOfBits(x << 16), FloatOfBits(y << 16), FloatOfBits(z << 16));
  };
  return PackBf16(one(a, b, c), one(a >> 16, b >> 16, c >> 16));
}
inline float HalfToFloat(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = bits >> 10 & 31, mantissa = bits & 0x3FFu;
  if (exponent == 31) return FloatOfBits(sign | 0x7F800000u | mantissa << 13);
  if (exponent == 0) {
    const float value = std::ldexp(static_cast<float>(mantissa), -24);
    return sign != 0 ? -value : value;
  }
  return FloatOfBits(sign | (exponent + 112) << 23 | mantissa << 13);
}
inline uint16_t FloatToHalf(float value) {
  const uint32_t bits = BitsOfFloat(value);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000u);
  const float size = std::fabs(value);
  if (std::isnan(value)) return 0x7FFF;
  if (size >= 65520.0f) return sign | 0x7C00u;
  if (size == 0) return sign;
  int exponent;
  std::frexp(size, &exponent);
  const int unit = exponent - 11 > -24 ? exponent - 11 : -24;  // of the last bit that a half holds there
  const auto steps = static_cast<uint32_t>(std::nearbyint(std::ldexp(size, -unit)));
  // Steps of 2^-24 count up through subnormals, and then 1,024 more for every doubling.
  const uint32_t code = unit == -24 ? steps : steps - 1024 + (static_cast<uint32_t>(unit + 25) << 10);
  return static_cast<uint16_t>(sign | code);
}

}  // namespace coterie::cuda

#endif  // COTERIE_TESTS_GPU_EMULATION_INCLUDE_EMULATED_DEVICE_CODE_H_
