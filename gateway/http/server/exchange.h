#ifndef COTERIE_GATEWAY_HTTP_SERVER_EXCHANGE_H_
#define COTERIE_GATEWAY_HTTP_SERVER_EXCHANGE_H_

#include <functional>
#include <string>

#include "gateway/http/server/http_request.h"
#include "gateway/http/server/http_response.h"

namespace coterie::gateway::http {

// One request and its answer, for whoever answers it. Every connection belongs to one thread, which must not
// be held: what computes goes elsewhere and comes back by Post. An exchange may outlive its connection; it
// then speaks to nobody.
class Exchange {
 public:
  virtual ~Exchange() = default;

  // Does not change, from any thread.
  virtual const HttpRequest& request() const = 0;

  // From any thread: runs `work` on the connection's thread; dropped when the server has stopped.
  virtual void Post(std::function<void()> work) = 0;
  // From any thread: the whole answer. The first one counts.
  virtual void Respond(HttpResponse response) = 0;
  // From any thread: `gone` is called once, on the connection's thread, if the client goes before the answer
  // is finished: at once if it has gone already, never after the end. May come again and replaces the last.
  virtual void WhenGone(std::function<void()> gone) = 0;

  // The rest is for the connection's thread, and does nothing once the client has gone.

  // Under which name the request is counted in /metrics; a literal.
  virtual void SetRoute(const char* route) = 0;

  // An answer in pieces begins: goes out with the first Send. `response` has no body.
  virtual void BeginStream(HttpResponse response) = 0;
  // Something is being written: no Send before its `written`.
  virtual bool writing() const = 0;
  // `written` is called when the kernel has taken it all.
  virtual void Send(std::string bytes, std::function<void()> written) = 0;
  // The last bytes, and with them the end of the body.
  virtual void EndStream(std::string bytes) = 0;
};

}  // namespace coterie::gateway::http

#endif  // COTERIE_GATEWAY_HTTP_SERVER_EXCHANGE_H_
