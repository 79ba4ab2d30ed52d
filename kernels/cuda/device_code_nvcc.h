#ifndef COTERIE_KERNELS_CUDA_DEVICE_CODE_NVCC_H_
#define COTERIE_KERNELS_CUDA_DEVICE_CODE_NVCC_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "kernels/formats/half.h"

// device_code.h for nvcc. PTX as the PTX ISA describes it; fragment layouts are those of its section on
// mma.m16n8k16: with g = lane / 4 and t = lane % 4,
//   A [16, 16]: a0 (g, 2t..), a1 (g + 8, 2t..), a2 (g, 2t + 8..), a3 (g + 8, 2t + 8..), two values a
//   register; B [16, 8]:  b0 (2t.., g), b1 (2t + 8.., g); D [16, 8]:  d0, d1 (g, 2t..), d2, d3 (g + 8, 2t..).

namespace coterie::cuda {

constexpr uint32_t kAllLanes = 0xFFFFFFFFu;

// Bits of a float, and bfloat16: on the host, too, for tests.
__host__ __device__ inline float FloatOfBits(uint32_t bits) {
#ifdef __CUDA_ARCH__
  return __uint_as_float(bits);
#else
  return BitsToFloat(bits);
#endif
}
__host__ __device__ inline uint32_t BitsOfFloat(float value) {
#ifdef __CUDA_ARCH__
  return __float_as_uint(value);
#else
  return FloatToBits(value);
#endif
}
__device__ inline float Fma(float a, float b, float c) { return __fmaf_rn(a, b, c); }
__device__ inline double Fma(double a, double b, double c) { return __fma_rn(a, b, c); }
// 2^x to 2 units in the last place; subnormal results are 0.
__device__ inline float Exp2(float x) {
  float value;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(value) : "f"(x));
  return value;
}

// --- Threads of a block ---
__device__ inline void BlockBarrier() { __syncthreads(); }
// Of `n_threads` threads (whole warps) that name the same barrier, 1 to 15.
__device__ inline void NamedBarrier(int id, int n_threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(n_threads) : "memory");
}
__device__ inline void WarpBarrier() { __syncwarp(); }

template <class T>
__device__ inline T ShuffleXor(T value, int mask) {
  return __shfl_xor_sync(kAllLanes, value, mask);
}
template <class T>
__device__ inline T Shuffle(T value, int lane) {
  return __shfl_sync(kAllLanes, value, lane);
}
template <class T>
__device__ inline T* Shuffle(T* value, int lane) {
  return reinterpret_cast<T*>(Shuffle(reinterpret_cast<unsigned long long>(value), lane));
}
template <class T>
__device__ inline T ShuffleUp(T value, int n) {  // lanes below n keep their own
  return __shfl_up_sync(kAllLanes, value, n);
}
template <class T>
__device__ inline T ShuffleDown(T value, int n) {  // the last n lanes keep their own
  return __shfl_down_sync(kAllLanes, value, n);
}
// Bytes of a (0 to 3) and b (4 to 7), chosen by the four lowest digits of `selector`, the lowest byte first.
__device__ inline uint32_t ChooseBytes(uint32_t a, uint32_t b, uint32_t selector) {
  return __byte_perm(a, b, selector);
}
__device__ inline uint32_t Ballot(bool vote) { return __ballot_sync(kAllLanes, vote); }

// --- Between blocks ---
__device__ inline uint32_t AtomicAdd(uint32_t* counter, uint32_t n) { return atomicAdd(counter, n); }
__device__ inline uint32_t AtomicMax(uint32_t* counter, uint32_t n) { return atomicMax(counter, n); }
__device__ inline void DeviceFence() { __threadfence(); }
__device__ inline uint32_t LoadAcquire(const uint32_t* counter) {
  uint32_t value;
  asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(value) : "l"(counter) : "memory");
  return value;
}
// Everything this thread wrote before is seen by who acquires the counter afterwards. Returns the old value.
__device__ inline uint32_t AddRelease(uint32_t* counter, uint32_t n) {
  uint32_t old;
  asm volatile("atom.add.acq_rel.gpu.global.u32 %0, [%1], %2;" : "=r"(old) : "l"(counter), "r"(n) : "memory");
  return old;
}
// Inside a loop that waits for another block.
__device__ inline void Pause() { __nanosleep(64); }

