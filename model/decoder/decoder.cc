#include "model/decoder/decoder.h"

#include <algorithm>

#include "common/check.h"

namespace coterie {

Decoder::Decoder(const ModelConfig& config, std::unique_ptr<DecoderOps> backend,
                 const DecoderOptions& options)
    : config_(config), backend_(std::move(backend)), options_(options) {
  if (TraitsOf(config_.architecture).fused_products) {
    qkv_targets_ = {{LoraModule::kQkv, 0}};
    gate_up_targets_ = {{LoraModule::kGateUp, 0}};
  } else {
    const int q_size = config_.q_size();
    qkv_targets_ = {
        {LoraModule::kQ, 0}, {LoraModule::kK, q_size}, {LoraModule::kV, q_size + config_.kv_size()}};
    gate_up_targets_ = {{LoraModule::kGate, 0}, {LoraModule::kUp, config_.ffn_size}};
  }
}

Status Decoder::CheckBatch(const Batch& batch) const {
  const auto limit = [](const char* what, size_t value, int most) {
    return value <= static_cast<size_t>(most)
               ? absl::OkStatus()
               : absl::InvalidArgumentError(absl::StrCat("batch of ", value, " ", what, ", at most ", most));
  };
  RETURN_IF_ERROR(limit("tokens", batch.token_ids.size(), options_.max_batch_tokens));
  RETURN_IF_ERROR(limit("sequences", static_cast<size_t>(batch.n_seqs()), options_.max_seqs));
  RETURN_IF_ERROR(limit("logit rows", batch.logit_rows.size(), options_.max_logit_rows));
  RETURN_IF_ERROR(limit("rows with sampling parameters", batch.sampling.size(),
                        static_cast<int>(batch.logit_rows.size())));
  for (const int32_t id : batch.token_ids) {
    if (id >= config_.vocab_size || (id < 0 && RowOf(id) >= options_.max_logit_rows)) {
      return absl::InvalidArgumentError(
          absl::StrCat("token id ", id, ", the vocabulary has ", config_.vocab_size));
    }
  }
  for (const int32_t seat : batch.seats) {
    if (seat < 0 || seat >= info_.n_seats) {
      return absl::InvalidArgumentError(absl::StrCat("seat ", seat, ", there are ", info_.n_seats));
    }
  }
  for (const int32_t slot : batch.adapter_slots) {
    if (slot < 0 || slot >= slots_->n_slots()) {
      return absl::InvalidArgumentError(
          absl::StrCat("adapter slot ", slot, ", there are ", slots_->n_slots()));
    }
  }
  for (const Gate& gate : batch.gates) {
    if (gate.kind == GateKind::kNone || std::ranges::find(info_.gates, gate.kind) != info_.gates.end())
      continue;
    return absl::UnimplementedError(absl::StrCat("a gate of kind ", ToAbsl(NameOf(gate.kind)), ", which ",
                                                 info_.device_name, " does not have"));
  }
  for (const int32_t position : batch.positions) {
    if (position < 0 || position >= max_positions_) {
      return absl::InvalidArgumentError(
          absl::StrCat("position ", position, ", a sequence has at most ", max_positions_));
    }
  }
  return absl::OkStatus();
}

StatusOr<StepTicket> Decoder::Launch(const Batch& batch) {
  RETURN_IF_ERROR(CheckBatch(batch));
  COTERIE_CHECK_LT(launched_ - collected_, steps_.size()) << "steps in flight";
  const StepTicket ticket = ++launched_;
  StepContext* const step = StepOf(ticket);
  backend_->BeginStep(step, batch, seats_.get(), *slots_);
  const LinearInput normed = RunInParts(step, batch);
  if (!batch.logit_rows.empty()) backend_->HeadAndSample(step, normed, head(), seats_.get());
  backend_->EndStep(step);
  return ticket;
}

StatusOr<StepResult> Decoder::Collect(StepTicket ticket) {
  COTERIE_CHECK(ticket == collected_ + 1 && ticket <= launched_)
      << "step " << ticket << " collected; launched are " << launched_ << ", collected " << collected_;
  collected_ = ticket;
  return backend_->Wait(StepOf(ticket));
}

LinearInput Decoder::RunInParts(StepContext* step, const Batch& batch) {
  const int n_tokens = batch.n_tokens();
  const float* rows = last_->data();
  if (n_tokens <= max_part_tokens_) {
    rows = RunPart(step, batch, 0, /*whole_step=*/true);
  } else {
    // Parts of like size in whole KV blocks; a token reads the K and V of those before it from the cache.
    const int n_parts = (n_tokens + max_part_tokens_ - 1) / max_part_tokens_;
    const int even = (n_tokens + n_parts - 1) / n_parts;
    const int size = std::min(max_part_tokens_, KvBlocksFor(even) * kKvBlockTokens);
    int n_done = 0;  // logit rows
    for (int begin = 0; begin < n_tokens; begin += size) {
      part_.KeepTokens(batch, begin, std::min(n_tokens, begin + size));
      backend_->BeginStep(part_step_.get(), part_, seats_.get(), *slots_);
      RunPart(part_step_.get(), part_, n_done, /*whole_step=*/false);
      n_done += static_cast<int>(part_.logit_rows.size());
    }
  }
  return LinearInput::RmsNorm(rows, *final_norm_, config_.rms_eps, last_->data());
}

const float* Decoder::RunPart(StepContext* step, const Batch& part, int first_logit_row, bool whole_step) {
  backend_->Embed(*step, *embedding_, config_.embedding_scale(), x_->data());
  const Rows all{step, part.n_tokens(), x_->data(), qkv_->data()};
  const int last_layer = config_.n_layers - 1;
  for (int layer = 0; layer < last_layer; ++layer) {
    WriteKv(layer, all);
    FinishLayer(layer, all);
  }
  // Later tokens need only K and V of the last layer; the rest of it runs for the rows whose logits are
  // wanted.
  WriteKv(last_layer, all);
  if (part.logit_rows.empty()) return nullptr;
  const bool in_place = whole_step && std::ssize(part.logit_rows) == all.n;
  const Rows wanted = in_place ? all : LogitRowsOf(part, all, first_logit_row);
  FinishLayer(last_layer, wanted);
  return wanted.x;
}

// A step of its own, so that attention and adapters know whose rows they are.
Decoder::Rows Decoder::LogitRowsOf(const Batch& part, const Rows& all, int first_logit_row) {
  logit_batch_.KeepLogitRows(part);
  backend_->BeginStep(logit_step_.get(), logit_batch_, seats_.get(), *slots_);
  const Rows rows{logit_step_.get(), logit_batch_.n_tokens(),
                  last_->data() + static_cast<ptrdiff_t>(first_logit_row) * config_.hidden_size,
                  last_qkv_->data()};
  backend_->GatherLogitRows(*all.step, all.x, config_.hidden_size, rows.x);
  backend_->GatherLogitRows(*all.step, all.qkv, config_.q_size() + 2 * config_.kv_size(), rows.qkv);
  return rows;
}

LinearInput Decoder::Normed(const Rows& rows, const DeviceBuffer& weight) const {
  return LinearInput::RmsNorm(rows.x, weight, config_.rms_eps, normed_->data());
}

// A layer is x += O · attention(rope(QKV · norm(x)));  x += down · (act(gate · norm(x)) ∘ up · norm(x)),
// every product with its adapters' low-rank part added. First what other tokens read of it: K and V.
void Decoder::WriteKv(int index, const Rows& rows) {
  const Layer& layer = layers_[static_cast<size_t>(index)];
  backend_->LinearLora({rows.step, index, qkv_targets_}, Normed(rows, *layer.attn_norm), rows.n, *layer.qkv,
                       layer.qkv_bias.get(), /*accumulate=*/false, rows.qkv);
  backend_->RopeAndKvWrite(*rows.step, index, config_.n_heads, layer.q_norm.get(), layer.k_norm.get(),
                           config_.rms_eps, config_.KindOf(index).local_rope ? local_rope_ : rope_, rows.qkv,
                           kv_.get());
}

void Decoder::FinishLayer(int index, const Rows& rows) {
  const Layer& layer = layers_[static_cast<size_t>(index)];
  const LoraTarget kO[] = {{LoraModule::kO, 0}};
  const LoraTarget kDown[] = {{LoraModule::kDown, 0}};

  backend_->PagedAttention(*rows.step, index, config_.n_heads, config_.attention_scale(),
                           config_.KindOf(index).window, rows.qkv, *kv_, attn_->data());
  AddToStream({rows.step, index, kO}, attn_->data(), *layer.o, layer.o_bias.get(), layer.attn_post_norm.get(),
              rows);
  backend_->LinearLora({rows.step, index, gate_up_targets_}, Normed(rows, *layer.ffn_norm), rows.n,
                       *layer.gate_up, nullptr, /*accumulate=*/false, gate_up_->data());
  const LinearInput hidden =
      LinearInput::Gated(TraitsOf(config_.architecture).feed_forward, gate_up_->data(), hidden_->data());
  AddToStream({rows.step, index, kDown}, hidden, *layer.down, nullptr, layer.ffn_post_norm.get(), rows);
}

// x += the product, or its norm. The product then waits where Normed rows stood, which nothing reads any
// more.
void Decoder::AddToStream(const LoraCall& lora, const LinearInput& input, const PackedMatrix& w,
                          const DeviceBuffer* bias, const DeviceBuffer* post_norm, const Rows& rows) {
  const bool is_normed = post_norm != nullptr;
  float* const y = is_normed ? normed_->data() : rows.x;
  backend_->LinearLora(lora, input, rows.n, w, bias, /*accumulate=*/!is_normed, y);
  if (is_normed) backend_->AddRmsNorm(y, *post_norm, config_.rms_eps, rows.n, config_.hidden_size, rows.x);
}

}  // namespace coterie
