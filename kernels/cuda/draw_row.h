#ifndef COTERIE_KERNELS_CUDA_DRAW_ROW_H_
#define COTERIE_KERNELS_CUDA_DRAW_ROW_H_

#include <bit>
#include <cstdint>

#include "common/philox.h"
#include "common/token_logprob.h"
#include "kernels/cuda/sampler_steps.h"
#include "kernels/cuda/select.h"

// How a row's token is drawn and what is reported of it. First all chunks of the row add up what they hold,
// each in its block, by class of distance where candidates have to be sorted; then one block goes on with
// the sums.
namespace coterie::cuda {

// A row as it is drawn from, or as it is reported.
struct DrawnRow {
  const float* logits;  // [vocab_size]
  float top;            // the largest of them
  float temperature;
  int vocab_size;

  __device__ float Weight(float logit) const { return WeightOf(top, logit, temperature); }
  __device__ uint64_t Mass(float logit) const { return DeviceMassOf(Weight(logit)); }
};

// Tokens fall into classes of about equal distance, nearest first, eight for each doubling: the order of
// floats of one sign is that of their bits. The first class begins at 0, the last ends at kNoMassFrom.
constexpr int kClassShift = 20;
constexpr int kFirstClass = (0x42000000 >> kClassShift) - kSampleBins;  // 0x42000000: 32.0f
static_assert(kNoMassFrom == 32.0f);

__device__ inline int ClassOfDistance(float distance) {
  const int number = static_cast<int>(BitsOfFloat(distance) >> kClassShift) - kFirstClass;
  return number < 0 ? 0 : number < kSampleBins ? number : kSampleBins - 1;
}
// The largest difference of logits whose distance is below the end of a class: gathering then takes no
// division.
__device__ inline float LargestDifference(int number, float temperature) {
  const float end = FloatOfBits(static_cast<uint32_t>(kFirstClass + number + 1) << kClassShift);
  float difference = end * temperature;
  while (difference / temperature >= end) difference = FloatOfBits(BitsOfFloat(difference) - 1);
  for (;;) {
    const float next = FloatOfBits(BitsOfFloat(difference) + 1);
    if (!(next / temperature < end)) return difference;
    difference = next;
  }
}

// Writes the bins of one chunk to `out` [kSampleBins].
__device__ inline void StoreBins(const Bins& bins, uint64_t* out) {
  BlockBarrier();
  for (int bin = Thread(); bin < kSampleBins; bin += NumThreads()) out[bin] = bins.Sum(bin);
}

// --- Things to select among ---
// Sums that stand side by side: of classes, of chunks.
struct ListedSums {
  const uint64_t* sums;
  __device__ uint64_t Key(int i) const { return static_cast<uint64_t>(i); }
  __device__ uint64_t Measure(int i) const { return sums[i]; }
};
// Tokens from `first` on, in order of id, with their mass under min-p.
struct TokensById {
  DrawnRow row;
  int first;
  float min_p;
  __device__ uint64_t Key(int i) const { return static_cast<uint64_t>(i); }
  __device__ uint64_t Measure(int i) const {
    const float weight = row.Weight(row.logits[first + i]);
    return weight >= min_p ? DeviceMassOf(weight) : 0;
  }
};
// Listed tokens, most probable first and equal ones by id, each counted as one or with its mass.
struct ListedTokens {
  DrawnRow row;
  const uint32_t* ids;
  int id_bits;
  bool by_mass;
  __device__ uint64_t KeyOf(float logit, uint32_t id) const {
    return static_cast<uint64_t>(OrderOf(row.top) - OrderOf(logit)) << id_bits | id;
  }
  __device__ uint64_t Key(int i) const { return KeyOf(row.logits[ids[i]], ids[i]); }
  __device__ uint64_t Measure(int i) const { return by_mass ? row.Mass(row.logits[ids[i]]) : 1; }
  __device__ uint32_t IdOf(uint64_t key) const { return static_cast<uint32_t>(key) & ((1u << id_bits) - 1); }
  __device__ ListedTokens By(bool mass) const {
    ListedTokens other = *this;
    other.by_mass = mass;
    return other;
  }
};

// Lists the tokens that are at most `difference` below the top. How many; the same in every thread.
__device__ inline int GatherTokens(const DrawnRow& row, float difference, uint32_t* list,
                                   const DrawMemory& memory) {
  if (Thread() == 0) *memory.n_found = 0;
  BlockBarrier();
  // One block reads the whole row: many loads have to be under way. Threads ask for places a few tokens at a
  // time, since most have none.
  ForTokens<8>(row.logits, 0, row.vocab_size, [&](int id, float logit) {
    if (row.top - logit <= difference) list[AtomicAdd(memory.n_found, 1)] = static_cast<uint32_t>(id);
  });
  BlockBarrier();
  const auto n = static_cast<int>(*memory.n_found);
  BlockBarrier();
  return n;
}

// --- By every chunk ---
// Adds up what drawing from the row needs of this chunk.
__device__ inline void AddUpToDraw(const RowSpec& spec, const DrawnRow& row, const Chunk& chunk,
                                   const SamplerScratch& scratch, const DrawMemory& memory) {
  if (!spec.sorts(row.vocab_size)) {
    uint64_t sum = 0;
    ForTokens<2>(row.logits, chunk.begin, chunk.end, [&](int, float logit) {
      const float weight = row.Weight(logit);
      sum += weight >= spec.min_p ? DeviceMassOf(weight) : 0;
    });
    sum = BlockReduce(sum, memory.reduce, Plus());
    if (Thread() == 0) *chunk.At(scratch.sums, kToDraw) = sum;
    return;
  }
  const bool by_mass = !spec.cuts_k(row.vocab_size);
  memory.bins.Clear();
  BlockBarrier();
  ForTokens<2>(row.logits, chunk.begin, chunk.end, [&](int, float logit) {
    const float distance = DistanceBelow(row.top, logit, row.temperature);
    if (distance >= kNoMassFrom) return;  // it is never drawn, and counts for nothing that is
    const uint64_t measure = by_mass ? DeviceMassOf(ExpOfNegative<float, int32_t>(distance)) : 1;
    if (measure > 0) memory.bins.Add(ClassOfDistance(distance), measure);
  });
  StoreBins(memory.bins, chunk.BinsAt(scratch.bins, 0));
}

// The same for what is reported.
__device__ inline void AddUpToReport(const RowSpec& spec, const DrawnRow& row, const Chunk& chunk,
                                     const SamplerScratch& scratch, const DrawMemory& memory) {
  uint64_t sum = 0;
  if (spec.n_best > 0) {
    BlockBarrier();
    memory.bins.Clear();
    BlockBarrier();
    ForTokens<2>(row.logits, chunk.begin, chunk.end, [&](int, float logit) {
      const float distance = row.top - logit;
      sum += DeviceMassOf(ExpOfNegative<float, int32_t>(distance));
      memory.bins.Add(ClassOfDistance(distance), 1);
    });
    StoreBins(memory.bins, chunk.BinsAt(scratch.bins, 1));
  } else {
    ForTokens<2>(row.logits, chunk.begin, chunk.end, [&](int, float logit) { sum += row.Mass(logit); });
  }
  sum = BlockReduce(sum, memory.reduce, Plus());
  if (Thread() == 0) *chunk.At(scratch.sums, kToReport) = sum;
}

// --- By one block of the row ---
// Adds up the classes of all chunks, `bins` [n_chunks, kSampleBins]. Returns the sum of all.
__device__ inline uint64_t AddUpClasses(const uint64_t* bins, int n_chunks, const DrawMemory& memory) {
  BlockBarrier();  // those of before were read
  uint64_t total = 0;
  for (int i = Thread(); i < kSampleBins; i += NumThreads()) {
    uint64_t sum = 0;
#pragma unroll 8
    for (int chunk = 0; chunk < n_chunks; ++chunk) sum += bins[chunk * kSampleBins + i];
    memory.classes[i] = sum;
    total += sum;
  }
  return BlockReduce(total, memory.reduce, Plus());
}

// Draws among tokens in order of id.
__device__ inline int DrawById(const RowSpec& spec, const DrawnRow& row, const Chunk& chunk,
                               const SamplerScratch& scratch, const DrawMemory& memory) {
  const uint64_t total = chunk.SumOfRow(scratch.sums, kToDraw);
  const uint64_t threshold = DrawTarget(PhiloxBits(spec.seed, spec.position), total) + 1;
  const ListedSums chunks{chunk.FirstAt(scratch.sums, kToDraw)};
  const Selected found = Select(chunks, chunk.n_chunks, threshold, memory);
  const int first = static_cast<int>(found.key) * scratch.shape.chunk_tokens;
  const int rest = row.vocab_size - first;
  const int n = rest < scratch.shape.chunk_tokens ? rest : scratch.shape.chunk_tokens;
  const TokensById tokens{row, first, spec.min_p};
  return first + static_cast<int>(Select(tokens, n, threshold - found.before, memory).key);
}

// Draws among the most probable tokens.
__device__ inline int DrawSorted(const RowSpec& spec, const DrawnRow& row, const Chunk& chunk,
                                 const SamplerScratch& scratch, const DrawMemory& memory) {
  const bool cuts_k = spec.cuts_k(row.vocab_size);
  // Tokens within kNoMassFrom, or their mass.
  uint64_t total = AddUpClasses(chunk.BinsOfRowAt(scratch.bins, 0), chunk.n_chunks, memory);
  const uint64_t wanted = cuts_k ? spec.top_k : NucleusMass(spec.top_p, total);
  const int last_class =
      total <= wanted ? kSampleBins - 1
                      : static_cast<int>(Select(ListedSums{memory.classes}, kSampleBins, wanted, memory).key);
  uint32_t* const list = scratch.lists + chunk.row * static_cast<int64_t>(row.vocab_size);
  const int n = GatherTokens(row, LargestDifference(last_class, row.temperature), list, memory);
  const int id_bits = std::bit_width(static_cast<uint32_t>(row.vocab_size - 1));
  const ListedTokens tokens{row, list, id_bits, true};

  uint64_t last = UINT64_MAX;  // key of the last token that is kept
  const auto mass_of = [&](auto&& kept) {
    uint64_t sum = 0;
    for (int i = Thread(); i < n; i += NumThreads()) sum += kept(tokens.Key(i)) ? tokens.Measure(i) : 0;
    return BlockReduce(sum, memory.reduce, Plus());
  };
  if (cuts_k && static_cast<uint32_t>(n) > spec.top_k) {
    last = Select(tokens.By(false), n, spec.top_k, memory).key;
  }
  if (spec.top_p < 1.0f) {
    if (cuts_k) total = mass_of([&](uint64_t key) { return key <= last; });
    // Before `last`, or it: the nucleus is no more than the total.
    last = Select(tokens, n, NucleusMass(spec.top_p, total), memory).key;
  }
  uint64_t end = UINT64_MAX;  // the first key that min-p cuts off
  if (spec.min_p > 0.0f) {
    for (int i = Thread(); i < n; i += NumThreads()) {
      if (row.Weight(row.logits[list[i]]) < spec.min_p) end = Smaller()(end, tokens.Key(i));
    }
    end = BlockReduce(end, memory.reduce, Smaller());
  }
  const uint64_t kept = mass_of([&](uint64_t key) { return key <= last && key < end; });
  const uint64_t threshold = DrawTarget(PhiloxBits(spec.seed, spec.position), kept) + 1;
  return static_cast<int>(tokens.IdOf(Select(tokens, n, threshold, memory).key));
}

// Writes the log-probabilities of `token` and of the n_best most probable tokens to `out` [1 + n_best].
__device__ inline void Report(const RowSpec& spec, const DrawnRow& row, int token, const Chunk& chunk,
                              const SamplerScratch& scratch, const DrawMemory& memory, TokenLogprob* out) {
  const double log_sum = LogOf(WeightOfMass(chunk.SumOfRow(scratch.sums, kToReport)));
  const auto logprob = [&](int id) {
    const float distance = row.top - row.logits[id];
    return static_cast<float>(-static_cast<double>(distance) - log_sum);
  };
  if (Thread() == 0) out[0] = {token, logprob(token)};
  if (spec.n_best <= 0) return;
  const auto n_best = static_cast<uint64_t>(spec.n_best);
  AddUpClasses(chunk.BinsOfRowAt(scratch.bins, 1), chunk.n_chunks, memory);
  const ListedSums classes{memory.classes};
  const int last_class = static_cast<int>(Select(classes, kSampleBins, n_best, memory).key);
  uint32_t* const list = scratch.lists + chunk.row * static_cast<int64_t>(row.vocab_size);
  const float difference = last_class == kSampleBins - 1 ? INFINITY : LargestDifference(last_class, 1.0f);
  const int n = GatherTokens(row, difference, list, memory);
  const int id_bits = std::bit_width(static_cast<uint32_t>(row.vocab_size - 1));
  const ListedTokens tokens{row, list, id_bits, false};
  const uint64_t last = Select(tokens, n, n_best, memory).key;
  BlockBarrier();
  if (Thread() == 0) *memory.n_found = 0;
  BlockBarrier();
  for (int i = Thread(); i < n; i += NumThreads()) {
    const uint64_t key = tokens.Key(i);
    if (key <= last) memory.keys[AtomicAdd(memory.n_found, 1)] = key;
  }
  BlockBarrier();
  for (int i = Thread(); i < spec.n_best; i += NumThreads()) {
    int rank = 0;
    for (int other = 0; other < spec.n_best; ++other) rank += memory.keys[other] < memory.keys[i] ? 1 : 0;
    const auto id = static_cast<int>(tokens.IdOf(memory.keys[i]));
    out[1 + rank] = {id, logprob(id)};
  }
}

}  // namespace coterie::cuda

#endif  // COTERIE_KERNELS_CUDA_DRAW_ROW_H_