// --- Memory ---
template <class T>
__device__ inline T* SharedMemory() {  // the block's dynamic shared memory, aligned to 128 bytes
  extern __shared__ __align__(128) unsigned char shared_memory[];
  return reinterpret_cast<T*>(shared_memory);
}
__device__ inline uint32_t SharedAddress(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}
// Loads of what is read once, past the first cache: weights. T is 4, 8 or 16 bytes.
__device__ inline uint32_t LoadStream(const uint32_t* from) {
  uint32_t v;
  asm volatile("ld.global.nc.L1::no_allocate.b32 %0, [%1];" : "=r"(v) : "l"(from));
  return v;
}
__device__ inline uint2 LoadStream(const uint2* from) {
  uint2 v;
  asm volatile("ld.global.nc.L1::no_allocate.v2.b32 {%0, %1}, [%2];" : "=r"(v.x), "=r"(v.y) : "l"(from));
  return v;
}
__device__ inline uint4 LoadStream(const uint4* from) {
  uint4 v;
  asm volatile("ld.global.nc.L1::no_allocate.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(from));
  return v;
}
// Starts to bring the line of `address` (128 bytes) to the second cache, and waits for nothing.
__device__ inline void PrefetchToSecondCache(const void* address) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
}
// Copies 16 bytes to shared memory, aligned to 16; there only after WaitCopies (for this thread) and a
// barrier (for others). Where `valid` is false, zeros.
__device__ inline void CopyAsync16(void* shared, const void* global, bool valid = true) {
  const int n_bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(SharedAddress(shared)), "l"(global),
               "r"(n_bytes)
               : "memory");
}
__device__ inline void CommitCopies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most the newest kLeft committed groups are still under way.
template <int kLeft>
__device__ inline void WaitCopies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
}

// --- Tensor cores ---
// d += a · b over bfloat16, sums in float32.
__device__ inline void MmaBf16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// Four 8 x 8 matrices of 16-bit values from shared memory: lane l gives the address of row l % 8 of matrix l
// / 8 (16 bytes, aligned) and gets of each matrix the values (l / 4, 2 (l % 4)..); kTranspose: (2 (l % 4)..,
// l / 4).
__device__ inline void LoadMatrices4(uint32_t (&r)[4], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(SharedAddress(shared_row))
               : "memory");
}
__device__ inline void LoadMatrices4Transposed(uint32_t (&r)[4], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(SharedAddress(shared_row))
               : "memory");
}

// --- Conversions, rounding to nearest even ---
__device__ inline uint64_t RoundToUint64(float value) { return __float2ull_rn(value); }  // value >= 0
__device__ inline uint32_t PackBf16(float low, float high) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}
// a · b + c of both bfloat16 of a register, for results that are exact.
__device__ inline uint32_t FmaBf16Pairs(uint32_t a, uint32_t b, uint32_t c) {
  uint32_t pair;
  asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(pair) : "r"(a), "r"(b), "r"(c));
  return pair;
}
__host__ __device__ inline uint16_t FloatToBf16(float value) {
#ifdef __CUDA_ARCH__
  return static_cast<uint16_t>(PackBf16(value, 0.0f));
#else
  return value != value ? 0x7FFF : coterie::FloatToBf16(value);  // NaN as the device gives it
#endif
}
__device__ inline float HalfToFloat(uint16_t bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}
__device__ inline uint16_t FloatToHalf(float value) {
  uint16_t bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_DEVICE_CODE_NVCC_H_
