// What comes over HTTP: bytes of a connection, cut where the input says, as far as requests of the core.
// Whatever is accepted keeps the core's promises, and whatever is answered is JSON.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "common/check.h"
#include "common/utf8.h"
#include "gateway/http/api/json_object.h"
#include "gateway/http/api/status_response.h"
#include "gateway/http/server/request_parser.h"
#include "tests/fuzz/http_checks.h"

namespace coterie::gateway::http {
namespace {

ParserLimits SmallParserLimits() {
  ParserLimits limits;
  limits.max_head_bytes = 512;
  limits.max_target_bytes = 64;
  limits.max_headers = 8;
  limits.max_body_bytes = 1024;
  return limits;
}

void CheckRequest(const HttpRequest& request, const ParserLimits& limits) {
  COTERIE_CHECK(request.path == "*" || (!request.path.empty() && request.path.front() == '/'));
  COTERIE_CHECK(IsWellFormed(request.path));
  COTERIE_CHECK_LE(request.body.size(), limits.max_body_bytes);
  COTERIE_CHECK_LE(request.headers.size(), limits.max_headers);
  COTERIE_CHECK(IsRequestId(request.id));
  const StatusOr<nlohmann::json> body = ParseBody(request.body);
  if (!body.ok()) return CheckError(StatusResponse(body.status()));
  CheckBody(*body, request);
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
