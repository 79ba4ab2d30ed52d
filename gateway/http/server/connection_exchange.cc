#include "gateway/http/server/connection_exchange.h"

namespace coterie::gateway::http {

void ConnectionExchange::Respond(HttpResponse response) {
  Post([self = shared_from_this(), shared = std::make_shared<HttpResponse>(std::move(response))] {
    self->connection_->Respond(self.get(), std::move(*shared));
  });
}

void ConnectionExchange::WhenGone(std::function<void()> gone) {
  Post([self = shared_from_this(), gone = std::move(gone)]() mutable {
    if (!self->over_) {
      self->when_gone_ = std::move(gone);
    } else if (self->gone_) {
      gone();
    }
  });
}

void ConnectionExchange::Over(bool gone) {
  over_ = true;
  gone_ = gone;
  const std::function<void()> callback = std::move(when_gone_);
  when_gone_ = nullptr;
  if (gone && callback) callback();
}

}  // namespace coterie::gateway::http
