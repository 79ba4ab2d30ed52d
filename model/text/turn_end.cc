#include "model/text/turn_end.h"

#include <algorithm>
#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace coterie {
namespace {

// Contents that no template writes itself and no filter changes.
constexpr std::string_view kSystem = "coteriesystem";
constexpr std::string_view kQuestion = "coteriequestion";
constexpr std::string_view kAnswer = "coterieanswer";
constexpr std::string_view kFollowUp = "coteriefollowup";

std::optional<std::string> Render(const ChatTemplate& chat, const std::vector<ChatMessage>& messages,
                                  bool add_generation_prompt) {
  ChatRequest request = ChatRequest::Of(messages);
  request.add_generation_prompt = add_generation_prompt;
  const StatusOr<RenderedPrompt> prompt = chat.Render(request);
  if (!prompt.ok()) return std::nullopt;
  return prompt->Text();
}

// The parts of `text` before and behind the last `content`.
std::optional<std::string_view> Before(std::string_view text, std::string_view content) {
  const size_t at = text.rfind(content);
  return at == std::string_view::npos ? std::nullopt : std::optional(text.substr(0, at));
}
std::optional<std::string_view> Behind(std::string_view text, std::string_view content) {
  const size_t at = text.rfind(content);
  return at == std::string_view::npos ? std::nullopt : std::optional(text.substr(at + content.size()));
}

// A control token in a text of the template's.
struct Found {
  int32_t id;
  bool leads;  // nothing but white space and other control tokens stand before it
  bool last;   // nothing but white space stands behind it
};

std::vector<Found> Controls(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<Found> found;
  const StatusOr<std::vector<int32_t>> ids =
      tokenizer.Encode(text, {.parse_special = true, .continues = true});
  if (!ids.ok()) return found;
  const auto is_blank = [&](int32_t id) {
    const std::string words = tokenizer.Decode(std::span(&id, 1), /*skip_special=*/false);
    return words.find_first_not_of(" \t\r\n") == std::string::npos;
  };
  bool seen_text = false;
  for (const int32_t id : *ids) {
    if (LooksLikeControl(tokenizer, id)) {
      if (!found.empty()) found.back().last = false;
      found.push_back({id, !seen_text, true});
    } else if (!is_blank(id)) {
      seen_text = true;
      if (!found.empty()) found.back().last = false;
    }
  }
  return found;
}

class TurnEndFinder {
 public:
  TurnEndFinder(const Tokenizer& tokenizer, const ChatTemplate& chat) : tokenizer_(tokenizer) {
    const ChatMessage system{"system", std::string(kSystem)};
    const ChatMessage question{"user", std::string(kQuestion)};
    const ChatMessage answer{"assistant", std::string(kAnswer)};
    const ChatMessage follow_up{"user", std::string(kFollowUp)};
    answered_ = Render(chat, {question, answer}, false);
    // Some templates want the last message to be the user's, some want to be asked for an answer, and some
    // close nothing unless they are asked for one.
    continued_ = Render(chat, {question, answer, follow_up}, false);
    continued_and_asked_ = Render(chat, {question, answer, follow_up}, true);
    if (tokenizer.special_ids().bos >= 0) openers_.insert(tokenizer.special_ids().bos);
    // Before the first content of all no turn has ended yet.
    if (const std::optional<std::string> first = Render(chat, {system, question}, false)) {
      if (const auto before = Before(*first, kSystem)) AddAll(*before);
    }
    const std::optional<std::string> asked = Render(chat, {question}, true);
    // Tokens that begin a conversation end no turn, whatever system prompt the template writes of its own.
    if (const auto before = asked ? Before(*asked, kQuestion) : std::nullopt) AddBeginning(*before);
    AddGenerationPrompt(Render(chat, {question}, false), asked);
    for (const std::optional<std::string>* text : {&answered_, &continued_, &continued_and_asked_}) {
      if (!*text) continue;
      for (const std::string_view content : {kQuestion, kAnswer, kFollowUp}) {
        if (const auto before = Before(**text, content)) AddDirectlyBefore(*before);
      }
    }
  }

