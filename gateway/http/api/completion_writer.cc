#include "gateway/http/api/completion_writer.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "common/utf8.h"
#include "gateway/http/server/http_response.h"

namespace coterie::gateway::http {
namespace {

// Of an event "data: {…}", begun and ended.
constexpr std::string_view kDataBegin = "data: ";
constexpr std::string_view kDataEnd = "\n\n";

// JSON knows no infinity, and clients take -9999 for "never", as OpenAI's servers write it.
constexpr float kLeastLogprob = -9999.0f;
float Finite(float logprob) { return logprob >= kLeastLogprob ? logprob : kLeastLogprob; }

std::string_view FinishWord(FinishReason reason) {
  return reason == FinishReason::kLength ? "length" : "stop";
}

// A token as text: its control name; its bytes, with U+FFFD where they are a part of a character.
std::string TokenWord(const DescribedToken& token) {
  return token.control.empty() ? ReplaceIllFormed(token.bytes) : token.control;
}

// As OpenAI's /v1/completions names tokens that are parts of characters: two of them must stay two keys.
std::string TokenKey(const DescribedToken& token) {
  if (!token.control.empty()) return token.control;
  if (IsWellFormed(token.bytes)) return token.bytes;
  std::string key = "bytes:";
  for (const char c : token.bytes) absl::StrAppendFormat(&key, "\\x%02x", static_cast<unsigned char>(c));
  return key;
}

void WriteToken(const DescribedToken& token, float logprob, JsonWriter* json) {
  json->Key("token").String(TokenWord(token)).Key("logprob").Number(Finite(logprob)).Key("bytes");
  json->BeginArray();
  for (const char c : token.bytes) json->Uint(static_cast<unsigned char>(c));
  json->EndArray();
}

// Appends an element to the text of a list.
std::string* NextOf(std::string* list) {
  if (!list->empty()) list->push_back(',');
  return list;
}

void BeginFrame(const AnswerFrame& frame, std::string_view object, JsonWriter* json) {
  json->BeginObject().Key("id").String(frame.id).Key("object").String(object);
  json->Key("created").Int(frame.created).Key("model").String(frame.model).Key("system_fingerprint");
  frame.fingerprint.empty() ? json->Null() : json->String(frame.fingerprint);
}

std::string_view ChunkObject(const AnswerFrame& frame) {
  return frame.chat ? "chat.completion.chunk" : "text_completion";
}

void WriteLogprobs(std::string_view logprobs, JsonWriter* json) {
  json->Key("logprobs");
  logprobs.empty() ? json->Null() : json->Raw(logprobs);
}

}  // namespace

void LogprobsWriter::Append(const TextLogprobs& token) {
  ++n_;
  chat_ ? AppendChat(token) : AppendPlain(token);
}

void LogprobsWriter::Append(const PromptEvent& prompt) {
  ++n_;
  AppendPlace(prompt.first);
  JsonWriter(NextOf(&values_)).Null();
  JsonWriter(NextOf(&top_)).Null();
  for (const TextLogprobs& token : prompt.others) Append(token);
}

void LogprobsWriter::AppendPlace(const DescribedToken& token) {
  JsonWriter(NextOf(&tokens_)).String(TokenKey(token));
  JsonWriter(NextOf(&offsets_)).Uint(text_offset_);
  for (const char c : token.bytes) text_offset_ += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
}

void LogprobsWriter::AppendChat(const TextLogprobs& token) {
  JsonWriter json(NextOf(&content_));
  json.BeginObject();
  WriteToken(token.chosen, token.values.chosen.logprob, &json);
  json.Key("top_logprobs").BeginArray();
  for (size_t i = 0; i < token.top.size(); ++i) {
    json.BeginObject();
    WriteToken(token.top[i], token.values.top[i].logprob, &json);
    json.EndObject();
  }
  json.EndArray().EndObject();
}

void LogprobsWriter::AppendPlain(const TextLogprobs& token) {
  AppendPlace(token.chosen);
  JsonWriter(NextOf(&values_)).Number(Finite(token.values.chosen.logprob));
  JsonWriter top(NextOf(&top_));
  top.BeginObject();
  std::set<std::string> keys;  // of two tokens with one spelling the likelier one stands
  for (size_t i = 0; i < token.top.size(); ++i) {
    std::string key = TokenKey(token.top[i]);
    if (!keys.insert(key).second) continue;
    top.Key(key).Number(Finite(token.values.top[i].logprob));
  }
  top.EndObject();
}

std::string LogprobsWriter::Take() {
  if (n_ == 0) return "";
  n_ = 0;
  std::string out;
  if (chat_) {
    out = absl::StrCat(R"({"content":[)", content_, R"(],"refusal":null})");
    content_.clear();
    return out;
  }
  out = absl::StrCat(R"({"tokens":[)", tokens_, R"(],"token_logprobs":[)", values_, R"(],"top_logprobs":[)",
                     top_, R"(],"text_offset":[)", offsets_, "]}");
  for (std::string* list : {&tokens_, &values_, &top_, &offsets_}) list->clear();
  return out;
}

void AppendChunk(const AnswerFrame& frame, const ChunkParts& parts, std::string* out) {
  out->append(kDataBegin);
  JsonWriter json(out);
  BeginFrame(frame, ChunkObject(frame), &json);
  json.Key("choices").BeginArray().BeginObject().Key("index").Uint(parts.index);
  if (frame.chat) {
    json.Key("delta").BeginObject();
    if (parts.role) json.Key("role").String("assistant");
    if (parts.text) json.Key("content").String(*parts.text);
    json.EndObject();
  } else {
    json.Key("text").String(parts.text.value_or(""));
  }
  WriteLogprobs(parts.logprobs, &json);
  json.Key("finish_reason");
  parts.finish == nullptr ? json.Null() : json.String(FinishWord(parts.finish->reason));
  json.EndObject().EndArray();
  if (frame.null_usage) json.Key("usage").Null();
  if (parts.route != nullptr) {
    json.Key("coterie");
    WriteRoute(*parts.route, &json);
  }
  json.EndObject();
  out->append(kDataEnd);
}

void AppendUsageChunk(const AnswerFrame& frame, const UsageCount& usage, std::string* out) {
  out->append(kDataBegin);
  JsonWriter json(out);
  BeginFrame(frame, ChunkObject(frame), &json);
  json.Key("choices").BeginArray().EndArray().Key("usage");
  WriteUsage(usage, &json);
  json.EndObject();
  out->append(kDataEnd);
}

void AppendErrorEvent(std::string_view error_body, std::string* out) {
  out->append(kDataBegin).append(error_body).append(kDataEnd);
}

std::string WholeAnswer(const AnswerFrame& frame, const std::vector<WholeChoice>& choices,
                        const UsageCount& usage, const RouteEvent& route) {
  std::string out;
  JsonWriter json(&out);
  BeginFrame(frame, frame.chat ? "chat.completion" : "text_completion", &json);
  json.Key("choices").BeginArray();
  for (size_t i = 0; i < choices.size(); ++i) {
    const WholeChoice& choice = choices[i];
    json.BeginObject().Key("index").Uint(i);
    if (frame.chat) {
      json.Key("message").BeginObject().Key("role").String("assistant").Key("content").String(choice.text);
      json.Key("refusal").Null().EndObject();
    } else {
      json.Key("text").String(choice.text);
    }
    WriteLogprobs(choice.logprobs, &json);
    json.Key("finish_reason").String(FinishWord(choice.finish.reason)).EndObject();
  }
  json.EndArray().Key("usage");
  WriteUsage(usage, &json);
  json.Key("coterie");
  WriteRoute(route, &json);
  json.EndObject();
  return out;
}

std::string ModelOf(const Decision& decision) {
  std::string model;
  for (const PlannedExpert& expert : decision.plan.named()) {
    if (!model.empty()) model += '+';
    model += expert.name;
  }
  return model.empty() ? "base" : model;
}

void WriteRoute(const RouteEvent& route, JsonWriter* json) {
  const RoutePlan& plan = route.decision.plan;
  const auto write = [json](const PlannedExpert& expert) {
    json->BeginObject().Key("name").String(expert.name).Key("digest").String(expert.adapter.ToHex());
    json->Key("score").Number(expert.score).Key("weight").Number(expert.weight);
    json->Key("canary").Bool(expert.canary).EndObject();
  };
  json->BeginObject().Key("experts").BeginArray();
  for (const PlannedExpert& expert : plan.experts) write(expert);
  json->EndArray();
  if (plan.composite) {
    json->Key("composite");
    write(*plan.composite);
  }
  if (plan.mode != CollaborationMode::kNone) json->Key("mode").String(NameOf(plan.mode));
  if (plan.mode == CollaborationMode::kGated) {
    json->Key("gate")
        .String(NameOf(plan.gate.kind))
        .Key("top_k")
        .Uint(static_cast<uint64_t>(plan.gate.top_k));
  }
  json->Key("candidates").BeginArray();
  for (const Decision::Weighed& candidate : route.decision.candidates) {
    json->BeginObject().Key("name").String(candidate.name).Key("score").Number(candidate.score).EndObject();
  }
  json->EndArray().Key("margin").Number(plan.margin).Key("policy").String(plan.policy);
  json->Key("reason").String(plan.reason);
  if (!route.worker.empty()) {
    json->Key("worker").String(route.worker);
    json->Key("placement_reason").String(Printable(route.placement_reason));
  }
  json->Key("catalogue_generation").Uint(plan.catalogue_generation).EndObject();
}

void AddRouteHeaders(const RouteEvent& route, HeaderFields* headers) {
  const RoutePlan& plan = route.decision.plan;
  headers->emplace_back("X-Coterie-Expert", HeaderValue(ModelOf(route.decision)));
  if (!plan.experts.empty()) {
    headers->emplace_back("X-Coterie-Digest", plan.named().front().adapter.ToHex());
    headers->emplace_back("X-Coterie-Score", absl::StrCat(plan.named().front().score));
  }
  headers->emplace_back("X-Coterie-Margin", absl::StrCat(plan.margin));
  headers->emplace_back("X-Coterie-Policy", HeaderValue(plan.policy));
  headers->emplace_back("X-Coterie-Reason", HeaderValue(plan.reason));
  if (!route.worker.empty()) headers->emplace_back("X-Coterie-Worker", HeaderValue(route.worker));
}

void WriteUsage(const UsageCount& usage, JsonWriter* json) {
  json->BeginObject().Key("prompt_tokens").Uint(usage.prompt_tokens);
  json->Key("completion_tokens").Uint(usage.completion_tokens);
  json->Key("total_tokens").Uint(uint64_t{usage.prompt_tokens} + usage.completion_tokens);
  json->Key("prompt_tokens_details").BeginObject().Key("cached_tokens").Uint(usage.cached_prompt_tokens);
  json->EndObject().EndObject();
}

}  // namespace coterie::gateway::http
