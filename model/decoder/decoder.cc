#include "model/decoder/decoder.h"

#include <algorithm>
#include <cmath>

#include "common/check.h"

namespace coterie {

Decoder::Decoder(const ModelConfig& config, std::unique_ptr<Backend> backend, const DecoderOptions& options)
    : config_(config), backend_(std::move(backend)), options_(options) {}

Status Decoder::CheckBatch(const Batch& batch) const {
  const auto limit = [](const char* what, size_t value, int most) {
    return value <= static_cast<size_t>(most)
               ? absl::OkStatus()
               : absl::InvalidArgumentError(absl::StrCat("batch of ", value, " ", what, ", at most ", most));
  };
  RETURN_IF_ERROR(limit("tokens", batch.token_ids.size(), options_.max_batch_tokens));
  RETURN_IF_ERROR(limit("sequences", static_cast<size_t>(batch.n_seqs()), options_.max_seqs));
  RETURN_IF_ERROR(limit("logit rows", batch.logit_rows.size(), options_.max_logit_rows));
  for (const int32_t id : batch.token_ids) {
    if (id < 0 || id >= config_.vocab_size) {
      return absl::InvalidArgumentError(
          absl::StrCat("token id ", id, ", the vocabulary has ", config_.vocab_size));
    }
  }
  for (const int32_t position : batch.positions) {
    if (position < 0 || position >= max_positions_) {
      return absl::InvalidArgumentError(
          absl::StrCat("position ", position, ", a sequence has at most ", max_positions_));
    }
  }
  return absl::OkStatus();
}

LinearInput Decoder::RunLayers(const Batch& batch) {
  const int n_tokens = batch.n_tokens();
  const float* rows = last_->data();
  if (n_tokens <= tokens_per_part_) {
    rows = RunPart(batch, 0, /*whole_step=*/true);
  } else {
    // Parts of like size in whole KV blocks; a token reads the K and V of those before it from the cache.
    const int n_parts = (n_tokens + tokens_per_part_ - 1) / tokens_per_part_;
    const int even = (n_tokens + n_parts - 1) / n_parts;
    const int size =
        std::min(tokens_per_part_, (even + kKvBlockTokens - 1) / kKvBlockTokens * kKvBlockTokens);
    int n_done = 0;  // logit rows
    for (int begin = 0; begin < n_tokens; begin += size) {
      part_.KeepTokens(batch, begin, std::min(n_tokens, begin + size));
      RunPart(part_, n_done, /*whole_step=*/false);
      n_done += static_cast<int>(part_.logit_rows.size());
    }
  }
  return LinearInput::RmsNorm(rows, *final_norm_, config_.rms_eps, last_->data());
}

const float* Decoder::RunPart(const Batch& part, int first_logit_row, bool whole_step) {
  backend_->BeginStep(step_.get(), part);
  backend_->Embed(*step_, *embedding_, x_->data());
  const Rows all{step_.get(), part.n_tokens(), x_->data(), qkv_->data()};
  const int last_layer = config_.n_layers - 1;
  for (int layer = 0; layer < last_layer; ++layer) {
    WriteKv(layer, all);
    FinishLayer(layer, all);
  }
  // Of the last layer, later tokens need K and V alone: the rest is for the rows whose logits are wanted.
  WriteKv(last_layer, all);
  if (part.logit_rows.empty()) return nullptr;
  const bool in_place = whole_step && std::ssize(part.logit_rows) == all.n;
  const Rows wanted = in_place ? all : LogitRowsOf(part, all, first_logit_row);
  FinishLayer(last_layer, wanted);
  return wanted.x;
}

Status Decoder::TakeWhole(size_t n_rows, std::span<const float>* logits) {
  const size_t n_logits = n_rows * static_cast<size_t>(config_.vocab_size);
  if (backend_->memory_is_host()) {
    *logits = {logits_->data(), n_logits};
    return absl::OkStatus();
  }
  *logits = {host_logits_.data(), n_logits};
  return backend_->Download(logits_->data(), {host_logits_.data(), n_logits});
}

Status Decoder::Forward(const Batch& batch, std::span<const float>* logits) {
  RETURN_IF_ERROR(CheckBatch(batch));
  const LinearInput normed = RunLayers(batch);
  *logits = {};
  const size_t n_rows = batch.logit_rows.size();
  if (n_rows == 0) return absl::OkStatus();
  backend_->Linear(normed, static_cast<int>(n_rows), head(), nullptr, /*accumulate=*/false, logits_->data());
  return TakeWhole(n_rows, logits);
}

Status Decoder::ForwardTop(const Batch& batch, StepLogits* logits) {
  RETURN_IF_ERROR(CheckBatch(batch));
  const std::vector<int32_t>& keep = batch.logit_top_k;
  if (keep.size() != batch.logit_rows.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("logit_top_k has ", keep.size(), " rows, logit_rows ", batch.logit_rows.size()));
  }
  size_t n_kept = 0;
  size_t n_whole = 0;
  for (const int32_t k : keep) {
    if (k < 0 || k > info_.max_top_logits) {
      return absl::InvalidArgumentError(absl::StrCat("logit_top_k is ", k, ": 0 to ", info_.max_top_logits));
    }
    n_kept += static_cast<size_t>(k);
    n_whole += k == 0 ? 1 : 0;
  }
  const LinearInput normed = RunLayers(batch);
  *logits = {};
  if (keep.empty()) return absl::OkStatus();
  top_logits_.resize(n_kept);
  backend_->LinearTop(normed, static_cast<int>(keep.size()), head(), keep, logits_->data(),
                      top_logits_.data());
  logits->top = top_logits_;
  return n_whole == 0 ? absl::OkStatus() : TakeWhole(n_whole, &logits->whole);
}

