// Sampling on the device gives what the CPU gives: tokens, log-probabilities and counts, bit by bit.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <set>
#include <span>
#include <sstream>
#include <string>
#include <vector>

#include "control.h"
#include "kernels/cpu/step_sampler.h"
#include "kernels/cuda/sampler.h"
#include "kernels/cuda/step_sampling.h"
#include "tests/testing/seed.h"

namespace coterie::cuda {
namespace {

using emulation::Order;

constexpr SamplerShape kSmallShape = {.chunk_tokens = 192, .chunk_threads = 64, .finish_threads = 64};

// Both samplers, side by side.
class SamplerPair {
 public:
  SamplerPair(int vocab_size, int max_rows, int n_seats, const SamplerShape& shape)
      : vocab_size_(vocab_size), cpu_(vocab_size, n_seats) {
    limits_.max_seqs = limits_.max_logit_rows = max_rows;
    limits_.vocab_size = vocab_size;
    EXPECT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
    sampling_ = std::make_unique<StepSampling>(*StepSampling::Create(limits_));
    const auto rows = static_cast<size_t>(max_rows);
    data_host_ = *PinnedMemory::Allocate(StepSampling::DataBytes(limits_), "");
    data_ = *DeviceMemory::Allocate(StepSampling::DataBytes(limits_), "");
    counts_ = *DeviceMemory::Allocate(TokenCountsBytes(n_seats, vocab_size), "");
    // One token further on than a row would begin by itself, so that no row is aligned.
    logits_ = *DeviceMemory::Allocate((rows * static_cast<size_t>(vocab_size) + 1) * sizeof(float), "");
    scratch_memory_ = *DeviceMemory::Allocate(SamplerScratchBytes(max_rows, vocab_size, shape), "");
    scratch_ = MakeSamplerScratch(scratch_memory_.data(), max_rows, vocab_size, shape);
    tokens_ = *DeviceMemory::Allocate(rows * sizeof(int32_t), "");
    logprobs_ = *DeviceMemory::Allocate(StepSampling::MaxLogprobs(limits_) * sizeof(TokenLogprob), "");
  }
  ~SamplerPair() {
    if (graph_ != nullptr) {
      EXPECT_EQ(cudaGraphExecDestroy(graph_), cudaSuccess);
    }
    EXPECT_EQ(cudaStreamDestroy(stream_), cudaSuccess);
  }

  // Samples the batch's rows on both, and compares. `grid_rows`: for how many rows the grid is made.
  void Compare(const Batch& batch, const std::vector<float>& logits, int grid_rows) {
    ASSERT_EQ(logits.size(), batch.sampling.size() * static_cast<size_t>(vocab_size_));
    float* const on_device = logits_.As<float>() + vocab_size_ % 2;
    if (!logits.empty()) {
      ASSERT_TRUE(CopyToDevice(on_device, logits.data(), logits.size() * sizeof(float), "logits").ok());
    }
    const size_t bytes = sampling_->LayOut(batch, data_host_.data());
    ASSERT_EQ(cudaMemcpyAsync(data_.data(), data_host_.data(), bytes, cudaMemcpyHostToDevice, stream_),
              cudaSuccess);
    ASSERT_TRUE(sampling_->EnqueueResets(batch, counts_.As<uint32_t>(), stream_).ok());
    const SamplingData data = {data_.As<SamplingHeader>(), vocab_size_, counts_.As<uint32_t>()};
    if (graph_ != nullptr) {
      ASSERT_EQ(cudaGraphLaunch(graph_, stream_), cudaSuccess);
    } else {
      SampleRows(data, on_device, grid_rows, sampling_->mixtures(), scratch_, tokens_.As<int32_t>(),
                 logprobs_.As<TokenLogprob>(), stream_);
    }
    ASSERT_TRUE(
        sampling_->EnqueueCopies(tokens_.As<int32_t>(), logprobs_.As<TokenLogprob>(), on_device, stream_)
            .ok());
    ASSERT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    ASSERT_EQ(cudaGetLastError(), cudaSuccess);
    const StepResult got = sampling_->Result();

    cpu_.Begin(batch, &expected_);
    const auto vocab_size = static_cast<size_t>(vocab_size_);
    for (size_t row = 0; row < batch.sampling.size(); ++row) {
      cpu_.TakeRow(std::span(logits).subspan(row * vocab_size, vocab_size));
    }
    ASSERT_EQ(got.tokens.size(), expected_.tokens.size());
    for (size_t row = 0; row < got.tokens.size(); ++row) {
      ASSERT_EQ(got.tokens[row], expected_.tokens[row]) << "row " << row << Describe(batch.sampling[row]);
    }
    ASSERT_EQ(got.logprobs.size(), expected_.logprobs.size());
    for (size_t i = 0; i < got.logprobs.size(); ++i) {
      const TokenLogprob &a = got.logprobs[i], &b = expected_.logprobs[i];
      ASSERT_EQ(a.token, b.token) << "log-probability " << i;
      ASSERT_TRUE(std::memcmp(&a.logprob, &b.logprob, sizeof(float)) == 0 ||
                  (std::isnan(a.logprob) && std::isnan(b.logprob)))
          << "log-probability " << i << ": " << a.logprob << " instead of " << b.logprob;
    }
    ASSERT_EQ(got.logits.size(), expected_.logits.size());
    ASSERT_TRUE(got.logits.empty() ||
                std::memcmp(got.logits.data(), expected_.logits.data(), got.logits.size_bytes()) == 0);
  }

