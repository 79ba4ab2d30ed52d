// Paged attention, against float64 over the same rounded queries, keys and values.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <vector>

#include "dropped_barriers.h"
#include "kernels/cuda/device_code.h"
#include "kernels/cuda/ops.h"
#include "paged_step.h"

namespace coterie::cuda {
namespace {

constexpr uint16_t kUnwritten = 0xFFFF;  // what fresh device memory holds: NaN
constexpr uint16_t kNan = 0x7FFF;

class CudaAttentionTest : public PagedStepTest {
 protected:
  // Sequences whose every token has its query, key and value from the start; steps write keys and values up
  // to their last token into the blocks, and leave the slots behind it unwritten.
  void MakeCache(const std::vector<int>& lengths, int head_dim, int n_kv_heads, int group) {
    MakeSequences(lengths);
    kv_ = {nullptr, Between(1, 2), n_blocks_, n_kv_heads, head_dim};
    layer_ = kv_.n_layers - 1;
    group_ = group;
    scale_ = 1 / std::sqrt(static_cast<float>(head_dim)) * (1 + 0.5f * Normal() * Normal());
    q_.clear();
    k_.clear();
    v_.clear();
    for (const int length : lengths) {
      const auto n = static_cast<size_t>(length * n_kv_heads * head_dim);
      q_.push_back(Normals(n * static_cast<size_t>(group)));
      k_.push_back(Rounded(n));
      v_.push_back(Rounded(n));
    }
    kv_.blocks = DeviceOf<uint16_t>(KvValues());
    AttentionScratch& scratch = scratch_;
    scratch.partial = DeviceOf<float>(AttentionScratchFloats(n_kv_heads, head_dim, kProcessors));
    scratch.progress = Device(std::vector<uint32_t>(static_cast<size_t>(kAttentionCounters * n_kv_heads), 0));
  }
  size_t KvValues() const { return static_cast<size_t>(KvHeadOffset(kv_, kv_.n_layers, 0, 0, 0)); }
  std::vector<uint16_t> Rounded(size_t n) {
    std::vector<uint16_t> values(n);
    for (uint16_t& value : values) value = FloatToBf16(Normal());
    return values;
  }
  int n_heads() const { return kv_.n_kv_heads * group_; }
  // Of a token, in k_ or v_.
  size_t KeyAt(int position, int kv_head) const {
    return static_cast<size_t>((position * kv_.n_kv_heads + kv_head) * kv_.head_dim);
  }

  // The operand of the step, [n_tokens, n_heads, head_dim]. The number of processors decides which tiles are
  // split. `tile_vectors` 0: as the step wants it.
  std::vector<uint16_t> Attend(const std::vector<StepPart>& parts, int window = 0, int n_processors = 4,
                               int tile_vectors = 0) {
    std::vector<uint16_t> blocks(KvValues(), kUnwritten);
    std::vector<float> qkv;
    const auto d = static_cast<size_t>(kv_.head_dim);
    for (const StepPart& part : parts) {
      const auto s = static_cast<size_t>(part.sequence);
      for (int position = 0; position < part.end; ++position) {
        for (int h = 0; h < kv_.n_kv_heads; ++h) {
          for (int what = 0; what < 2; ++what) {
            const auto to =
                static_cast<size_t>(KvHeadOffset(kv_, layer_, BlockOf(part.sequence, position), what, h)) +
                static_cast<size_t>(position % kKvBlockTokens) * d;
            std::copy_n((what == 0 ? k_ : v_)[s].data() + KeyAt(position, h), d, blocks.data() + to);
          }
        }
      }
      for (int position = part.begin; position < part.end; ++position) {
        const auto q = q_[s].begin() + static_cast<std::ptrdiff_t>(position) * n_heads() * kv_.head_dim;
        qkv.insert(qkv.end(), q, q + n_heads() * kv_.head_dim);
        qkv.insert(qkv.end(), 2 * static_cast<size_t>(kv_.n_kv_heads) * d,
                   NAN);  // K and V are read from blocks
      }
    }
    const bool decode =
        std::all_of(parts.begin(), parts.end(), [](const StepPart& p) { return p.end == p.begin + 1; });
    if (tile_vectors == 0) tile_vectors = AttentionTileVectorsFor(decode, group_);
    const StepData step = MakeStep(parts, group_, kv_.n_kv_heads, tile_vectors, n_processors);
    Write(kv_.blocks, blocks);
    size_t n_tokens = 0;
    for (const StepPart& part : parts) n_tokens += static_cast<size_t>(part.end - part.begin);
    const size_t n = n_tokens * static_cast<size_t>(n_heads()) * d;
    auto* const operand = DeviceOf<uint16_t>(n);
    const float* const device_qkv = Device(qkv);
    const uint64_t before = emulation::CountsNow().streamed_bytes;
    PagedAttention(step, tile_vectors, layer_, n_heads(), scale_, window, device_qkv, kv_, scratch_, operand,
                   kProcessors, stream_);
    const std::vector<uint16_t> got = Host(operand, n);
    streamed_bytes_ = emulation::CountsNow().streamed_bytes - before;
    const auto n_counters = static_cast<size_t>(kAttentionCounters * kv_.n_kv_heads);
    EXPECT_EQ(Host(scratch_.progress, n_counters), std::vector<uint32_t>(n_counters, 0));
    return got;
  }

