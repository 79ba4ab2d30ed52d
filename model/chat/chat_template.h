#ifndef COTERIE_MODEL_CHAT_CHAT_TEMPLATE_H_
#define COTERIE_MODEL_CHAT_CHAT_TEMPLATE_H_

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "common/status.h"
#include "model/chat/jinja/limits.h"
#include "model/chat/jinja/value.h"

namespace coterie {

// A run of prompt text. Only trusted text (what the model's template wrote) may hold special tokens;
// untrusted text came from the caller and is text whatever it spells. The runs belong to one string: a
// tokenizer looks for special tokens inside of each trusted run and otherwise tokenizes across the borders.
struct PromptPiece {
  std::string text;  // UTF-8, never empty
  bool trusted;
};

struct RenderedPrompt {
  std::vector<PromptPiece> pieces;  // neighbours differ in `trusted`
  std::string Text() const;         // all of it
};

struct ChatMessage {
  std::string role;
  std::string content;
};

struct ChatRequest {
  // The conversation, as JSON (an array of objects): any field a template may read (role, content,
  // tool_calls, ...).
  std::string messages_json;
  // Functions the model may call, as JSON (an array); empty: none.
  std::string tools_json;
  // More variables for the template, as JSON (an object); empty: none. They may not replace the names set
  // here.
  std::string extra_json;
  // Ends the prompt where the assistant's answer begins.
  bool add_generation_prompt = true;
  // What strftime_now() reads; templates that date their system prompt use it.
  absl::Time now = absl::Now();
  absl::TimeZone time_zone = absl::LocalTimeZone();

  static ChatRequest Of(const std::vector<ChatMessage>& messages);
};

// The chat template of a model: Jinja as transformers renders it (trim_blocks, lstrip_blocks, immutable
// values, loop controls, generation tags, tojson, raise_exception, strftime_now). Immutable; any number of
// threads may render.
class ChatTemplate {
 public:
  // By their name in templates: {"bos_token", "<s>"}, ...
  using SpecialTokens = std::vector<std::pair<std::string, std::string>>;

  // The template of a model that has none: Render says so.
  ChatTemplate() = default;
  // An empty source gives the template of a model without one. InvalidArgument or ResourceExhausted name the
  // line: see jinja/parser.h. Filters, tests and tags that we do not know are errors only where they are
  // reached.
  static StatusOr<ChatTemplate> Create(std::string_view source, SpecialTokens special_tokens,
                                       const jinja::Limits& limits = {});

  // The template of a model whose own Create refused: prompts need none. Render says `why`.
  static ChatTemplate Unusable(const Status& why);

  // InvalidArgument: the request is malformed, the template refuses it (the message is then the template's
  // own, from raise_exception), or it cannot digest it (the message names the line). ResourceExhausted:
  // beyond the limits. FailedPrecondition: the model has no template, or an unusable one.
  StatusOr<RenderedPrompt> Render(const ChatRequest& request) const;

  bool present() const { return parsed_ != nullptr; }

 private:
  struct Parsed;
  std::shared_ptr<const Parsed> parsed_;
  Status unusable_;
};

}  // namespace coterie

#endif  // COTERIE_MODEL_CHAT_CHAT_TEMPLATE_H_
