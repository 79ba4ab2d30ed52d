// /v1/embeddings: by the encoder that routes.
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "common/quoted.h"
#include "common/refused_field.h"
#include "common/utf8.h"
#include "gateway/access/retry_delay.h"
#include "gateway/answer/embed_texts.h"
#include "gateway/core/apply_pass.h"
#include "gateway/http/api/answer_fields.h"
#include "gateway/http/api/endpoints.h"
#include "gateway/http/json_writer.h"

namespace coterie::gateway::http {
namespace {

constexpr char kEmbedderModel[] = "embedder";

using Embeddings = std::vector<std::vector<float>>;  // [texts][dim]

struct EmbeddingAsk {
  std::string model;
  std::vector<std::string> texts;
  bool base64 = false;
};

StatusOr<EmbeddingAsk> ReadEmbeddingAsk(const GatewayCore* core, const nlohmann::json& json) {
  ASSIGN_OR_RETURN(const JsonObject body, JsonObject::Of(json, ""));
  EmbeddingAsk ask;
  ASSIGN_OR_RETURN(const auto model, body.String("model"));
  ask.model = model.value_or(kEmbedderModel);
  if (ask.model != kEmbedderModel && ask.model != "auto" && ask.model != "base") {
    return OfField(absl::NotFoundError(absl::StrCat("there is no model ", Quoted(ask.model),
                                                    " for embeddings; \"", kEmbedderModel, "\" is")),
                   "model");
  }
  const nlohmann::json* input = body.Find("input");
  if (input != nullptr && input->is_array() && !input->empty() && !input->front().is_string()) {
    return body.Refuse("input",
                       "text is expected: token ids of another tokenizer would mean something else "
                       "(LangChain: check_embedding_ctx_length=False)");
  }
  ASSIGN_OR_RETURN(auto texts, body.Strings("input", /*or_one=*/true));
  if (!texts) return body.Refuse("input", "a string or a list of strings is expected");
  ask.texts = *std::move(texts);
  RETURN_IF_ERROR(ValidateEmbedTexts("input", ask.texts, core->limits));
  ASSIGN_OR_RETURN(const auto format, body.String("encoding_format"));
  ask.base64 = format == "base64";
  if (format && !ask.base64 && *format != "float") {
    return body.Refuse("encoding_format", "\"float\" or \"base64\" is expected");
  }
  if (core->embedder == nullptr) return ask;  // EmbedTexts says so
  const auto dim = static_cast<int64_t>(core->embedder->dim());
  RETURN_IF_ERROR(body.Int("dimensions", dim, dim).status());
  return ask;
}

// Little-endian float32, as numpy reads it.
std::string ToBase64(const std::vector<float>& values) {
  std::string bytes(values.size() * sizeof(float), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return absl::Base64Escape(bytes);
}

std::string EmbeddingsBody(const EmbeddingAsk& ask, const Embeddings& embeddings, size_t n_tokens) {
  std::string body;
  JsonWriter json(&body);
  json.BeginObject().Key("object").String("list").Key("data").BeginArray();
  for (size_t i = 0; i < embeddings.size(); ++i) {
    json.BeginObject().Key("object").String("embedding").Key("index").Uint(i).Key("embedding");
    if (ask.base64) {
      json.String(ToBase64(embeddings[i]));
    } else {
      json.BeginArray();
      for (const float value : embeddings[i]) json.Number(value);
      json.EndArray();
    }
    json.EndObject();
  }
  json.EndArray().Key("model").String(kEmbedderModel).Key("usage").BeginObject();
  json.Key("prompt_tokens").Uint(n_tokens).Key("total_tokens").Uint(n_tokens).EndObject().EndObject();
  return body;
}

// On the pool: whoever brings the embeddings must not be held for as long as counting tokens takes.
void RespondLater(const Call& call, EmbeddingAsk ask, Embeddings embeddings) {
  const auto work = [call, ask = std::move(ask), embeddings = std::move(embeddings)] {
    size_t n_tokens = 0;
    for (const std::string& text : ask.texts) {
      n_tokens += call.core()->embedder->CountTokens(CutUtf8(text, call.core()->embed_max_bytes));
    }
    call.Respond(HttpResponse::Json(EmbeddingsBody(ask, embeddings, n_tokens)));
  };
  const Status status = call.core()->compute->Submit(work, WorkPool::Turn::kSpare);
  if (!status.ok()) call.Refuse(WithRetryDelay(status, call.core()->admission->RetryDelayNow()));
}

}  // namespace

void AnswerEmbeddings(const Call& call, const nlohmann::json& body) {
  StatusOr<EmbeddingAsk> ask = ReadEmbeddingAsk(call.core(), body);
  if (!ask.ok()) {
    call.core()->metrics->CountRequest("Embed", ask.status());
    return call.Refuse(ask.status());
  }
  RequestContext context = ContextOf(call.request());
  ApplyPass(call.pass, &context);
  const auto embedding = EmbedTexts::Create(call.core(), {ask->texts, std::move(context)},
                                            [call, ask = *ask](StatusOr<Embeddings> embeddings) {
                                              if (!embeddings.ok()) return call.Refuse(embeddings.status());
                                              RespondLater(call, ask, *std::move(embeddings));
                                            });
  call.exchange->WhenGone([embedding] { embedding->Cancel(); });
  embedding->Begin();
}

}  // namespace coterie::gateway::http
