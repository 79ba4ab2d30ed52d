// What comes over HTTP: bytes of a connection, cut where the input says, as far as requests of the core.
// Whatever is accepted keeps the core's promises, and whatever is answered is JSON.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/check.h"
#include "common/utf8.h"
#include "gateway/http/api/completion_ask.h"
#include "gateway/http/api/json_object.h"
#include "gateway/http/api/status_response.h"
#include "gateway/http/server/request_parser.h"
#include "tests/gateway/fake_text_model.h"

namespace coterie::gateway::http {
namespace {

RequestLimits SmallRequestLimits() {
  RequestLimits limits;
  limits.max_input_bytes = 256;
  limits.max_messages = 4;
  limits.max_tags = 3;
  limits.max_allowed_experts = 3;
  return limits;
}

ParserLimits SmallParserLimits() {
  ParserLimits limits;
  limits.max_head_bytes = 512;
  limits.max_target_bytes = 64;
  limits.max_headers = 8;
  limits.max_body_bytes = 1024;
  return limits;
}

void CheckError(const HttpResponse& response) {
  COTERIE_CHECK(response.code >= 400 && response.code <= 505);
  const auto json = nlohmann::json::parse(*response.body, nullptr, /*allow_exceptions=*/false);
  COTERIE_CHECK(json.is_object() && json["error"]["message"].is_string()) << *response.body;
  for (const auto& [name, value] : response.headers) {
    COTERIE_CHECK(value.find_first_of("\r\n") == std::string::npos) << name;
  }
}

void CheckAsk(const StatusOr<CompletionAsk>& ask, const AskContext& context) {
  if (!ask.ok()) return CheckError(StatusResponse(ask.status()));
  COTERIE_CHECK(!ask->requests.empty() && ask->requests.size() <= static_cast<size_t>(kMaxChoices));
  COTERIE_CHECK_EQ(ask->requests.size() % ask->n, 0u);
  for (const AnswerRequest& request : ask->requests) {
    COTERIE_CHECK(ValidateInput(request.input, context.limits).ok());
    COTERIE_CHECK(ValidateSamplingParams(request.sampling, context.text.vocab_size()).ok());
    COTERIE_CHECK(ValidateRouting(request.routing, context.limits).ok());
    COTERIE_CHECK(ValidateContext(request.context, context.limits).ok());
    COTERIE_CHECK(!request.context.trace_id.empty());
    COTERIE_CHECK(IsWellFormed(request.input.QuestionText()));
  }
}

void CheckRequest(const HttpRequest& request, const ParserLimits& limits) {
  COTERIE_CHECK(request.path == "*" || (!request.path.empty() && request.path.front() == '/'));
  COTERIE_CHECK(IsWellFormed(request.path));
  COTERIE_CHECK_LE(request.body.size(), limits.max_body_bytes);
  COTERIE_CHECK_LE(request.headers.size(), limits.max_headers);
  COTERIE_CHECK(IsRequestId(request.id));
  const StatusOr<nlohmann::json> body = ParseBody(request.body);
  if (!body.ok()) return CheckError(StatusResponse(body.status()));
  static const auto* const text = new testing::FakeTextModel();
  const RequestLimits request_limits = SmallRequestLimits();
  const AskContext context{*text, request_limits, request};
  CheckAsk(ReadChatAsk(*body, context), context);
  CheckAsk(ReadCompletionAsk(*body, context), context);
}

// A request in pieces whose lengths the first byte draws; 0: in one.
void Converse(uint8_t cut, std::string_view bytes) {
  const ParserLimits limits = SmallParserLimits();
  RequestParser parser(limits);
  std::string inbox;
  size_t at = 0;
  uint32_t state = cut;
  for (;;) {
    if (at < bytes.size()) {
      state = state * 1664525u + 1013904223u;
      const size_t piece = cut == 0 ? bytes.size() : 1 + (state >> 24) % (cut + size_t{1});
      inbox += bytes.substr(at, piece);
      at += std::min(piece, bytes.size() - at);
    }
    const size_t n_taken = parser.Put(inbox);
    COTERIE_CHECK_LE(n_taken, inbox.size());
    inbox.erase(0, n_taken);
    COTERIE_CHECK_LE(inbox.size(), bytes.size());
    if (parser.state() == RequestParser::State::kRefused) {
      return CheckError(ErrorResponse(parser.refusal().code, parser.refusal().words));
    }
    if (parser.state() == RequestParser::State::kDone) return CheckRequest(parser.Take(), limits);
    if (at >= bytes.size() && n_taken == 0) return;
  }
}

}  // namespace
}  // namespace coterie::gateway::http

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  coterie::gateway::http::Converse(data[0], {reinterpret_cast<const char*>(data) + 1, size - 1});
  return 0;
}
