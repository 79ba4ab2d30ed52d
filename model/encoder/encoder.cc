#include "model/encoder/encoder.h"

#include <algorithm>
#include <cmath>

#include "common/check.h"
#include "kernels/formats/dequantize.h"

namespace coterie {

StatusOr<std::vector<Embedding>> Encoder::Embed(std::span<const std::string> texts) {
  std::vector<std::vector<int32_t>> tokens;
  tokens.reserve(texts.size());
  for (size_t i = 0; i < texts.size(); ++i) {
    StatusOr<std::vector<int32_t>> ids = Tokenize(texts[i]);
    if (!ids.ok()) return Annotate(ids.status(), absl::StrCat("text ", i));
    tokens.push_back(*std::move(ids));
  }
  ASSIGN_OR_RETURN(std::vector<Embedding> embeddings, EmbedTokens(tokens));
  for (size_t i = 0; i < embeddings.size(); ++i) {
    if (embeddings[i].empty()) return Annotate(NotADirection(), absl::StrCat("text ", i));
  }
  return embeddings;
}

Status Encoder::NotADirection() {
  return absl::InternalError(
      "the embedder's numbers for this text are no finite direction: its weights are damaged or not those of "
      "a sentence encoder; replace the embedder's files, or name an expert instead of having one chosen");
}

StatusOr<std::vector<int32_t>> Encoder::Tokenize(std::string_view text) const {
  EncodeOptions encode;
  encode.add_special = true;
  encode.truncate = true;
  encode.max_tokens = static_cast<size_t>(config_.max_tokens);
  encode.max_bytes = options_.max_text_bytes;
  return tokenizer_->Encode(text, encode);
}

StatusOr<std::vector<int32_t>> Encoder::TokenizeEnds(std::string_view text, int limit) const {
  if (limit >= config_.max_tokens) return Tokenize(text);
  ASSIGN_OR_RETURN(std::vector<int32_t> ids,
                   tokenizer_->Encode(text, {.add_special = true, .max_bytes = options_.max_text_bytes}));
  // [CLS] stands in the first half and [SEP] in the last.
  const auto kept = static_cast<size_t>(std::max(limit, 2));
  if (ids.size() > kept) {
    ids.erase(ids.begin() + static_cast<ptrdiff_t>(kept - kept / 2),
              ids.end() - static_cast<ptrdiff_t>(kept / 2));
  }
  return ids;
}

class Encoder::Lease {
 public:
  Lease(Encoder* encoder, bool one_core) : encoder_(encoder) {
    MutexLock lock(&encoder->mutex_);
    while (encoder->n_in_use_ == encoder->options_.n_passes) encoder->context_free_.Wait(&encoder->mutex_);
    // Beside others never the one of all cores: its threads would wait for each other's turns on them.
    const bool all_cores = encoder->n_in_use_ == 0 && (!one_core || encoder->options_.n_passes == 1);
    const auto first = encoder->contexts_.begin() + (all_cores ? 0 : 1);
    const auto free = std::find_if(first, encoder->contexts_.end(), [](const auto& c) { return !c->in_use; });
    COTERIE_CHECK(free != encoder->contexts_.end()) << encoder->n_in_use_ << " passes run";
    context_ = free->get();
    context_->in_use = true;
    ++encoder->n_in_use_;
  }
  ~Lease() {
    MutexLock lock(&encoder_->mutex_);
    context_->in_use = false;
    --encoder_->n_in_use_;
    encoder_->context_free_.Signal();
  }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  PassContext* operator->() const { return context_; }
  PassContext* get() const { return context_; }

