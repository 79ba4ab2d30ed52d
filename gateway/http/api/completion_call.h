#ifndef COTERIE_GATEWAY_HTTP_API_COMPLETION_CALL_H_
#define COTERIE_GATEWAY_HTTP_API_COMPLETION_CALL_H_

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/mutex.h"
#include "gateway/answer/event_queue.h"
#include "gateway/answer/generation.h"
#include "gateway/core/gateway_core.h"
#include "gateway/http/api/completion_ask.h"
#include "gateway/http/api/completion_writer.h"
#include "gateway/http/server/exchange.h"

namespace coterie::gateway::http {

// The answers to one chat or completion, one for each choice, sent as they come or all at once. The head
// waits for the first text, so that whatever goes wrong before it has its own status. What a client has not
// read yet waits here as events; credit bounds them, since tokens are acknowledged when the kernel has taken
// them. A client that goes cancels all of it. Thread-safe; what is not guarded belongs to the connection's
// thread.
class CompletionCall : public std::enable_shared_from_this<CompletionCall> {
 public:
  // On any thread.
  static void Start(const GatewayCore* core, std::shared_ptr<Exchange> exchange, CompletionAsk ask);

 private:
  class Sink;
  struct Choice {
    explicit Choice(bool chat) : logprobs(chat) {}
    std::shared_ptr<Generation> generation;
    std::optional<RouteEvent> route;
    std::optional<FinishEvent> finish;
    std::string text;  // of an answer that is sent whole
    std::string echo;
    std::string echo_logprobs;  // JSON, of a stream
    LogprobsWriter logprobs;
    bool begun = false;  // something of it was written
    uint32_t n_unacknowledged = 0;
  };
  // What the answers have said since it was last looked at.
  struct Inbox {
    EventQueue events;
    std::optional<Status> end;
  };

  CompletionCall(const GatewayCore* core, std::shared_ptr<Exchange> exchange, CompletionAsk ask);
  Status Begin();
  void Push(size_t index, std::optional<AnswerEvent> event, const Status* end);
  void Wake();

  void Look();
  void Take(size_t index, AnswerEvent event);
  void TakeText(size_t index, TextEvent event);
  void WriteParts(size_t index, ChunkParts parts);
  void Flush();
  void FinishWhole();
  void FinishStream();
  void Fail(const Status& status);
  void Acknowledge();
  void CancelAll();
  void BeginStream();
  UsageCount SumUsage() const;
  const RouteEvent& FirstRoute() const;

  const GatewayCore* const core_;
  const std::shared_ptr<Exchange> exchange_;
  CompletionAsk ask_;
  AnswerFrame frame_;
  std::vector<Choice> choices_;
  std::string bytes_;  // of a stream, to be sent next
  bool stream_begun_ = false;
  bool over_ = false;

  std::atomic<bool> awake_ = false;  // a look was posted
  Mutex mutex_;
  std::vector<Inbox> inboxes_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace coterie::gateway::http

#endif  // COTERIE_GATEWAY_HTTP_API_COMPLETION_CALL_H_
