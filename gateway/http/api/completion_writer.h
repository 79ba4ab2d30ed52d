#ifndef COTERIE_GATEWAY_HTTP_API_COMPLETION_WRITER_H_
#define COTERIE_GATEWAY_HTTP_API_COMPLETION_WRITER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "gateway/answer/events.h"
#include "gateway/http/json_writer.h"
#include "gateway/http/server/http_request.h"

namespace coterie::gateway::http {

// OpenAI's objects for answers, as text. Clients depend on every field that stands here, null ones too.

// Collects the log-probabilities of one choice, in the shape of its endpoint.
class LogprobsWriter {
 public:
  explicit LogprobsWriter(bool chat) : chat_(chat) {}
  void Append(const TextLogprobs& token);
  void Append(const PromptEvent& prompt);  // of a completion; the first token's values are null
  bool empty() const { return n_ == 0; }
  // The object of what was appended since the last call; offsets into the text go on.
  std::string Take();

 private:
  void AppendChat(const TextLogprobs& token);
  void AppendPlain(const TextLogprobs& token);
  void AppendPlace(const DescribedToken& token);  // what it is, and where it stands

  const bool chat_;
  size_t n_ = 0;
  uint64_t text_offset_ = 0;  // in characters
  std::string content_;       // of a chat
  std::string tokens_, values_, top_, offsets_;
};

// What is the same in every piece of an answer.
struct AnswerFrame {
  bool chat = true;
  std::string id;
  int64_t created = 0;
  std::string model;        // who answers: an expert, "base"
  std::string fingerprint;  // the numerics class; empty: not known yet
  bool null_usage = false;  // a stream that ends with its usage says null before
};

// A piece of a streamed answer, one of whose parts are absent.
struct ChunkParts {
  size_t index = 0;
  bool role = false;  // the first of a chat's choice
  std::optional<std::string_view> text;
  std::string_view logprobs;  // JSON; empty: null
  const FinishEvent* finish = nullptr;
  const RouteEvent* route = nullptr;  // told once, in the field `coterie`
};
// Appends it as an event: "data: {…}\n\n".
void AppendChunk(const AnswerFrame& frame, const ChunkParts& parts, std::string* out);
void AppendUsageChunk(const AnswerFrame& frame, const UsageCount& usage, std::string* out);
void AppendErrorEvent(std::string_view error_body, std::string* out);

struct WholeChoice {
  std::string text;
  std::string logprobs;  // JSON; empty: null
  FinishEvent finish;
};
std::string WholeAnswer(const AnswerFrame& frame, const std::vector<WholeChoice>& choices,
                        const UsageCount& usage, const RouteEvent& route);

// Who answers by this decision: "base", a name, or several joined by "+".
std::string ModelOf(const Decision& decision);
void WriteRoute(const RouteEvent& route, JsonWriter* json);
// The same as headers, x-coterie-*.
void AddRouteHeaders(const RouteEvent& route, HeaderFields* headers);
void WriteUsage(const UsageCount& usage, JsonWriter* json);

}  // namespace coterie::gateway::http

#endif  // COTERIE_GATEWAY_HTTP_API_COMPLETION_WRITER_H_
