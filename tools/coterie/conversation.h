#ifndef COTERIE_TOOLS_COTERIE_CONVERSATION_H_
#define COTERIE_TOOLS_COTERIE_CONVERSATION_H_

#include <cstddef>
#include <deque>
#include <string>

#include "coterie/v1/generation.pb.h"
#include "tools/coterie/question.h"

namespace coterie::command {

// What was said so far in `coterie chat`. Keeps whole turns and forgets the oldest ones beyond a number of
// bytes: the model's context is bounded, and so is a request.
class Conversation {
 public:
  // Far above the context of the models we serve; the gateway has the last word.
  static constexpr size_t kMaxBytes = 256 * 1024;

  // The request for the next question: system text, turns, question.
  v1::GenerateRequest Ask(const QuestionOptions& options, const std::string& question) const;
  // Remembers a turn that was answered, also one that was cut short.
  void Remember(std::string question, std::string answer);
  // The oldest turn goes; false when there is none.
  bool ForgetOldest();
  void Clear();
  size_t n_turns() const { return turns_.size(); }

 private:
  struct Turn {
    std::string question;
    std::string answer;
  };
  std::deque<Turn> turns_;
  size_t n_bytes_ = 0;
};

}  // namespace coterie::command

#endif  // COTERIE_TOOLS_COTERIE_CONVERSATION_H_