 private:
  Encoder* const encoder_;
  PassContext* context_;
};

StatusOr<std::vector<Embedding>> Encoder::EmbedTokens(std::span<const std::vector<int32_t>> texts,
                                                      bool one_core) {
  std::vector<Embedding> out;
  out.reserve(texts.size());
  size_t begin = 0;
  while (begin < texts.size()) {
    const Lease context(
        this, one_core);  // for one pass, so that a long list does not keep others waiting to its end
    size_t end = begin;
    size_t n_tokens = 0;
    const auto room = static_cast<size_t>(context->max_tokens);
    while (end < texts.size() && n_tokens + texts[end].size() <= room) n_tokens += texts[end++].size();
    COTERIE_CHECK(end > begin) << "a text of " << texts[begin].size() << " tokens";
    RunPass(context.get(), texts.subspan(begin, end - begin), &out);
    // The embeddings stay in their file for as long as this serves.
    if (word_embeddings_.file != nullptr) RETURN_IF_ERROR(word_embeddings_.file->CheckWhole());
    begin = end;
  }
  return out;
}

void Encoder::SumEmbeddings(std::span<const std::vector<int32_t>> texts, float* x) const {
  const auto d = static_cast<size_t>(config_.hidden_size);
  const auto row_bytes = static_cast<size_t>(RowBytes(word_embeddings_.dtype, config_.hidden_size));
  for (const std::vector<int32_t>& ids : texts) {
    for (size_t position = 0; position < ids.size(); ++position, x += d) {
      const auto row = static_cast<size_t>(ids[position]);
      Dequantize(word_embeddings_.dtype, word_embeddings_.bytes.data() + row * row_bytes, config_.hidden_size,
                 x);
      const float* p = position_embeddings_.data() + position * d;
      for (size_t i = 0; i < d; ++i) x[i] += p[i];
    }
  }
}

// x = norm(x + O · attention(QKV · x));  x = norm(x + down · gelu(up · x)): the norms come after the sums. Of
// each, the last is left to the product that follows: `before` is the norm that x still wants.
void Encoder::RunLayer(PassContext* context, const Norm& before, const Layer& layer, int n_tokens) const {
  EncoderOps& backend = *context->backend;
  float* x = context->x->data();
  const auto normed = [&](const Norm& norm) {
    return LinearInput::LayerNorm(x, *norm.weight, *norm.bias, config_.layer_norm_eps);
  };
  backend.Linear(normed(before), n_tokens, *layer.qkv.weight, layer.qkv.bias.get(), /*accumulate=*/false,
                 context->qkv->data());
  backend.FullAttention(context->qkv->data(), context->cu_seqlens, config_.n_heads, config_.head_dim,
                        context->attended->data());
  backend.Linear(context->attended->data(), n_tokens, *layer.attention_output.weight,
                 layer.attention_output.bias.get(),
                 /*accumulate=*/true, x);
  backend.Linear(normed(layer.attention_norm), n_tokens, *layer.up.weight, layer.up.bias.get(),
                 /*accumulate=*/false, context->ffn->data());
  backend.Linear(LinearInput::Gelu(context->ffn->data()), n_tokens, *layer.down.weight, layer.down.bias.get(),
                 /*accumulate=*/true, x);
}

void Encoder::RunPass(PassContext* context, std::span<const std::vector<int32_t>> texts,
                      std::vector<Embedding>* out) const {
  std::vector<int32_t>& cu_seqlens = context->cu_seqlens;
  float* x = context->x->data();
  cu_seqlens.assign(1, 0);
  for (const std::vector<int32_t>& ids : texts) {
    cu_seqlens.push_back(cu_seqlens.back() + static_cast<int32_t>(ids.size()));
  }
  const int n_tokens = cu_seqlens.back();
  const int d = config_.hidden_size;
  SumEmbeddings(texts, x);
  const Norm* norm = &embedding_norm_;
  for (const Layer& layer : layers_) {
    RunLayer(context, *norm, layer, n_tokens);
    norm = &layer.output_norm;
  }
  context->backend->LayerNorm(x, nullptr, *norm->weight, *norm->bias, config_.layer_norm_eps, n_tokens, d, x);
  context->backend->MeanPoolNormalize(x, cu_seqlens, d, context->pooled->data());
  for (size_t i = 0; i < texts.size(); ++i) {
    const float* row = context->pooled->data() + i * static_cast<size_t>(d);
    double squares = 0;
    for (int k = 0; k < d; ++k) squares += static_cast<double>(row[k]) * static_cast<double>(row[k]);
    if (std::fabs(squares - 1) < 0.01) {  // NaN is not
      out->emplace_back(row, row + d);
    } else {
      out->emplace_back();
    }
  }
}

}  // namespace coterie
