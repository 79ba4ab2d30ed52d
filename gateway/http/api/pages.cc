// What operators and their tools read: health, version, metrics, the list of models.
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "common/version.h"
#include "gateway/http/api/endpoints.h"
#include "gateway/http/api/status_response.h"
#include "gateway/http/json_writer.h"
#include "net/metrics_server.h"

namespace coterie::gateway::http {

// The process serves: nothing that restarting it could mend is looked at.
void AnswerHealth(const Call& call) { call.Respond(HttpResponse::Json(R"({"status":"ok"})")); }

// A request would be taken and find a worker.
void AnswerReady(const Call& call) {
  const size_t n_workers = call.core()->workers->ready();
  if (call.api->draining()) return call.Refuse(absl::UnavailableError("this gateway is draining"));
  if (n_workers == 0) return call.Refuse(absl::UnavailableError("no worker is ready"));
  std::string body;
  JsonWriter(&body).BeginObject().Key("status").String("ready").Key("workers").Uint(n_workers).EndObject();
  call.Respond(HttpResponse::Json(std::move(body)));
}

void AnswerVersion(const Call& call) {
  std::string body;
  JsonWriter json(&body);
  json.BeginObject().Key("version").String(kVersion).Key("base_model").String(call.core()->text->name());
  json.Key("base_digest").String(call.core()->text->base().ToHex()).EndObject();
  call.Respond(HttpResponse::Json(std::move(body)));
}

void AnswerMetrics(const Call& call) {
  // They speak of all tenants, and whoever has a key is one of them.
  if (call.pass != nullptr) {
    return call.Refuse(absl::PermissionDeniedError(
        "metrics are not for holders of API keys; read them where operators do (--metrics-port)"));
  }
  call.OnPool([call] {
    HttpResponse response = HttpResponse::Json(net::MetricsText(call.api->registry(), call.api->live()));
    response.type = net::kMetricsType;
    call.Respond(std::move(response));
  });
}

void AnswerModels(const Call& call) {
  call.OnPool([call] {
    HttpResponse response;
    response.body = call.pass == nullptr || call.pass->experts() == nullptr
                        ? call.api->models().Page()
                        : call.api->models().PageOf(*call.pass->experts());
    call.Respond(std::move(response));
  });
}

void AnswerModel(const Call& call) {
  const std::string name = call.request().path.substr(std::string_view("/v1/models/").size());
  StatusOr<std::string> entry =
      call.api->models().Entry(name, call.pass == nullptr ? nullptr : call.pass->experts().get());
  if (!entry.ok()) return call.Refuse(entry.status());
  call.Respond(HttpResponse::Json(*std::move(entry)));
}

}  // namespace coterie::gateway::http