  // What query head `head` of a token attends to, by float64.
  std::vector<double> Expected(int sequence, int position, int head, int window) const {
    const auto s = static_cast<size_t>(sequence);
    const int d = kv_.head_dim, kv_head = head / group_;
    const float* const q = q_[s].data() + static_cast<size_t>((position * n_heads() + head) * d);
    const int first = window > 0 ? std::max(0, position - window + 1) : 0;
    std::vector<double> scores;
    double max = -std::numeric_limits<double>::infinity(), sum = 0;
    for (int key = first; key <= position; ++key) {
      double score = 0;
      for (int i = 0; i < d; ++i) {
        score += static_cast<double>(Bf16ToFloat(FloatToBf16(q[i]))) *
                 Bf16ToFloat(k_[s][KeyAt(key, kv_head) + static_cast<size_t>(i)]);
      }
      scores.push_back(score * scale_);
      max = std::max(max, scores.back());
    }
    std::vector<double> out(static_cast<size_t>(d));
    for (int key = first; key <= position; ++key) {
      const double weight = std::exp(scores[static_cast<size_t>(key - first)] - max);
      sum += weight;
      for (int i = 0; i < d; ++i) {
        out[static_cast<size_t>(i)] +=
            weight * Bf16ToFloat(v_[s][KeyAt(key, kv_head) + static_cast<size_t>(i)]);
      }
    }
    for (double& value : out) value /= sum;
    return out;
  }

  // Compares some tokens of a step, the first and the last of each part among them.
  void ExpectNear(const std::vector<uint16_t>& got, const std::vector<StepPart>& parts, int window) {
    double error = 0;
    size_t n = 0, row = 0;
    for (const StepPart& part : parts) {
      const int n_tokens = part.end - part.begin;
      for (const int t : std::set<int>{0, Between(0, n_tokens - 1), Between(0, n_tokens - 1), n_tokens - 1}) {
        const int head = Between(0, n_heads() - 1);
        const std::vector<double> want = Expected(part.sequence, part.begin + t, head, window);
        const size_t at =
            ((row + static_cast<size_t>(t)) * static_cast<size_t>(n_heads()) + static_cast<size_t>(head)) *
            static_cast<size_t>(kv_.head_dim);
        for (size_t i = 0; i < want.size(); ++i, ++n) {
          const double difference = std::fabs(Bf16ToFloat(got[at + i]) - want[i]);
          // Weights and results have the 8 bits of bfloat16.
          EXPECT_LE(difference, 0.01 + 0.01 * std::fabs(want[i]))
              << "sequence " << part.sequence << " token " << part.begin + t << " head " << head << " dim "
              << i;
          error += difference;
        }
      }
      row += static_cast<size_t>(n_tokens);
    }
    EXPECT_LE(error / static_cast<double>(n), 2e-3);
  }
  std::vector<uint16_t> Rows(const std::vector<uint16_t>& operand, int begin, int end) const {
    const std::ptrdiff_t width = n_heads() * kv_.head_dim;
    return {operand.begin() + begin * width, operand.begin() + end * width};
  }

