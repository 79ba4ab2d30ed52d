#include "model/decoder/decoder.h"

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
    if (position < 0 || position >= info_.context_length) {
      return absl::InvalidArgumentError(
          absl::StrCat("position ", position, ", the context has ", info_.context_length));
    }
  }
  return absl::OkStatus();
}

Status Decoder::Forward(const Batch& batch, std::span<const float>* logits) {
  RETURN_IF_ERROR(CheckBatch(batch));
  const int n_tokens = batch.n_tokens();
  const int n_rows = static_cast<int>(batch.logit_rows.size());
  const int d = config_.hidden_size;

  backend_->BeginStep(step_.get(), batch);
  backend_->Embed(*step_, *embedding_, x_->data());
  for (int layer = 0; layer < config_.n_layers; ++layer) RunLayer(layer, n_tokens);

  backend_->GatherLogitRows(*step_, x_->data(), d, last_->data());
  backend_->RmsNorm(last_->data(), *final_norm_, config_.rms_eps, n_rows, d, last_->data());
  const PackedMatrix& head = head_ != nullptr ? *head_ : *embedding_;
  backend_->Linear(last_->data(), n_rows, head, nullptr, /*accumulate=*/false, logits_->data());

  const size_t n_logits = static_cast<size_t>(n_rows) * static_cast<size_t>(config_.vocab_size);
  if (backend_->memory_is_host()) {
    *logits = {logits_->data(), n_logits};
    return absl::OkStatus();
  }
  *logits = {host_logits_.data(), n_logits};
  return backend_->Download(logits_->data(), {host_logits_.data(), n_logits});
}

// x += O · attention(rope(QKV · norm(x)));  x += down · (silu(gate · norm(x)) ∘ up · norm(x)); every product
// with its adapters' low-rank part added.
void Decoder::RunLayer(int index, int n_tokens) {
  const Layer& layer = layers_[static_cast<size_t>(index)];
  Backend& backend = *backend_;
  const int d = config_.hidden_size;
  const int q_size = config_.q_size();
  const int kv_size = config_.kv_size();
  const int ffn = config_.ffn_size;

  const LoraTarget kQkv[] = {
      {LoraModule::kQ, 0}, {LoraModule::kK, q_size}, {LoraModule::kV, q_size + kv_size}};
  const LoraTarget kO[] = {{LoraModule::kO, 0}};
  const LoraTarget kGateUp[] = {{LoraModule::kGate, 0}, {LoraModule::kUp, ffn}};
  const LoraTarget kDown[] = {{LoraModule::kDown, 0}};

  backend.RmsNorm(x_->data(), *layer.attn_norm, config_.rms_eps, n_tokens, d, normed_->data());
  backend.LinearLora({step_.get(), index, kQkv}, normed_->data(), n_tokens, *layer.qkv, layer.qkv_bias.get(),
                     /*accumulate=*/false, qkv_->data());
  backend.RopeAndKvWrite(*step_, index, config_.n_heads, layer.q_norm.get(), layer.k_norm.get(),
                         config_.rms_eps, rope_, qkv_->data(), kv_.get());
  const float scale = 1.0f / std::sqrt(static_cast<float>(config_.head_dim));
  backend.PagedAttention(*step_, index, config_.n_heads, scale, /*window=*/0, qkv_->data(), *kv_,
                         attn_->data());
  backend.LinearLora({step_.get(), index, kO}, attn_->data(), n_tokens, *layer.o, layer.o_bias.get(),
                     /*accumulate=*/true, x_->data());

  backend.RmsNorm(x_->data(), *layer.ffn_norm, config_.rms_eps, n_tokens, d, normed_->data());
  backend.LinearLora({step_.get(), index, kGateUp}, normed_->data(), n_tokens, *layer.gate_up, nullptr,
                     /*accumulate=*/false, gate_up_->data());
  backend.SwiGlu(gate_up_->data(), n_tokens, ffn, hidden_->data());
  backend.LinearLora({step_.get(), index, kDown}, hidden_->data(), n_tokens, *layer.down, nullptr,
                     /*accumulate=*/true, x_->data());
}

}  // namespace coterie
