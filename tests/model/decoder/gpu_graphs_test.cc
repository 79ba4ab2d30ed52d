// Steps of decode that are graphs give the bits of steps that are none: for every number of rows, whatever
// was there when the graph was captured.
#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "tests/model/decoder/gpu_decoder.h"
#include "tests/testing/seed.h"
#ifdef COTERIE_EMULATED_GPU
#include "tests/gpu/emulation/control.h"

namespace coterie {
namespace {

using testing::GpuDecoder;
using testing::LoadGpuDecoder;
using testing::TestSequence;
using Bits = std::vector<uint32_t>;

constexpr int kMostGraphRows = 64;
constexpr int kGraphSequences = kMostGraphRows + 2;

// What adapters the rows of a step have.
enum class AdapterMix { kNone, kOne, kFive };
constexpr AdapterMix kMixes[] = {AdapterMix::kOne, AdapterMix::kFive, AdapterMix::kNone};

class GpuGraphsTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    with_ = new GpuDecoder(LoadGpuDecoder(kGraphSequences).value());
    without_ = new GpuDecoder(LoadGpuDecoder(kGraphSequences, /*graphs=*/false).value());
  }
  static void TearDownTestSuite() {
    delete with_;
    delete without_;
  }
  void SetUp() override {
    random_.seed(testing::TestSeed());
    for (int s = 0; s < kGraphSequences; ++s) {
      prompts_.emplace_back(s % 8 == 0 ? 18 : 6);
      for (int32_t& token : prompts_.back()) token = Int(0, 383);
      first_blocks_.push_back(2 * s);
    }
  }
  int Int(int lo, int hi) { return std::uniform_int_distribution<int>(lo, hi)(random_); }

  // Sequence `s` under its adapters, without its last token. Each mix has blocks of its own.
  TestSequence Sequence(int s, AdapterMix mix) const {
    TestSequence sequence;
    sequence.tokens = prompts_[static_cast<size_t>(s)];
    sequence.UseBlocks(2 * kGraphSequences * static_cast<int>(mix) + first_blocks_[static_cast<size_t>(s)],
                       static_cast<int>(sequence.tokens.size()));
    if (mix == AdapterMix::kOne) sequence.adapter_slots = {0};
    if (mix == AdapterMix::kFive && s % 6 < 5) sequence.adapter_slots = {s % 6};
    if (mix == AdapterMix::kFive && s % 6 == 3) sequence.adapter_slots.push_back((s + 2) % 5);
    sequence.weights.assign(sequence.adapter_slots.size(), 0.75f);
    return sequence;
  }

  // All but the last token of the first `n` sequences, in both models.
  void Prefill(AdapterMix mix, int n) {
    for (GpuDecoder* gpu : {with_, without_}) {
      for (int first = 0; first < n; first += 22) {
        std::vector<TestSequence> some;
        for (int s = first; s < std::min(n, first + 22); ++s) {
          some.push_back(Sequence(s, mix));
          some.back().tokens.pop_back();
        }
        std::vector<TestSequence*> pointers;
        for (TestSequence& s : some) pointers.push_back(&s);
        ASSERT_TRUE(testing::LastLogits(gpu, pointers, 0).ok());
      }
    }
    alone_[static_cast<size_t>(mix)].assign(static_cast<size_t>(n), {});
  }

  // The last token of these sequences, in one step. Their keys and values are written once more, as they are.
  StatusOr<Bits> Decode(GpuDecoder* gpu, const std::vector<int>& sequences, AdapterMix mix) const {
    std::vector<TestSequence> some;
    for (const int s : sequences) {
      some.push_back(Sequence(s, mix));
      some.back().n_done = static_cast<int>(some.back().tokens.size()) - 1;
    }
    std::vector<TestSequence*> pointers;
    for (TestSequence& s : some) pointers.push_back(&s);
    return testing::LastLogits(gpu, pointers, 1);
  }

  const Bits& Alone(int s, AdapterMix mix) {
    Bits& bits = alone_[static_cast<size_t>(mix)][static_cast<size_t>(s)];
    if (bits.empty()) bits = Decode(without_, {s}, mix).value();
    return bits;
  }

  // `n` of the first `of` sequences.
  std::vector<int> Some(int n, int of) {
    std::vector<int> all(static_cast<size_t>(of));
    std::iota(all.begin(), all.end(), 0);
    std::shuffle(all.begin(), all.end(), random_);
    all.resize(static_cast<size_t>(n));
    return all;
  }

  void ExpectSameBits(const std::vector<int>& sequences, AdapterMix mix, bool is_graph) {
    const uint64_t launches = emulation::CountsNow().graph_launches;
    const StatusOr<Bits> got = Decode(with_, sequences, mix);
    ASSERT_TRUE(got.ok()) << got.status();
    EXPECT_EQ(emulation::CountsNow().graph_launches - launches, is_graph ? 1u : 0u);
    const size_t vocab = got->size() / sequences.size();
    for (size_t i = 0; i < sequences.size(); ++i) {
      ASSERT_TRUE(std::equal(got->begin() + static_cast<std::ptrdiff_t>(i * vocab),
                             got->begin() + static_cast<std::ptrdiff_t>((i + 1) * vocab),
                             Alone(sequences[i], mix).begin()))
          << "row " << i << " of " << sequences.size() << ", adapters " << static_cast<int>(mix);
    }
  }