  static constexpr int kProcessors = 4;
  KvLayout kv_;
  AttentionScratch scratch_;
  int layer_ = 0, group_ = 0;
  float scale_ = 0;
  std::vector<std::vector<float>> q_;         // by sequence, [tokens, n_heads, head_dim]
  std::vector<std::vector<uint16_t>> k_, v_;  // by sequence, [tokens, n_kv_heads, head_dim]
  uint64_t streamed_bytes_ = 0;               // by the last step
};
COTERIE_IN_ALL_ORDERS(CudaAttentionTest);

TEST_P(CudaAttentionTest, PromptsAgreeWithFloat64) {
  for (const int head_dim : {16, 32, 64, 80, 96, 128, 256}) {
    const int group = OneOf<int>({1, 2, 3, 4, 5, 7, 8, 12, 17, 24, 40, 64, 71});
    MakeCache({Between(1, 90), Between(1, 40), Between(500, 700), 16}, head_dim, Between(1, 2), group);
    // A prompt, a chunk in the middle, one that begins late, and a token alone.
    const int long_end = lengths_[2], n = std::max(1, 30 / group);
    const std::vector<StepPart> parts = {
        {0, 0, lengths_[0]}, {1, lengths_[1] / 2, lengths_[1]}, {2, long_end - n, long_end}, {3, 15, 16}};
    const int window = OneOf<int>({0, 0, 1, Between(2, 100), 600});
    SCOPED_TRACE("head_dim " + std::to_string(head_dim) + ", group " + std::to_string(group) + ", window " +
                 std::to_string(window));
    ExpectNear(Attend(parts, window, OneOf<int>({0, 4, 400})), parts, window);
  }
}

TEST_P(CudaAttentionTest, DecodeAgreesWithFloat64) {
  for (const int head_dim : {16, 32, 64, 80, 96, 128, 256}) {
    const int group = OneOf<int>({1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 64});
    std::vector<int> lengths = {1, 16, 17, 512, 513, Between(1, 600), Between(1000, 3000)};
    MakeCache(lengths, head_dim, Between(1, 2), group);
    std::vector<StepPart> parts;
    for (int s = 0; s < static_cast<int>(lengths.size()); ++s) {
      parts.push_back({s, lengths[static_cast<size_t>(s)] - 1, lengths[static_cast<size_t>(s)]});
    }
    std::shuffle(parts.begin(), parts.end(), random_);
    const int window = OneOf<int>({0, 0, 1, Between(2, 100), 600});
    SCOPED_TRACE("head_dim " + std::to_string(head_dim) + ", group " + std::to_string(group) + ", window " +
                 std::to_string(window));
    ExpectNear(Attend(parts, window, OneOf<int>({0, 4, 400})), parts, window);
  }
}

// As a prompt whole, in chunks and token by token; alone and in a crowd; split over blocks and not.
TEST_P(CudaAttentionTest, ATokensBitsDependOnItsSequenceAlone) {
  const int group = OneOf<int>({1, 2, 3, 4, 6, 7});
  const int length = Between(1030, 1150), begin = 490;
  MakeCache({length, 70, 600}, OneOf<int>({16, 32, 64, 80, 96, 128, 256}), 1, group);
  const int window = OneOf<int>({0, Between(1, 40), 513});
  SCOPED_TRACE("head_dim " + std::to_string(kv_.head_dim) + ", group " + std::to_string(group) + ", window " +
               std::to_string(window));
  const int end = begin + 60;  // over the edge between two splits
  const std::vector<uint16_t> whole = Attend({{0, begin, end}}, window, 0);
  EXPECT_EQ(Attend({{0, begin, end}}, window, 400), whole) << "split over blocks";
  EXPECT_EQ(Rows(Attend({{1, 3, 70}, {0, begin, end}, {2, 599, 600}}, window), 67, 127), whole)
      << "in a crowd";
  for (int at = begin; at < end;) {
    const int next = std::min(end, at + Between(1, 25));
    EXPECT_EQ(Attend({{0, at, next}}, window, OneOf<int>({0, 400})), Rows(whole, at - begin, next - begin))
        << "a chunk";
    at = next;
  }
  // Beside any tokens those around the edge of a tile of keys.
  std::set<int> alone = {509, 510, 511, 512, 513};
  for (int i = 0; i < 5; ++i) alone.insert(Between(begin + 10, end - 1));
  for (const int t : alone) {
    EXPECT_EQ(Attend({{0, t, t + 1}}, window, OneOf<int>({0, 400})), Rows(whole, t - begin, t - begin + 1))
        << "decode";
    EXPECT_EQ(Rows(Attend({{2, 599, 600}, {0, t, t + 1}, {1, 0, 1}}, window), 1, 2),
              Rows(whole, t - begin, t - begin + 1))
        << "decode in a crowd";
  }
  const int last = length - 1;  // over three splits
  const std::vector<uint16_t> late = Rows(Attend({{0, last - 20, length}}, window, 0), 20, 21);
  EXPECT_EQ(Attend({{0, last, length}}, window, 0), late);
  EXPECT_EQ(Attend({{0, last, length}}, window, 400), late);
  EXPECT_EQ(Rows(Attend({{0, last - 20, length}}, window, 400), 20, 21), late);
}

// To the last bit of what splits leave in scratch memory: results in bfloat16 would hide most differences.
TEST_P(CudaAttentionTest, DecodesKernelComputesTheFloatsOfPrefills) {
  for (const int head_dim : {64, 80, 96, 128, 256}) {
    MakeCache({Between(1100, 1300)}, head_dim, 2, Between(1, 16));
    const size_t n = AttentionScratchFloats(kv_.n_kv_heads, head_dim, 0);
    const auto floats_of = [&](int tile_vectors) {
      Write(scratch_.partial, std::vector<float>(n, 1e9f));
      Attend({{0, lengths_[0] - 1, lengths_[0]}}, 0, 400, tile_vectors);
      return Host(scratch_.partial, n);
    };
    const std::vector<float> prefill = floats_of(kAttentionTileVectors);
    EXPECT_TRUE(floats_of(kAttentionDecodeTileVectors) == prefill);
    EXPECT_EQ(std::count_if(prefill.begin(), prefill.end(), [](float v) { return v != 1e9f; }),
              3 * 2 * group_ * (head_dim + 2))
        << "three splits, with the maximum and sum of each";
  }
}

// Weights are all 1 here, and values so far apart that any other order loses the small ones.
TEST_P(CudaAttentionTest, SplitsAreFoldedInTheirOrder) {
  const int length = 4 * kAttentionSplit;
  MakeCache({length}, OneOf<int>({64, 128, 256}), 1, 2);
  std::fill(q_[0].begin(), q_[0].end(), 0.0f);
  std::fill(v_[0].begin(), v_[0].end(), uint16_t{0});
  const float of_split[] = {0x1p40f, -0x1p40f, 2048, 4096};
  for (int split = 0; split < 4; ++split) {
    for (int i = 0; i < kv_.head_dim; ++i) {
      const int key = split * kAttentionSplit + Between(0, kAttentionSplit - 1);
      v_[0][KeyAt(key, 0) + static_cast<size_t>(i)] = FloatToBf16(of_split[split]);
    }
  }
  const auto n = static_cast<size_t>(2 * kv_.head_dim);
  const std::vector<uint16_t> want(n, FloatToBf16((2048 + 4096) / static_cast<float>(length)));
  for (const int tile_vectors : {kAttentionTileVectors, kAttentionDecodeTileVectors}) {
    for (const int n_processors : {0, 400}) {
      EXPECT_EQ(Attend({{0, length - 1, length}}, 0, n_processors, tile_vectors), want)
          << tile_vectors << ' ' << n_processors;
    }
  }
}

// A key of NaN (its value is 0 then: rope_kv.cu) reaches the later tokens of its sequence that attend it, and
// nobody else by a bit.
TEST_P(CudaAttentionTest, NanReachesThoseWhoAttendItAndNobodyElse) {
  MakeCache({100, 100}, OneOf<int>({16, 32, 64, 80, 96, 128, 256}), 2, Between(1, 5));
  const int window = OneOf<int>({0, 30});
  const std::vector<StepPart> parts = {{0, 0, 100}, {1, 0, 100}};
  const std::vector<uint16_t> good = Attend(parts, window);
  const int bad = Between(5, 60);
  std::fill_n(k_[0].begin() + static_cast<std::ptrdiff_t>(KeyAt(bad, 0)), kv_.head_dim, kNan);
  std::fill_n(v_[0].begin() + static_cast<std::ptrdiff_t>(KeyAt(bad, 0)), kv_.head_dim, uint16_t{0});
  std::vector<uint16_t> want = good;
  const auto width = static_cast<size_t>(n_heads() * kv_.head_dim);
  for (int t = bad; t < (window > 0 ? std::min(100, bad + window) : 100); ++t) {
    std::fill_n(want.begin() + static_cast<std::ptrdiff_t>(static_cast<size_t>(t) * width),
                group_ * kv_.head_dim, kNan);
  }
  EXPECT_EQ(Attend(parts, window), want);
  for (const int t : {bad - 1, bad, 99}) {
    EXPECT_EQ(Attend({{0, t, t + 1}, {1, t, t + 1}}, window, 400), [&] {
      std::vector<uint16_t> rows = Rows(want, t, t + 1);
      const std::vector<uint16_t> other = Rows(want, 100 + t, 100 + t + 1);
      rows.insert(rows.end(), other.begin(), other.end());
      return rows;
    }()) << t;
  }
  // Queries of NaN are their own affair.
  q_[1][3 * width] = NAN;
  const std::vector<uint16_t> got = Attend(parts, window);
  for (size_t i = 0; i < got.size(); ++i) {
    const bool in_query = i >= 103 * width && i < 103 * width + static_cast<size_t>(kv_.head_dim);
    EXPECT_EQ(got[i], in_query ? kNan : want[i]) << i;
  }
}

// Scores so far apart that weights underflow, at the first and at the last key.
TEST_P(CudaAttentionTest, LargeScoresGiveTheValueOfTheirKey) {
  MakeCache({600}, OneOf<int>({64, 128, 256}), 1, 2);
  for (const int key : {0, 300, 599}) {
    for (int i = 0; i < kv_.head_dim; ++i) {
      const auto at = KeyAt(key, 0) + static_cast<size_t>(i);
      const bool high = q_[0][static_cast<size_t>(599 * 2 * kv_.head_dim + i)] > 0;
      k_[0][at] = FloatToBf16(high ? 1e4f : -1e4f);
    }
    scale_ = 1;
    const std::vector<uint16_t> got = Attend({{0, 599, 600}}, 0, 400);
    for (int i = 0; i < kv_.head_dim; ++i) {
      EXPECT_EQ(got[static_cast<size_t>(i)], v_[0][KeyAt(key, 0) + static_cast<size_t>(i)])
          << key << ' ' << i;
    }
    std::fill_n(k_[0].begin() + static_cast<std::ptrdiff_t>(KeyAt(key, 0)), kv_.head_dim, uint16_t{0});
  }
}

// Decode is bound by these bytes: each key and value once for all query heads that share it, and none beside.
TEST_P(CudaAttentionTest, DecodeReadsEveryKeyAndValueOnce) {
  if (!emulation::kIsEmulated) GTEST_SKIP() << "a real device counts no bytes";
  const int head_dim = OneOf<int>({16, 32, 64, 80, 96, 128, 256}), n_kv_heads = Between(1, 3);
  MakeCache({Between(1, 100), Between(500, 1200)}, head_dim, n_kv_heads, Between(1, 16));
  const std::vector<StepPart> parts = {{0, lengths_[0] - 1, lengths_[0]}, {1, lengths_[1] - 1, lengths_[1]}};
  const auto bytes_of = [&](int n_keys) {
    return static_cast<uint64_t>(n_keys) * n_kv_heads * head_dim * 2 * 2;
  };
  for (const int n_processors : {0, 400}) {
    Attend(parts, 0, n_processors);
    EXPECT_EQ(streamed_bytes_, bytes_of(lengths_[0] + lengths_[1]));
    Attend(parts, 20, n_processors);
    EXPECT_EQ(streamed_bytes_, bytes_of(std::min(20, lengths_[0]) + 20));
  }
}

// Every barrier of the kernels is needed, that before a block counts itself among those which are done, too.
TEST_P(CudaAttentionTest, EachBarrierIsMissed) {
  if (GetParam() != emulation::Order::kRandom) GTEST_SKIP() << "it goes through all orders by itself";
  MakeCache({2600, 2100}, 32, 2, 4);  // more splits than there are blocks
  const size_t n = AttentionScratchFloats(kv_.n_kv_heads, kv_.head_dim, 0);
  const auto run = [&](const std::vector<StepPart>& parts) {
    Write(scratch_.partial, std::vector<float>(n, NAN));
    return Attend(parts, 0, 400);
  };
  // That before the next item is not: a block has counted itself before, behind a barrier.
  ExpectEachBarrierIsMissed([&] { return run({{0, 2599, 2600}, {1, 2099, 2100}}); }, 10, 1);
  ExpectEachBarrierIsMissed([&] { return run({{0, 2590, 2600}, {1, 2095, 2100}}); }, 10, 1);
}

TEST_P(CudaAttentionTest, ContextsOf131072Tokens) {
  if (GetParam() != emulation::Order::kRandom) GTEST_SKIP() << "one order is enough for so many keys";
  constexpr int kContext = 131072;
  MakeCache({kContext}, 64, 1, 2);
  const std::vector<StepPart> parts = {{0, kContext - 1, kContext}};
  const std::vector<uint16_t> got = Attend(parts, 0, 400);
  ExpectNear(got, parts, 0);
  ExpectNear(Attend(parts, 700, 400), parts, 700);
  const std::vector<StepPart> chunk = {{0, kContext - 3, kContext}};
  EXPECT_EQ(Rows(Attend(chunk, 0, 0), 2, 3), got);
}

}  // namespace
}  // namespace coterie::cuda
