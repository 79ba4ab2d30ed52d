#include "gateway/answer/event_queue.h"

#include <iterator>
#include <utility>

namespace coterie::gateway {
namespace {

void AppendText(TextEvent&& from, TextEvent* to) {
  to->text += from.text;
  to->token_ids.insert(to->token_ids.end(), from.token_ids.begin(), from.token_ids.end());
  to->logprobs.insert(to->logprobs.end(), std::make_move_iterator(from.logprobs.begin()),
                      std::make_move_iterator(from.logprobs.end()));
}

}  // namespace

void EventQueue::Push(AnswerEvent event) {
  TextEvent* text = std::get_if<TextEvent>(&event);
  TextEvent* last = events_.empty() ? nullptr : std::get_if<TextEvent>(&events_.back());
  if (text != nullptr && last != nullptr) {
    AppendText(std::move(*text), last);
  } else {
    events_.push_back(std::move(event));
  }
}

AnswerEvent EventQueue::Pop() {
  AnswerEvent event = std::move(events_.front());
  events_.pop_front();
  return event;
}

}  // namespace coterie::gateway