  static GpuDecoder *with_, *without_;
  std::mt19937 random_;
  std::vector<std::vector<int32_t>> prompts_;
  std::vector<int> first_blocks_;
  std::vector<Bits> alone_[3];
};
GpuDecoder *GpuGraphsTest::with_ = nullptr, *GpuGraphsTest::without_ = nullptr;

// All sizes of graphs, with the numbers of rows around each, in any order: so each is replayed for fewer rows
// than it was captured with, and for more. Each is captured for one adapter and serves five.
TEST_F(GpuGraphsTest, EveryNumberOfRowsHasTheBitsOfASequenceAlone) {
  std::vector<int> numbers = {1, 2, 3, 4, 5, 6, 7};
  for (int size = 8; size <= kMostGraphRows; size += 8) {
    numbers.insert(numbers.end(), {size, size + 1, size + Int(2, 7)});
  }
  std::erase_if(numbers, [](int n) { return n > kMostGraphRows; });
  std::shuffle(numbers.begin(), numbers.end(), random_);
  for (const AdapterMix mix : kMixes) Prefill(mix, kGraphSequences);
  for (const int rows : numbers) {
    for (const AdapterMix mix : kMixes) {
      ExpectSameBits(Some(rows, kGraphSequences), mix, true);
      if (HasFatalFailure()) return;
    }
  }
  ExpectSameBits(Some(kMostGraphRows + 1, kGraphSequences), AdapterMix::kFive, false);
}

// The slots' memory moves, and what stands in them changes, between two replays.
TEST_F(GpuGraphsTest, AGraphServesSlotsThatWereFilledAnew) {
  constexpr int kUsed = 20;
  for (int round = 0; round < 3; ++round) {
    Prefill(AdapterMix::kFive, kUsed);
    for (const int rows : {2, 9, 17}) ExpectSameBits(Some(rows, kUsed), AdapterMix::kFive, true);
    if (HasFatalFailure()) return;
    std::vector<int> order(with_->adapters.size());
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), random_);
    for (GpuDecoder* gpu : {with_, without_}) {
      for (size_t slot = 0; slot < order.size(); ++slot) gpu->slots().Clear(static_cast<int>(slot));
      for (size_t slot = 0; slot < order.size(); ++slot) {
        testing::FillAndWait(&gpu->slots(), static_cast<int>(slot),
                             gpu->adapters[static_cast<size_t>(order[slot])]->packed);
      }
    }
  }
}

TEST_F(GpuGraphsTest, AGraphServesOtherBlocks) {
  constexpr int kUsed = 20;
  for (int round = 0; round < 3; ++round) {
    std::shuffle(first_blocks_.begin(), first_blocks_.end(), random_);
    Prefill(AdapterMix::kFive, kUsed);
    for (const int rows : {2, 9, 17}) ExpectSameBits(Some(rows, kUsed), AdapterMix::kFive, true);
    if (HasFatalFailure()) return;
  }
}

// Tokens and log-probabilities of steps some of whose rows are mixtures of two.
TEST_F(GpuGraphsTest, MixturesOfDistributionsAreDrawnAlikeWithAndWithoutGraphs) {
  constexpr int kUsed = 14;
  Prefill(AdapterMix::kFive, kUsed);
  const auto draw = [&](GpuDecoder* gpu, const std::vector<int>& sequences, size_t n_mixed) {
    std::vector<TestSequence> some;
    for (const int s : sequences) some.push_back(Sequence(s, AdapterMix::kFive));
    Batch batch;
    batch.Clear();
    for (TestSequence& s : some) {
      s.n_done = static_cast<int>(s.tokens.size()) - 1;
      testing::AddToBatch(&s, 1, testing::LogitRows::kLast, &batch);
    }
    batch.sampling.assign(some.size(), {});
    for (size_t row = 0; row < some.size(); ++row) {
      RowSampling& sampling = batch.sampling[row];
      sampling.seed = 1000 + static_cast<uint64_t>(sequences[row]);
      sampling.temperature = 1;
      sampling.n_logprobs = 3;
      if (row >= n_mixed) continue;
      sampling.mix_rows = row % 2 == 0 ? 2 : 1;
      sampling.mix_weight = row % 2 == 0 ? 0.75f : 0.25f;
    }
    const StatusOr<StepTicket> ticket = gpu->decoder->Launch(batch);
    EXPECT_TRUE(ticket.ok()) << ticket.status();
    const StatusOr<StepResult> result = gpu->decoder->Collect(*ticket);
    EXPECT_TRUE(result.ok()) << result.status();
    std::vector<uint32_t> drawn(result->tokens.begin(), result->tokens.end());
    for (const TokenLogprob& token : result->logprobs) {
      drawn.push_back(static_cast<uint32_t>(token.token));
      drawn.push_back(std::bit_cast<uint32_t>(token.logprob));
    }
    return drawn;
  };
  for (const int rows : {2, 7, 12}) {
    for (const size_t n_mixed : {size_t{0}, size_t{2}, static_cast<size_t>(rows / 2 * 2)}) {
      const std::vector<int> sequences = Some(rows, kUsed);
      const uint64_t launches = emulation::CountsNow().graph_launches;
      EXPECT_EQ(draw(with_, sequences, n_mixed), draw(without_, sequences, n_mixed))
          << rows << ' ' << n_mixed;
      EXPECT_EQ(emulation::CountsNow().graph_launches - launches, 1u);
    }
  }
}

}  // namespace
}  // namespace coterie
#endif  // COTERIE_EMULATED_GPU
