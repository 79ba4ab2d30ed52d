#ifndef COTERIE_GATEWAY_TEXT_TEXT_INPUT_H_
#define COTERIE_GATEWAY_TEXT_TEXT_INPUT_H_

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
  // What is embedded to route it: the prompt, or the last message of the user (the last of all without one).
  std::string_view QuestionText() const;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_TEXT_TEXT_INPUT_H_
