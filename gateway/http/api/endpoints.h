#ifndef COTERIE_GATEWAY_HTTP_API_ENDPOINTS_H_
#define COTERIE_GATEWAY_HTTP_API_ENDPOINTS_H_

#include <functional>
#include <memory>
#include <nlohmann/json.hpp>

#include "gateway/http/api/api.h"
#include "gateway/http/server/exchange.h"

// Each answers one request, at once or later. Those with a body are called on the connection's thread or, for
// a long body, on the work pool; the others on the connection's thread.
namespace coterie::gateway::http {

struct Call {
  std::shared_ptr<Api> api;
  std::shared_ptr<Exchange> exchange;
  std::shared_ptr<AccessPass> pass = nullptr;  // of the caller's key; null where the gateway has none

  const GatewayCore* core() const { return api->core(); }
  const HttpRequest& request() const { return exchange->request(); }
  void Respond(HttpResponse response) const { exchange->Respond(std::move(response)); }
  void Refuse(const Status& status) const;
  // Runs `work` on the gateway's work pool, behind what was admitted: it is no work that admission knows of
  // (long bodies to parse, pages), and a flood of it is nobody else's delay. Or refuses the request when too
  // much waits there.
  void OnPool(std::function<void()> work) const;
};

void AnswerHealth(const Call& call);
void AnswerReady(const Call& call);
void AnswerVersion(const Call& call);
void AnswerMetrics(const Call& call);
void AnswerModels(const Call& call);
void AnswerModel(const Call& call);  // /v1/models/{name}
void AnswerCluster(const Call& call);
void AnswerMap(const Call& call);

void AnswerChat(const Call& call, const nlohmann::json& body);
void AnswerCompletion(const Call& call, const nlohmann::json& body);
void AnswerEmbeddings(const Call& call, const nlohmann::json& body);
void AnswerTokenize(const Call& call, const nlohmann::json& body);
void AnswerDetokenize(const Call& call, const nlohmann::json& body);
void AnswerRoute(const Call& call, const nlohmann::json& body);

// Of the operators' listener.
void AnswerLoadLora(const Call& call, const nlohmann::json& body);
void AnswerUnloadLora(const Call& call, const nlohmann::json& body);

}  // namespace coterie::gateway::http

#endif  // COTERIE_GATEWAY_HTTP_API_ENDPOINTS_H_
