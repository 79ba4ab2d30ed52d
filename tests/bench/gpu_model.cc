#include "tests/bench/gpu_model.h"

#include <algorithm>
#include <numeric>

#include "tests/bench/harness.h"
#include "tests/bench/random_adapter.h"

namespace coterie::bench {
namespace {

constexpr int kSlots = 128;

// Appends tokens [first, first + n) of a sequence, whose ids are made from their positions, or follow from
// row `row` of the step before.
void AppendTokens(int seat, int first, int n, int vocab, int from_row, Batch* batch) {
  for (int i = 0; i < n; ++i) {
    batch->token_ids.push_back(from_row >= 0 ? FromRow(from_row) : (first + i) * 31 % vocab);
    batch->positions.push_back(first + i);
  }
  batch->cu_seqlens.push_back(batch->n_tokens());
  batch->seats.push_back(seat);
  batch->adapter_offsets.push_back(static_cast<int32_t>(batch->adapter_slots.size()));
}

void WantLastRow(Batch* batch) {
  batch->logit_rows.push_back(batch->n_tokens() - 1);
  batch->sampling.emplace_back();
}

}  // namespace

int GpuModel::BlocksOfSequence() const { return KvBlocksFor(sizes_.context + sizes_.max_steps); }

StatusOr<std::unique_ptr<GpuModel>> GpuModel::Make(MadeModel* base, int n_layers,
                                                   const CudaBackendOptions& options,
                                                   const GpuModelSizes& sizes, BenchDevice* device) {
  auto model = std::unique_ptr<GpuModel>(new GpuModel(sizes, device));
  CudaBackendOptions with_adapters = options;
  with_adapters.adapter_bytes = sizes.adapter_bytes;
  ASSIGN_OR_RETURN(std::unique_ptr<DecoderOps> ops, device->MakeOps(with_adapters));
  ASSIGN_OR_RETURN(const std::unique_ptr<ModelFiles> files, base->Files(n_layers));
  DecoderOptions decoder_options;
  decoder_options.n_kv_blocks =
      sizes.max_batch * model->BlocksOfSequence() + KvBlocksFor(sizes.prompt_tokens);
  decoder_options.max_batch_tokens = std::max(sizes.chunk_tokens, sizes.max_batch);
  decoder_options.max_seqs = sizes.max_batch;
  decoder_options.n_seats = sizes.max_batch + 1;  // the last is the measured prompt's
  decoder_options.n_adapter_slots = kSlots;
  decoder_options.max_adapters_per_seq = 1;
  ASSIGN_OR_RETURN(model->decoder_, Decoder::Create(*files, std::move(ops), decoder_options));
  model->adapters_.resize(kSlots);
  RETURN_IF_ERROR(model->ComputeContexts());
  return model;
}

Status GpuModel::CollectUntil(size_t n_left) {
  for (; in_flight_.size() > n_left; in_flight_.pop_front()) {
    RETURN_IF_ERROR(decoder_->Collect(in_flight_.front()).status());
  }
  return absl::OkStatus();
}

Status GpuModel::Enqueue(const Batch& batch) {
  RETURN_IF_ERROR(CollectUntil(static_cast<size_t>(decoder_->info().steps_in_flight) - 1));
  ASSIGN_OR_RETURN(const StepTicket ticket, decoder_->Launch(batch));
  in_flight_.push_back(ticket);
  return absl::OkStatus();
}

Status GpuModel::EnqueuePrompt(int seat, int n_tokens, int first_block, int n_blocks) {
  std::vector<int32_t> blocks(static_cast<size_t>(n_blocks));
  std::iota(blocks.begin(), blocks.end(), first_block);
  Batch batch;
  for (int done = 0; done < n_tokens;) {
    const int n = std::min(sizes_.chunk_tokens, n_tokens - done);
    batch.Clear();
    AppendTokens(seat, done, n, decoder_->info().vocab_size, -1, &batch);
    if (done == 0) batch.ChangeBlocks(seat, 0, blocks);
    done += n;
    if (done == n_tokens) WantLastRow(&batch);
    RETURN_IF_ERROR(Enqueue(batch));
  }
  return absl::OkStatus();
}

Status GpuModel::ComputeContexts() {
  for (int seat = 0; seat < sizes_.max_batch; ++seat) {
    RETURN_IF_ERROR(EnqueuePrompt(seat, sizes_.context, seat * BlocksOfSequence(), BlocksOfSequence()));
  }
  return CollectUntil(0);
}

Status GpuModel::FillSlot(int slot, std::shared_ptr<const PackedAdapter> adapter) {
  decoder_->adapter_slots().Fill(slot, std::move(adapter));
  for (const Clock::time_point start = Clock::now(); !decoder_->adapter_slots().Ready(slot);) {
    if (Seconds(start) > 30)
      return absl::DeadlineExceededError(absl::StrCat("slot ", slot, " is not ready after 30 s"));
  }
  return absl::OkStatus();
}

Status GpuModel::AddAdapters(const std::vector<int>& ranks, int n) {
  for (const int rank : ranks) {
    // One adapter's values, packed n times: where they lie is all that matters to speed.
    const RandomAdapter values(decoder_->config(), rank, static_cast<uint64_t>(rank));
    for (int i = 0; i < n; ++i) {
      const auto empty = std::find(adapters_.begin(), adapters_.end(), nullptr);
      if (empty == adapters_.end())
        return absl::ResourceExhaustedError("no slot is left for another adapter");
      const auto slot = static_cast<int>(empty - adapters_.begin());
      ASSIGN_OR_RETURN(*empty, decoder_->backend().PackAdapter(values.pairs()));
      RETURN_IF_ERROR(FillSlot(slot, *empty));
      slots_[rank].push_back(slot);
    }
  }
  return absl::OkStatus();
}

std::vector<int> GpuModel::SlotsOf(const std::vector<int>& ranks, int n) const {
  std::vector<int> slots;
  for (int i = 0; i < n; ++i) {
    const auto k = static_cast<size_t>(i);
    slots.push_back(slots_.at(ranks[k % ranks.size()])[k / ranks.size()]);
  }
  return slots;
}

StatusOr<GpuModel::Decoded> GpuModel::Decode(int batch_size, const std::vector<int>& slots, int n_steps,
                                             bool marks) {
  constexpr int kWarmUp = 3;
  Decoded out;
  Batch batch;
  Clock::time_point start;
  if (kWarmUp + n_steps > sizes_.max_steps) {
    return absl::InvalidArgumentError(
        absl::StrCat(n_steps, " steps and ", kWarmUp, " to warm up; there is room for ", sizes_.max_steps));
  }
  for (int step = 0; step < kWarmUp + n_steps; ++step) {
    if (step == kWarmUp) {
      RETURN_IF_ERROR(CollectUntil(0));
      if (marks) {
        RETURN_IF_ERROR(device_->TakeMarks().status());
        RETURN_IF_ERROR(device_->Mark(&decoder_->backend()));
      }
      start = Clock::now();
    }
    batch.Clear();
    for (int i = 0; i < batch_size; ++i) {
      if (!slots.empty()) {
        batch.adapter_slots.push_back(slots[static_cast<size_t>(i) % slots.size()]);
        batch.adapter_weights.push_back(1.0f);
      }
      AppendTokens(/*seat=*/i, sizes_.context + step, 1, decoder_->info().vocab_size, step == 0 ? -1 : i,
                   &batch);
      WantLastRow(&batch);
    }
    RETURN_IF_ERROR(Enqueue(batch));
    if (marks && step >= kWarmUp) {
      out.n_fed += device_->LastMarkIsAhead() ? 1 : 0;
      RETURN_IF_ERROR(device_->Mark(&decoder_->backend()));
    }
  }
  RETURN_IF_ERROR(CollectUntil(0));
  out.seconds_per_step = Seconds(start) / n_steps;
  return out;
}

StatusOr<double> GpuModel::Prefill(int n_tokens) {
  if (n_tokens > sizes_.prompt_tokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("a prompt of ", n_tokens, " tokens; there is room for ", sizes_.prompt_tokens));
  }
  const Clock::time_point start = Clock::now();
  RETURN_IF_ERROR(EnqueuePrompt(/*seat=*/sizes_.max_batch, n_tokens, sizes_.max_batch * BlocksOfSequence(),
                                KvBlocksFor(n_tokens)));
  RETURN_IF_ERROR(CollectUntil(0));
  return Seconds(start);
}

StatusOr<GpuModel::Uploaded> GpuModel::Upload(const std::vector<int>& slots) {
  AdapterSlots& all = decoder_->adapter_slots();
  Uploaded out;
  for (const int slot : slots) all.Clear(slot);
  const Clock::time_point start = Clock::now();
  for (const int slot : slots) {
    all.Fill(slot, adapters_[static_cast<size_t>(slot)]);
    out.bytes += adapters_[static_cast<size_t>(slot)]->bytes();
  }
  // Copies end in the order of the calls.
  while (!all.Ready(slots.back())) {
    if (Seconds(start) > 30) return absl::DeadlineExceededError("adapters are not ready after 30 s");
  }
  out.seconds = Seconds(start);
  return out;
}

}  // namespace coterie::bench
