#include "gateway/text/text_input.h"

#include <algorithm>

namespace coterie::gateway {

std::string_view TextInput::QuestionText() const {
  if (prompt) return *prompt;
  for (auto it = chat.rbegin(); it != chat.rend(); ++it) {
    if (it->role == "user") return it->content;
  }
  return chat.empty() ? std::string_view() : std::string_view(chat.back().content);
}

std::vector<std::string> TextInput::UserMessages(size_t max) const {
  std::vector<const std::string*> earlier;
  const std::string_view question = QuestionText();
  for (const ChatMessage& message : chat) {
    if (prompt || message.role != "user" || message.content.empty()) continue;
    if (message.content.data() != question.data()) earlier.push_back(&message.content);
  }
  size_t begin = 0;
  if (earlier.size() >= max) {
    const size_t step = std::max<size_t>(1, max / 2);
    const size_t too_many = earlier.size() + 1 - max;
    begin = std::min(earlier.size(), (too_many + step - 1) / step * step);
  }
  std::vector<std::string> messages;
  for (size_t i = begin; i < earlier.size(); ++i) messages.push_back(*earlier[i]);
  messages.emplace_back(question);
  return messages;
}

}  // namespace coterie::gateway