  // From now on a graph samples, captured for so many rows.
  void Capture(int grid_rows) {
    const SamplingData data = {data_.As<SamplingHeader>(), vocab_size_, counts_.As<uint32_t>()};
    cudaGraph_t graph;
    ASSERT_EQ(cudaStreamBeginCapture(stream_, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    SampleRows(data, logits_.As<float>() + vocab_size_ % 2, grid_rows, /*mixtures=*/true, scratch_,
               tokens_.As<int32_t>(), logprobs_.As<TokenLogprob>(), stream_);
    ASSERT_EQ(cudaStreamEndCapture(stream_, &graph), cudaSuccess);
    ASSERT_EQ(cudaGraphInstantiate(&graph_, graph), cudaSuccess);
    ASSERT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  }

  std::vector<uint32_t> CountsOf(int seat) const {
    std::vector<uint32_t> counts(static_cast<size_t>(vocab_size_));
    EXPECT_EQ(cudaMemcpy(counts.data(), counts_.As<uint32_t>() + seat * vocab_size_,
                         counts.size() * sizeof(uint32_t), cudaMemcpyDeviceToHost),
              cudaSuccess);
    return counts;
  }

 private:
  static std::string Describe(const RowSampling& row) {
    std::ostringstream text;
    text << ": temperature " << row.temperature << " top_k " << row.top_k << " top_p " << row.top_p
         << " min_p " << row.min_p << " mask " << row.mask << " biases " << row.bias_end - row.bias_begin
         << " penalties " << row.has_penalties() << " mix " << row.mix_rows << " x " << row.mix_weight
         << " score " << row.score_token << " logprobs " << row.n_logprobs;
    return text.str();
  }

  const int vocab_size_;
  StepLimits limits_;
  cudaStream_t stream_ = nullptr;
  cudaGraphExec_t graph_ = nullptr;
  std::unique_ptr<StepSampling> sampling_;
  PinnedMemory data_host_;
  DeviceMemory data_, counts_, logits_, scratch_memory_, tokens_, logprobs_;
  SamplerScratch scratch_;
  cpu::StepSampler cpu_;
  cpu::StepOutput expected_;
};

// Draws steps of all kinds of rows.
class RandomSteps {
 public:
  RandomSteps(uint32_t seed, int vocab_size, int n_seats)
      : random_(seed), vocab_size_(vocab_size), reset_(static_cast<size_t>(n_seats), false) {}

  int Int(int low, int high) { return std::uniform_int_distribution<int>(low, high)(random_); }
  bool Chance(double p) { return std::bernoulli_distribution(p)(random_); }
  float Uniform(float low, float high) { return std::uniform_real_distribution<float>(low, high)(random_); }
  int32_t Token() { return Int(0, vocab_size_ - 1); }

  std::vector<float> Row() {
    std::vector<float> row(static_cast<size_t>(vocab_size_));
    std::normal_distribution<float> normal;
    const int kind = Int(0, 11);
    const float scale = std::exp(Uniform(-3.0f, 3.0f));
    for (float& logit : row) logit = scale * normal(random_);
    if (kind == 0) std::fill(row.begin(), row.end(), scale);  // all are equal
    if (kind == 1 || kind == 2)
      for (float& x : row) x = std::round(x);  // many are equal
    if (kind == 3)
      for (float& x : row) x *= 1e-6f;  // equally far from the top
    if (kind == 3) row[static_cast<size_t>(Token())] = 3;
    if (kind == 4)
      for (float& x : row) x = Chance(0.5) ? 0.0f : -0.0f;
    if (kind == 5)
      for (float& x : row) x = Chance(0.5) ? -0.0f : -std::fabs(x);
    if (kind == 6)
      for (float& x : row) x = Chance(0.3) ? -std::numeric_limits<float>::max() : x * 1e37f;
    if (kind == 7) {
      row[static_cast<size_t>(Token())] =
          std::vector<float>{NAN, INFINITY, -INFINITY, -NAN}[static_cast<size_t>(Int(0, 3))];
    }
    if (kind == 8)
      for (float& x : row) x = 1e-40f * normal(random_);  // subnormal
    return row;
  }

  RowSampling Sampling(Batch* batch) {
    RowSampling row;
    row.seed = random_();
    row.position = random_() % 1000 + (Chance(0.1) ? uint64_t{1} << 40 : 0);
    if (Chance(0.8)) {
      const float some[] = {0.05f, 0.7f, 1.0f, 1.3f, 10.0f, 100.0f, 1e-30f, Uniform(0.1f, 2.0f)};
      row.temperature = some[Int(0, 7)];
    }
    if (Chance(0.5)) {
      const int some[] = {1, 2, 3, 40, vocab_size_ - 1, vocab_size_, vocab_size_ + 7, Int(1, vocab_size_)};
      row.top_k = static_cast<uint32_t>(std::max(some[Int(0, 7)], 0));
    }
    if (Chance(0.5)) {
      const float some[] = {0.9f, 0.5f, 0.99f, 1e-6f, std::nextafter(1.0f, 0.0f), Uniform(0.01f, 1.0f)};
      row.top_p = some[Int(0, 5)];
    }
    if (Chance(0.3)) row.min_p = Chance(0.2) ? 1.0f : Uniform(0.0f, 0.5f) * Uniform(0.0f, 1.0f);
    if (Chance(0.3)) Bias(&row, batch);
    if (Chance(0.3)) Mask(&row, batch);
    if (Chance(0.3)) Penalise(&row, batch);
    if (Chance(0.5)) row.n_logprobs = Chance(0.5) ? 0 : Int(0, 20);
    if (vocab_size_ <= 20 && Chance(0.2)) row.n_logprobs = 1000;
    if (Chance(0.15)) row.score_token = Token();
    row.keep_logits = Chance(0.1);
    return row;
  }

  // A step of about `n` rows.
  void Step(int n, Batch* batch, std::vector<float>* logits) {
    batch->Clear();
    logits->clear();
    seats_.clear();
    while (static_cast<int>(batch->sampling.size()) < n) {
      RowSampling row = Sampling(batch);
      const int n_mixed = Chance(0.2) ? Int(2, 4) : 1;
      row.mix_rows = n_mixed;
      for (int i = 0; i < n_mixed; ++i) {
        if (i > 0) {
          row = RowSampling();
          row.keep_logits = Chance(0.1);
        }
        if (n_mixed > 1) row.mix_weight = Uniform(0.01f, 1.0f);
        batch->logit_rows.push_back(static_cast<int32_t>(batch->sampling.size()));
        batch->sampling.push_back(row);
        const std::vector<float> values = Row();
        logits->insert(logits->end(), values.begin(), values.end());
      }
    }
  }

 private:
  void Bias(RowSampling* row, Batch* batch) {
    row->bias_begin = static_cast<int32_t>(batch->biases.size());
    std::set<int32_t> tokens;
    for (int i = Int(0, 30); i >= 0; --i) tokens.insert(Token());
    std::vector<int32_t> mixed(tokens.begin(), tokens.end());
    std::shuffle(mixed.begin(), mixed.end(), random_);
    for (const int32_t token : mixed) batch->biases.push_back({token, Uniform(-100.0f, 100.0f)});
    row->bias_end = static_cast<int32_t>(batch->biases.size());
  }
  void Mask(RowSampling* row, Batch* batch) {
    const auto n_words = static_cast<size_t>(MaskWords(vocab_size_));
    row->mask = static_cast<int32_t>(batch->mask_words.size() / n_words);
    const double share = std::vector<double>{0.0, 0.02, 0.5, 1.0}[static_cast<size_t>(Int(0, 3))];
    std::vector<uint32_t> words(n_words);
    for (int token = 0; token < vocab_size_; ++token) {
      if (Chance(share)) words[static_cast<size_t>(token / 32)] |= 1u << (token % 32);
    }
    batch->mask_words.insert(batch->mask_words.end(), words.begin(), words.end());
  }
  void Penalise(RowSampling* row, Batch* batch) {
    const int seat = Int(0, static_cast<int>(reset_.size()) - 1);
    if (!seats_.insert(seat).second) return;  // a seat has one row in a step
    row->seat = seat;
    row->repetition_penalty = Chance(0.5) ? 1.0f : Uniform(0.5f, 2.0f);
    row->frequency_penalty = Chance(0.5) ? 0.0f : Uniform(-2.0f, 2.0f);
    row->presence_penalty = Chance(0.5) ? 0.0f : Uniform(-2.0f, 2.0f);
    const auto at = static_cast<size_t>(seat);
    for (int n = !reset_[at] || Chance(0.2) ? Int(1, 2) : 0; n > 0; --n) {  // the second of two decides
      const auto begin = static_cast<int32_t>(batch->counts_tokens.size());
      for (int i = Int(0, 60); i > 0; --i) batch->counts_tokens.push_back(Token());
      const auto end = static_cast<int32_t>(batch->counts_tokens.size());
      batch->counts_resets.push_back({seat, begin, Int(begin, end), end});
    }
    reset_[at] = true;
  }

  std::mt19937_64 random_;
  const int vocab_size_;
  std::vector<bool> reset_;  // [n_seats]
  std::set<int> seats_;      // of this step's rows
};

class CudaSamplerTest : public ::testing::TestWithParam<Order> {
 protected:
  void SetUp() override {
    emulation::TheSettings().order = GetParam();
    emulation::TheSettings().seed = testing::TestSeed();
  }
  void TearDown() override { emulation::TheSettings() = {}; }
};
INSTANTIATE_TEST_SUITE_P(Orders, CudaSamplerTest,
                         ::testing::Values(Order::kAscending, Order::kDescending, Order::kRandom));

void CompareSteps(uint32_t seed, int vocab_size, int n_steps, int rows, const SamplerShape& shape) {
  SCOPED_TRACE("vocabulary " + std::to_string(vocab_size));
  constexpr int kSeats = 5;
  SamplerPair pair(vocab_size, rows + 8, kSeats, shape);
  RandomSteps steps(seed, vocab_size, kSeats);
  Batch batch;
  std::vector<float> logits;
  for (int i = 0; i < n_steps && !::testing::Test::HasFatalFailure(); ++i) {
    SCOPED_TRACE("step " + std::to_string(i));
    steps.Step(steps.Int(0, rows), &batch, &logits);
    const int n = static_cast<int>(batch.sampling.size());
    pair.Compare(batch, logits, n + steps.Int(0, rows + 8 - n));
  }
}

TEST_P(CudaSamplerTest, TokensAndLogProbabilitiesAreTheCpus) {
  std::mt19937 random(testing::TestSeed());
  for (const int vocab_size : {1, 2, 3, 5, 17, 32, 33, 64, 191, 192, 193, 384}) {
    CompareSteps(random(), vocab_size, 12, 6, kSmallShape);
  }
  for (int i = 0; i < 12; ++i)
    CompareSteps(random(), static_cast<int>(random() % 5000 + 1), 6, 6, kSmallShape);
}

TEST_P(CudaSamplerTest, AsTheyAreInTheShapeThatIsServed) {
  std::mt19937 random(testing::TestSeed() + 1);
  CompareSteps(random(), 1000, 4, 6, {});
  CompareSteps(random(), 20001, 3, 4, {});
  CompareSteps(random(), 49152, 3, 4, {});
}

// Nothing of a launch depends on the rows, so that one captured graph serves whatever comes.
TEST_P(CudaSamplerTest, OneGraphServesStepsOfAllKinds) {
  constexpr int kVocab = 700, kSeats = 5;
  SamplerPair pair(kVocab, 12, kSeats, kSmallShape);
  RandomSteps steps(testing::TestSeed() + 2, kVocab, kSeats);
  pair.Capture(12);
  Batch batch;
  std::vector<float> logits;
  for (int i = 0; i < 40 && !HasFatalFailure(); ++i) {
    SCOPED_TRACE("step " + std::to_string(i));
    steps.Step(steps.Int(0, 8), &batch, &logits);
    pair.Compare(batch, logits, 0);
  }
}

TEST_P(CudaSamplerTest, CountsGrowTokenByToken) {
  constexpr int kVocab = 40;
  SamplerPair pair(kVocab, 3, 3, kSmallShape);
  cpu::TokenCounts expected(3, kVocab);
  const std::vector<int32_t> prompt = {3, 3, 9}, answer = {9, 7, 7};
  expected.Reset(2, prompt, answer);
  expected.Reset(0, {}, {});
  for (int32_t i = 0; i < 10; ++i) {
    Batch batch;
    if (i == 0) {
      batch.counts_tokens = {1, 1, 3, 3, 9, 9, 7, 7};
      batch.counts_resets = {{2, 0, 0, 2}, {0, 2, 2, 2}, {2, 2, 5, 8}};
    }
    std::vector<float> logits(kVocab * 3, 0.0f);
    for (int row = 0; row < 3; ++row) {
      batch.sampling.emplace_back();
      batch.logit_rows.push_back(row);
      logits[static_cast<size_t>(row * kVocab + 2 * row + i)] = 20;
    }
    batch.sampling[0].seat = 2;
    batch.sampling[1].seat = 0;
    batch.sampling[1].score_token = 5;  // nothing is chosen, nothing counted
    pair.Compare(batch, logits, 3);
    expected.Add(2, i);
    EXPECT_TRUE(std::ranges::equal(pair.CountsOf(2), expected.Of(2))) << i;
    EXPECT_TRUE(std::ranges::equal(pair.CountsOf(0), expected.Of(0))) << i;
  }
}

// Of more tokens than there was memory for at the start, and no more is to be had.
TEST_P(CudaSamplerTest, LongResetsGoThroughTheMemoryThereIs) {
  if (!emulation::kIsEmulated) GTEST_SKIP() << "a real device has memory enough";
  constexpr int kVocab = 40, kTokens = 150000;
  SamplerPair pair(kVocab, 2, 3, kSmallShape);
  std::mt19937 random(testing::TestSeed() + 4);
  std::uniform_int_distribution<int32_t> any(0, kVocab - 3);  // some occur nowhere
  Batch batch;
  for (int i = 0; i < kTokens; ++i) batch.counts_tokens.push_back(any(random));
  const int middle = std::uniform_int_distribution<int>(70000, 100000)(random);
  batch.counts_resets = {{2, 0, middle, kTokens}, {0, 5, 40, 90}, {1, 7, 7, 7}};
  batch.logit_rows = {0};
  batch.sampling.resize(1);
  emulation::FailAllocationAfter(0, emulation::kForEver);
  pair.Compare(batch, std::vector<float>(kVocab), 1);
  emulation::ForgetFailures();
  cpu::TokenCounts expected(3, kVocab);
  const std::span<const int32_t> tokens = batch.counts_tokens;
  for (const CountsReset& reset : batch.counts_resets) {
    const auto of = [&](int begin, int end) {
      return tokens.subspan(static_cast<size_t>(begin), static_cast<size_t>(end - begin));
    };
    expected.Reset(reset.seat, of(reset.begin, reset.answer), of(reset.answer, reset.end));
    EXPECT_TRUE(std::ranges::equal(pair.CountsOf(reset.seat), expected.Of(reset.seat))) << reset.seat;
  }
}

// Lists that are far longer than a block has threads, of tokens that nearly all count.
TEST_P(CudaSamplerTest, FlatDistributionsAreDrawnFromAsTheCpuDoes) {
  constexpr int kVocab = 3000;
  std::mt19937 random(testing::TestSeed() + 3);
  SamplerPair pair(kVocab, 4, 1, kSmallShape);
  for (int i = 0; i < 10; ++i) {
    Batch batch;
    std::vector<float> logits;
    for (int row = 0; row < 4; ++row) {
      RowSampling sampling;
      sampling.temperature = 1.0f;
      if (row != 1) sampling.top_p = 0.97f;
      if (row == 1 || row == 2) sampling.top_k = 2500;
      sampling.min_p = row == 3 ? 0.93f : 0.0f;
      sampling.n_logprobs = 20;
      sampling.seed = random();
      batch.sampling.push_back(sampling);
      batch.logit_rows.push_back(row);
      for (int token = 0; token < kVocab; ++token) {
        logits.push_back(i % 2 == 0 ? 1.0f : static_cast<float>(random() % 4096) * 0x1p-15f);
      }
    }
    pair.Compare(batch, logits, 4);
  }
}

}  // namespace
}  // namespace coterie::cuda
