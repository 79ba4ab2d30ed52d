#ifndef COTERIE_KERNELS_CUDA_SELECT_H_
#define COTERIE_KERNELS_CUDA_SELECT_H_

#include <cstdint>

#include "kernels/cuda/row_math.h"
#include "kernels/cuda/sampler.h"

// Finds, by all threads of a block, where a running sum over sorted things passes a threshold, without
// sorting them. Sums are of whole numbers, so nothing depends on who adds what.
namespace coterie::cuda {

// 64-bit sums in shared memory, kSampleBins of them. Each lane adds to a copy of its own, in a bank of its
// own: however many values share a bin, no lane waits for another of its warp. Two native 32-bit additions
// make one of 64: the carry of the lower half is seen by exactly one thread.
struct Bins {
  static constexpr int kWords = kSampleBins * kWarpLanes;
  uint32_t* low;   // [kSampleBins, kWarpLanes]
  uint32_t* high;  // [kSampleBins, kWarpLanes]

  // Barriers before the first Add and after the last are the caller's.
  __device__ void Clear() const {
    for (int i = Thread(); i < kWords; i += NumThreads()) low[i] = high[i] = 0;
  }
  __device__ void Add(int bin, uint64_t value) const {
    const int at = bin * kWarpLanes + LaneId();
    const auto value_low = static_cast<uint32_t>(value);
    const uint32_t old = AtomicAdd(low + at, value_low);
    const uint32_t rest = static_cast<uint32_t>(value >> 32) + (old + value_low < old ? 1u : 0u);
    if (rest > 0) AtomicAdd(high + at, rest);
  }
  __device__ uint64_t Sum(int bin) const {  // of all copies, each lane beginning with another one
    uint64_t sum = 0;
    for (int i = 0; i < kWarpLanes; ++i) {
      const int at = bin * kWarpLanes + (i + LaneId()) % kWarpLanes;
      sum += (static_cast<uint64_t>(high[at]) << 32) + low[at];
    }
    return sum;
  }
};

// Shared memory of a block that draws.
struct DrawMemory {
  uint64_t* reduce;    // [kWarpLanes]
  uint64_t* keys;      // [threads]
  uint64_t* measures;  // [threads]
  uint64_t* totals;    // [kSampleBins]
  uint64_t* classes;   // [kSampleBins]: of the row: AddUpClasses
  uint64_t* found;     // [2]
  uint32_t* n_found;   // [1]
  Bins bins;

  static constexpr size_t Bytes(int threads) {
    return sizeof(uint64_t) * (kWarpLanes + 2 * static_cast<size_t>(threads) + 2 * kSampleBins + 2 + 1) +
           2 * sizeof(uint32_t) * Bins::kWords;
  }
  __device__ static DrawMemory Make() {
    DrawMemory m;
    m.bins.low = SharedMemory<uint32_t>();
    m.bins.high = m.bins.low + Bins::kWords;
    m.reduce = reinterpret_cast<uint64_t*>(m.bins.high + Bins::kWords);
    m.keys = m.reduce + kWarpLanes;
    m.measures = m.keys + NumThreads();
    m.totals = m.measures + NumThreads();
    m.classes = m.totals + kSampleBins;
    m.found = m.classes + kSampleBins;
    m.n_found = reinterpret_cast<uint32_t*>(m.found + 2);
    return m;
  }
};

struct Selected {
  uint64_t key;
  uint64_t before;  // sum of what comes before it
};

// Keys [base, base + 2^width_bits), and the sum of what comes before them.
struct SearchRange {
  uint64_t base = 0;
  int width_bits = 63;  // of keys: all
  uint64_t before = 0;

  __device__ bool Has(uint64_t key) const { return (key - base) >> width_bits == 0; }
};

// The hundred-and-twenty-eighth of `range` in which the running sum reaches `threshold`.
template <class Source>
__device__ SearchRange Narrow(const Source& source, int n, uint64_t threshold, const SearchRange& range,
                              const DrawMemory& memory) {
  const int shift = range.width_bits > 7 ? range.width_bits - 7 : 0;
  memory.bins.Clear();
  BlockBarrier();
  for (int i = Thread(); i < n; i += NumThreads()) {
    const uint64_t key = source.Key(i);
    if (range.Has(key)) memory.bins.Add(static_cast<int>((key - range.base) >> shift), source.Measure(i));
  }
  BlockBarrier();
  for (int bin = Thread(); bin < kSampleBins; bin += NumThreads()) memory.totals[bin] = memory.bins.Sum(bin);
  BlockBarrier();
  uint64_t sum = range.before;
  int bin = 0;
  for (; sum + memory.totals[bin] < threshold; ++bin) sum += memory.totals[bin];
  return {range.base + (static_cast<uint64_t>(bin) << shift), shift, sum};
}

// How many keys are in `range`; they and their measures are in shared memory if those are no more than the
// block has threads.
template <class Source>
__device__ int Collect(const Source& source, int n, const SearchRange& range, const DrawMemory& memory) {
  BlockBarrier();  // what was collected before was read
  if (Thread() == 0) *memory.n_found = 0;
  BlockBarrier();
  for (int i = Thread(); i < n; i += NumThreads()) {
    const uint64_t key = source.Key(i);
    if (!range.Has(key)) continue;
    const uint32_t at = AtomicAdd(memory.n_found, 1);
    if (at >= static_cast<uint32_t>(NumThreads())) continue;
    memory.keys[at] = key;
    memory.measures[at] = source.Measure(i);
  }
  BlockBarrier();
  return static_cast<int>(*memory.n_found);
}

// Of `n` things with different keys below 2^63, source.Key(i), the first in order of keys up to which the
// sum of source.Measure(i) is `threshold` or more; the sum of all of them is. The same in every thread.
//
// Once no more of them are in question than the block has threads, each thread adds up what comes before one
// of them. Only long lists, of distributions that are nearly flat, are narrowed down to that first.
template <class Source>
__device__ Selected Select(const Source& source, int n, uint64_t threshold, const DrawMemory& memory) {
  SearchRange range;
  if (n > NumThreads()) {
    uint64_t largest = 0;
    for (int i = Thread(); i < n; i += NumThreads()) largest = Larger()(largest, source.Key(i));
    largest = BlockReduce(largest, memory.reduce, Larger());
    range.width_bits = 0;
    while (largest >> range.width_bits != 0) ++range.width_bits;
    range = Narrow(source, n, threshold, range, memory);
  }
  int n_found = Collect(source, n, range, memory);
  while (n_found > NumThreads()) {
    range = Narrow(source, n, threshold, range, memory);
    n_found = Collect(source, n, range, memory);
  }
  if (Thread() < n_found) {
    const uint64_t own = memory.keys[Thread()];
    uint64_t sum = range.before;  // up to it
    for (int i = 0; i < n_found; ++i) sum += memory.keys[i] <= own ? memory.measures[i] : 0;
    const uint64_t before = sum - memory.measures[Thread()];
    if (sum >= threshold && before < threshold) {
      memory.found[0] = own;
      memory.found[1] = before;
    }
  }
  BlockBarrier();
  return {memory.found[0], memory.found[1]};
}

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_SELECT_H_