// A step of its own, so that attention and adapters know whose rows they are.
Decoder::Rows Decoder::LogitRowsOf(const Batch& part, const Rows& all, int first_logit_row) {
  logit_batch_.KeepLogitRows(part);
  backend_->BeginStep(logit_step_.get(), logit_batch_);
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

// A layer is x += O · attention(rope(QKV · norm(x)));  x += down · (silu(gate · norm(x)) ∘ up · norm(x)),
// every product with its adapters' low-rank part added. First what other tokens read of it: K and V.
void Decoder::WriteKv(int index, const Rows& rows) {
  const Layer& layer = layers_[static_cast<size_t>(index)];
  const int q_size = config_.q_size();
  const LoraTarget kQkv[] = {
      {LoraModule::kQ, 0}, {LoraModule::kK, q_size}, {LoraModule::kV, q_size + config_.kv_size()}};
  backend_->LinearLora({rows.step, index, kQkv}, Normed(rows, *layer.attn_norm), rows.n, *layer.qkv,
                       layer.qkv_bias.get(), /*accumulate=*/false, rows.qkv);
  backend_->RopeAndKvWrite(*rows.step, index, config_.n_heads, layer.q_norm.get(), layer.k_norm.get(),
                           config_.rms_eps, rope_, rows.qkv, kv_.get());
}

void Decoder::FinishLayer(int index, const Rows& rows) {
  const Layer& layer = layers_[static_cast<size_t>(index)];
  Backend& backend = *backend_;
  const int ffn = config_.ffn_size;
  const LoraTarget kO[] = {{LoraModule::kO, 0}};
  const LoraTarget kGateUp[] = {{LoraModule::kGate, 0}, {LoraModule::kUp, ffn}};
  const LoraTarget kDown[] = {{LoraModule::kDown, 0}};

  const float scale = 1.0f / std::sqrt(static_cast<float>(config_.head_dim));
  backend.PagedAttention(*rows.step, index, config_.n_heads, scale, /*window=*/0, rows.qkv, *kv_,
                         attn_->data());
  backend.LinearLora({rows.step, index, kO}, attn_->data(), rows.n, *layer.o, layer.o_bias.get(),
                     /*accumulate=*/true, rows.x);
  backend.LinearLora({rows.step, index, kGateUp}, Normed(rows, *layer.ffn_norm), rows.n, *layer.gate_up,
                     nullptr, /*accumulate=*/false, gate_up_->data());
  backend.LinearLora({rows.step, index, kDown}, LinearInput::SwiGlu(gate_up_->data(), hidden_->data()),
                     rows.n, *layer.down, nullptr, /*accumulate=*/true, rows.x);
}

}  // namespace coterie