  std::optional<int32_t> Find() const {
    const auto tail = answered_ ? Behind(*answered_, kAnswer) : std::nullopt;
    for (const Found& token : Controls(tokenizer_, tail.value_or(""))) {
      if (!openers_.contains(token.id)) return token.id;
    }
    for (const std::optional<std::string>* text : {&continued_, &continued_and_asked_}) {
      const auto token = FirstBehindAnswer(*text);
      if (token && !openers_.contains(*token)) return token;
    }
    return std::nullopt;
  }

 private:
  // Between the answer and the message after it.
  std::optional<int32_t> FirstBehindAnswer(const std::optional<std::string>& continued) const {
    const auto rest = continued ? Behind(*continued, kAnswer) : std::nullopt;
    const auto between = rest ? Before(*rest, kFollowUp) : std::nullopt;
    const std::vector<Found> found = Controls(tokenizer_, between.value_or(""));
    return !found.empty() && found[0].leads ? std::optional(found[0].id) : std::nullopt;
  }

  void AddAll(std::string_view text) {
    for (const Found& token : Controls(tokenizer_, text)) openers_.insert(token.id);
  }
  // The first control token that is not the one before all text.
  void AddBeginning(std::string_view text) {
    for (const Found& token : Controls(tokenizer_, text)) {
      if (!token.leads) return;
      if (token.id == tokenizer_.special_ids().bos) continue;
      openers_.insert(token.id);
      return;
    }
  }
  void AddDirectlyBefore(std::string_view text) {
    const std::vector<Found> found = Controls(tokenizer_, text);
    if (!found.empty() && found.back().last) openers_.insert(found.back().id);
  }

  // The text that add_generation_prompt adds behind the question opens the turn of the assistant. But some
  // templates close the turn of the user only there (Qwen1.5's: "<|im_end|>\n<|im_start|>assistant\n"). So
  // its first token, unless known to open something, is no opener if it also comes first between an answer
  // and the message after it.
  void AddGenerationPrompt(const std::optional<std::string>& without,
                           const std::optional<std::string>& with) {
    const auto tail = without ? Behind(*without, kQuestion) : std::nullopt;
    const auto asked_tail = with ? Behind(*with, kQuestion) : std::nullopt;
    if (!tail || !asked_tail) return;
    // Token by token: "<|user|>" and "<|assistant|>" begin with the same characters.
    const std::vector<Found> closing = Controls(tokenizer_, *tail);
    const std::vector<Found> asking = Controls(tokenizer_, *asked_tail);
    auto added = std::mismatch(asking.begin(), asking.end(), closing.begin(), closing.end(),
                               [](const Found& a, const Found& b) { return a.id == b.id; })
                     .first;
    const bool closes_first =
        added == asking.begin() && added != asking.end() &&
        (added->id == FirstBehindAnswer(continued_) || added->id == FirstBehindAnswer(continued_and_asked_));
    if (closes_first) ++added;
    for (; added != asking.end(); ++added) openers_.insert(added->id);
  }

  const Tokenizer& tokenizer_;
  std::optional<std::string> answered_;             // question, answer
  std::optional<std::string> continued_;            // question, answer, follow-up
  std::optional<std::string> continued_and_asked_;  // the same, and what asks for an answer
  std::set<int32_t> openers_;
};

}  // namespace

bool LooksLikeControl(const Tokenizer& tokenizer, int32_t id) {
  if (tokenizer.IsSpecial(id)) return id != tokenizer.special_ids().unk;
  if (!tokenizer.IsAdded(id)) return false;
  const std::string_view token = tokenizer.TokenToPiece(id).value_or("");
  return token.size() > 4 && token.starts_with("<|") && token.ends_with("|>");
}

std::optional<int32_t> FindTurnEnd(const Tokenizer& tokenizer, const ChatTemplate& chat) {
  if (!chat.present()) return std::nullopt;
  return TurnEndFinder(tokenizer, chat).Find();
}

}  // namespace coterie
