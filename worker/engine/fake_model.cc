#include "worker/engine/fake_model.h"

#include <algorithm>
#include <bit>
#include <thread>
#include <utility>

#include "absl/time/clock.h"
#include "common/check.h"
#include "common/file.h"
#include "common/philox.h"
#include "kernels/decoder_ops.h"

namespace coterie {
namespace {

class FakePackedAdapter : public PackedAdapter {
 public:
  FakePackedAdapter(uint64_t hash, size_t bytes) : hash_(hash), bytes_(bytes) {}
  size_t bytes() const override { return bytes_; }
  std::span<const uint8_t> weights() const override { return {}; }
  uint64_t hash() const { return hash_; }

 private:
  const uint64_t hash_;
  const size_t bytes_;
};

uint64_t FirstBytes(const Digest& digest) {
  uint64_t value = 0;
  for (int i = 0; i < 8; ++i) value = value << 8 | digest.bytes()[i];
  return value;
}

// The finaliser of splitmix64 (Steele, Lea, Flood 2014) over a running state.
uint64_t Mix(uint64_t state, uint64_t value) {
  uint64_t x = (state ^ value) + 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

}  // namespace

FakeModel::FakeModel(FakeModelOptions options)
    : options_(std::move(options)),
      slots_(options_.n_adapter_slots),
      blocks_(options_.n_seats, KvBlocksFor(options_.context_length)),
      sampler_(options_.vocab_size, options_.n_seats) {
  info_.vocab_size = options_.vocab_size;
  info_.context_length = options_.context_length;
  info_.n_kv_blocks = options_.n_kv_blocks;
  info_.n_seats = options_.n_seats;
  info_.kv_bytes = sizeof(Cell) * kKvBlockTokens * options_.n_kv_blocks;
  info_.eos_token_ids = options_.eos_token_ids;
  info_.base_digest = options_.base_digest.empty() ? Sha256("fake") : options_.base_digest;
  info_.numerics_class = options_.numerics_class;
  info_.batch_invariant = options_.batch_invariant;
  info_.gates = options_.gates;
  info_.device_name = "none (the fake model)";
  kv_.resize(static_cast<size_t>(options_.n_kv_blocks) * kKvBlockTokens);
  row_.resize(static_cast<size_t>(options_.vocab_size));
  noise_.resize(2 * static_cast<size_t>(options_.vocab_size));
  for (size_t i = 0; i < noise_.size(); ++i) {
    noise_[i] = static_cast<float>(2 * PhiloxUniform(options_.seed, i % options_.vocab_size));
  }
}

StatusOr<std::unique_ptr<LoadedAdapter>> FakeModel::LoadAdapter(const std::filesystem::path& folder) {
  if (options_.load_time > absl::ZeroDuration()) absl::SleepFor(options_.load_time);
  ASSIGN_OR_RETURN(const std::string config, ReadFile(folder / "adapter_config.json", 1 << 20));
  if (config.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat((folder / "adapter_config.json").string(), " is empty"));
  }
  auto loaded = std::make_unique<LoadedAdapter>();
  if (StatusOr<Digest> named = Digest::FromHex(folder.filename().string()); named.ok()) {
    loaded->digest = *named;
  } else {
    ASSIGN_OR_RETURN(const std::string weights,
                     ReadFile(folder / "adapter_model.safetensors", size_t{1} << 30));
    loaded->digest = Sha256(weights);
  }
  loaded->bytes = options_.adapter_bytes;
  loaded->packed = std::make_shared<FakePackedAdapter>(FirstBytes(loaded->digest), options_.adapter_bytes);
  return loaded;
}

uint64_t FakeModel::AdaptersHash(const Batch& batch, int seq) const {
  uint64_t hash = 0;
  for (int i = batch.adapter_offsets[seq]; i < batch.adapter_offsets[seq + 1]; ++i) {
    const auto* adapter = static_cast<const FakePackedAdapter*>(AdapterIn(batch.adapter_slots[i]));
    COTERIE_CHECK(adapter != nullptr) << "adapter slot " << batch.adapter_slots[i] << " is empty";
    hash = Mix(Mix(hash, adapter->hash()), std::bit_cast<uint32_t>(batch.adapter_weights[i]));
  }
  if (const Gate* gate = batch.GateOf(seq)) {
    const uint64_t kind = static_cast<uint64_t>(gate->kind) << 32 | static_cast<uint32_t>(gate->top_k);
    hash = Mix(Mix(hash, kind), gate->seed);
  }
  return hash;
}

StatusOr<StepTicket> FakeModel::Launch(const Batch& batch) {
  const absl::Duration time = options_.step_time + batch.n_tokens() * options_.token_time;
  if (time > absl::ZeroDuration()) absl::SleepFor(time);
  blocks_.Apply(batch);
  batch.ResolveTokens(sampled_, &ids_);
  sampler_.Begin(batch, &output_);
  const size_t vocab = row_.size();
  size_t row = 0;
  for (int seq = 0; seq < batch.n_seqs(); ++seq) {
    const std::span<const int32_t> blocks = blocks_.Row(batch.seats[seq]);
    auto cell = [&](int position) -> Cell& {
      COTERIE_CHECK_LT(position / kKvBlockTokens, std::ssize(blocks))
          << "position " << position << " has no block";
      const int32_t block = blocks[position / kKvBlockTokens];
      COTERIE_CHECK(block >= 0 && block < options_.n_kv_blocks) << "block " << block;
      return kv_[static_cast<size_t>(block) * kKvBlockTokens + position % kKvBlockTokens];
    };
    const uint64_t adapters = AdaptersHash(batch, seq);
    for (int t = batch.cu_seqlens[seq]; t < batch.cu_seqlens[seq + 1]; ++t) {
      cell(batch.positions[t]) = {ids_[t], batch.positions[t], adapters};
    }
    uint64_t hash = options_.seed;
    int next = 0;
    for (int t = batch.cu_seqlens[seq]; t < batch.cu_seqlens[seq + 1]; ++t) {
      if (row == batch.logit_rows.size() || batch.logit_rows[row] != t) continue;
      ++row;
      for (; next <= batch.positions[t]; ++next) {
        const Cell& c = cell(next);
        hash = Mix(Mix(hash, static_cast<uint64_t>(c.position) << 32 | static_cast<uint32_t>(c.token)),
                   c.adapters);
      }
      std::copy_n(noise_.data() + (hash >> 20) % vocab, vocab, row_.data());
      size_t top = hash % vocab;
      const std::vector<int32_t>& eos = options_.eos_token_ids;
      while (std::find(eos.begin(), eos.end(), static_cast<int32_t>(top)) != eos.end())
        top = (top + 1) % vocab;
      row_[top] = 12.0f;
      ChangeRow(batch, seq, row_);
      sampler_.TakeRow(std::span<const float>(row_));
    }
  }
  sampled_ = output_.tokens;
  return ++launched_;
}

StatusOr<StepResult> FakeModel::Collect(StepTicket ticket) {
  COTERIE_CHECK_EQ(ticket, launched_) << "the step collected";
  while (options_.hangs_at_step > 0 && ticket >= options_.hangs_at_step) absl::SleepFor(absl::Seconds(60));
  if (options_.lost_at_step > 0 && ticket >= options_.lost_at_step) {
    return absl::UnavailableError(absl::StrCat("the fake device was lost at step ", ticket));
  }
  return output_.View();
}

}  // namespace coterie
