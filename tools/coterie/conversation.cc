#include "tools/coterie/conversation.h"

#include <utility>

namespace coterie::command {

v1::GenerateRequest Conversation::Ask(const QuestionOptions& options, const std::string& question) const {
  v1::GenerateRequest request = MakeGenerateRequest(options, question);
  v1::Chat chat;
  const auto add = [&chat](const std::string& role, const std::string& content) {
    v1::ChatMessage* message = chat.add_messages();
    message->set_role(role);
    message->set_content(content);
  };
  if (!options.system.empty()) add("system", options.system);
  for (const Turn& turn : turns_) {
    add("user", turn.question);
    add("assistant", turn.answer);
  }
  add("user", question);
  *request.mutable_chat() = std::move(chat);
  return request;
}

void Conversation::Remember(std::string question, std::string answer) {
  n_bytes_ += question.size() + answer.size();
  turns_.push_back({std::move(question), std::move(answer)});
  while (n_bytes_ > kMaxBytes && turns_.size() > 1) ForgetOldest();
}

bool Conversation::ForgetOldest() {
  if (turns_.empty()) return false;
  n_bytes_ -= turns_.front().question.size() + turns_.front().answer.size();
  turns_.pop_front();
  return true;
}

void Conversation::Clear() {
  turns_.clear();
  n_bytes_ = 0;
}

}  // namespace coterie::command
