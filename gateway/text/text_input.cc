#include "gateway/text/text_input.h"

namespace coterie::gateway {

std::string_view TextInput::QuestionText() const {
  if (prompt) return *prompt;
  for (auto it = chat.rbegin(); it != chat.rend(); ++it) {
    if (it->role == "user") return it->content;
  }
  return chat.empty() ? std::string_view() : std::string_view(chat.back().content);
}

}  // namespace coterie::gateway
