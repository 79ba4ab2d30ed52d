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

// What stands in `text` before and behind the last `content`.
std::optional<std::string_view> Before(std::string_view text, std::string_view content) {
  const size_t at = text.rfind(content);
  return at == std::string_view::npos ? std::nullopt : std::optional(text.substr(0, at));
}
std::optional<std::string_view> Behind(std::string_view text, std::string_view content) {
  const size_t at = text.rfind(content);
  return at == std::string_view::npos ? std::nullopt : std::optional(text.substr(at + content.size()));
}

// A control token in a text of the template's, and whether nothing but white space stands between it and the
// text's beginning or end (no other control token either).
struct Found {
  int32_t id;
  bool first;
  bool last;
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
      found.push_back({id, !seen_text && found.empty(), true});
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
    // Some templates want the last message to be the user's, or want to be asked for an answer.
    continued_ = Render(chat, {question, answer, follow_up}, false);
    if (!continued_) continued_ = Render(chat, {question, answer, follow_up}, true);
    if (tokenizer.special_ids().bos >= 0) openers_.insert(tokenizer.special_ids().bos);
    AddGenerationPrompt(Render(chat, {question}, false), Render(chat, {question}, true));
    // Before the first content of all no turn has ended yet.
    if (const std::optional<std::string> first = Render(chat, {system, question}, false)) {
      if (const auto before = Before(*first, kSystem)) AddAll(*before);
    }
    for (const std::optional<std::string>* text : {&answered_, &continued_}) {
      if (!*text) continue;
      for (const std::string_view content : {kQuestion, kAnswer, kFollowUp}) {
        if (const auto before = Before(**text, content)) AddDirectlyBefore(*before);
      }
    }
  }

  std::optional<int32_t> Find() const {
    if (answered_) {
      const auto tail = Behind(*answered_, kAnswer);
      for (const Found& token : Controls(tokenizer_, tail.value_or(""))) {
        if (!openers_.contains(token.id)) return token.id;
      }
    }
    if (!continued_) return std::nullopt;
    const auto rest = Behind(*continued_, kAnswer);
    const auto between = rest ? Before(*rest, kFollowUp) : std::nullopt;
    for (const Found& token : Controls(tokenizer_, between.value_or(""))) {
      if (token.first && !openers_.contains(token.id)) return token.id;
    }
    return std::nullopt;
  }

 private:
  void AddAll(std::string_view text) {
    for (const Found& token : Controls(tokenizer_, text)) openers_.insert(token.id);
  }
  void AddDirectlyBefore(std::string_view text) {
    const std::vector<Found> found = Controls(tokenizer_, text);
    if (!found.empty() && found.back().last) openers_.insert(found.back().id);
  }
  // What asking for an answer adds opens the assistant's turn.
  void AddGenerationPrompt(const std::optional<std::string>& without,
                           const std::optional<std::string>& with) {
    if (!without || !with) return;
    const auto differ = std::mismatch(with->begin(), with->end(), without->begin(), without->end());
    AddAll(std::string_view(*with).substr(static_cast<size_t>(differ.first - with->begin())));
  }

  const Tokenizer& tokenizer_;
  std::optional<std::string> answered_;   // question, answer
  std::optional<std::string> continued_;  // question, answer, follow-up
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
