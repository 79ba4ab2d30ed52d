#ifndef COTERIE_GATEWAY_ANSWER_EVENT_QUEUE_H_
#define COTERIE_GATEWAY_ANSWER_EVENT_QUEUE_H_

#include <deque>

#include "gateway/answer/events.h"

namespace coterie::gateway {

// Events that a client has not taken yet, in order. Text that follows text becomes one event with it, so a
// slow reader costs what its tokens cost, and credit bounds those. Not thread-safe.
class EventQueue {
 public:
  void Push(AnswerEvent event);
  bool empty() const { return events_.empty(); }
  AnswerEvent Pop();  // not of an empty one
  void Clear() { events_.clear(); }

 private:
  std::deque<AnswerEvent> events_;
};

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_ANSWER_EVENT_QUEUE_H_
