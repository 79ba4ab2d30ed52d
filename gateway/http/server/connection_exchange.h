#ifndef COTERIE_GATEWAY_HTTP_SERVER_CONNECTION_EXCHANGE_H_
#define COTERIE_GATEWAY_HTTP_SERVER_CONNECTION_EXCHANGE_H_

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "gateway/http/server/connection.h"
#include "gateway/http/server/exchange.h"

namespace coterie::gateway::http {

// The exchange under way on a connection, or one that was.
class ConnectionExchange final : public Exchange, public std::enable_shared_from_this<ConnectionExchange> {
 public:
  ConnectionExchange(std::shared_ptr<Connection> connection, HttpRequest request)
      : connection_(std::move(connection)), request_(std::move(request)) {}

  const HttpRequest& request() const override { return request_; }
  void Post(std::function<void()> work) override { connection_->loop()->Post(std::move(work)); }
  void Respond(HttpResponse response) override;
  void WhenGone(std::function<void()> gone) override;
  void SetRoute(const char* route) override { connection_->SetRoute(this, route); }
  void BeginStream(HttpResponse response) override { connection_->BeginStream(this, std::move(response)); }
  bool writing() const override { return !over_ && connection_->sending(); }
  void Send(std::string bytes, std::function<void()> written) override {
    connection_->Send(this, std::move(bytes), std::move(written));
  }
  void EndStream(std::string bytes) override { connection_->EndStream(this, std::move(bytes)); }

  // For the connection: the answer is written, or its client has gone.
  void Over(bool gone);

 private:
  const std::shared_ptr<Connection> connection_;
  const HttpRequest request_;
  // The thread's.
  bool over_ = false;
  bool gone_ = false;
  std::function<void()> when_gone_;
};

}  // namespace coterie::gateway::http

#endif  // COTERIE_GATEWAY_HTTP_SERVER_CONNECTION_EXCHANGE_H_
