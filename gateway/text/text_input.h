#ifndef COTERIE_GATEWAY_TEXT_TEXT_INPUT_H_
#define COTERIE_GATEWAY_TEXT_TEXT_INPUT_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace coterie::gateway {

struct ChatMessage {
  std::string role;
  std::string content;
};

// A question: a prompt as it is, or a conversation.
struct TextInput {
  std::optional<std::string> prompt;
  std::vector<ChatMessage> chat;

  bool empty() const { return !prompt && chat.empty(); }
  // What is asked: the prompt, or the last message of the user (the last of all without one).
  std::string_view QuestionText() const;
  // That, and before it the user's messages that came earlier: `max` at most, the oldest first, and of a
  // longer conversation max/2 at least. The oldest are left out max/2 at a time, so that most questions begin
  // where the one before began and only what is new is embedded. Earlier ones that are empty are left out.
  std::vector<std::string> UserMessages(size_t max) const;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_TEXT_TEXT_INPUT_H_
