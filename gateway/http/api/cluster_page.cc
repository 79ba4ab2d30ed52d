// /v1/cluster: the gateway and its workers at this moment, as ClusterService.Status has them.
#include <string>
#include <utility>
#include <vector>

#include "common/utf8.h"
#include "common/version.h"
#include "gateway/core/expert_holders.h"
#include "gateway/http/api/endpoints.h"
#include "gateway/http/json_writer.h"

namespace coterie::gateway::http {
namespace {

void WriteWorker(const WorkerReport& report, JsonWriter* json) {
  const WorkerIdentity& identity = report.identity;
  json->BeginObject().Key("id").String(identity.worker_id).Key("address").String(report.address);
  json->Key("health").String(NameOf(report.health)).Key("message").String(Printable(report.message));
  json->Key("device").String(identity.device).Key("device_name").String(Printable(identity.device_name));
  json->Key("running").Uint(report.state.running).Key("waiting").Uint(report.state.waiting);
  json->Key("max_running").Uint(identity.max_running).Key("max_waiting").Uint(identity.max_waiting);
  json->Key("kv_blocks_used").Uint(report.state.kv_blocks_used);
  json->Key("kv_blocks_total").Uint(identity.kv_blocks);
  json->Key("adapters_resident").Uint(report.state.adapters_resident);
  json->Key("adapter_slots").Uint(identity.adapter_slots);
  json->Key("tokens_per_second").Number(report.state.tokens_per_second);
  json->Key("ejected_seconds").Number(absl::ToDoubleSeconds(report.ejected_for)).EndObject();
}

// Where those experts lie that are asked for most, which are at most as many as have metrics of their own:
// the table of a whole catalogue would be work for every reader.
void WriteResident(const GatewayCore& core, const NamePatterns* allowed, JsonWriter* json) {
  const auto router = core.routers->Current();
  for (const std::string& name : core.metrics->experts.Named()) {
    if (allowed != nullptr && !allowed->Match(name)) continue;
    const auto entry = router->catalogue().Find(name);
    if (entry == nullptr) continue;  // the base, or removed
    const std::vector<std::string> holders = HoldersOf(*core.workers, entry->live);
    if (holders.empty()) continue;
    json->BeginObject().Key("name").String(name).Key("workers").BeginArray();
    for (const std::string& id : holders) json->String(id);
    json->EndArray().EndObject();
  }
}

std::string ClusterPage(const Call& call) {
  const GatewayCore& core = *call.core();
  const Catalogue& catalogue = core.routers->Current()->catalogue();
  std::string page;
  JsonWriter json(&page);
  json.BeginObject().Key("object").String("cluster").Key("version").String(kVersion);
  json.Key("base_model").String(core.text->name()).Key("router_policy").String(core.router_policy);
  json.Key("catalogue_generation").Uint(catalogue.generation).Key("experts").Uint(catalogue.entries.size());
  json.Key("draining").Bool(call.api->draining());
  json.Key("requests_running").Uint(core.admission->running());
  json.Key("requests_waiting").Uint(core.admission->waiting());
  json.Key("workers").BeginArray();
  for (const WorkerReport& report : core.workers->Report()) WriteWorker(report, &json);
  json.EndArray().Key("resident").BeginArray();
  WriteResident(core, call.pass == nullptr ? nullptr : call.pass->experts().get(), &json);
  json.EndArray().EndObject();
  return page;
}

}  // namespace

void AnswerCluster(const Call& call) {
  call.OnPool([call] { call.Respond(HttpResponse::Json(ClusterPage(call))); });
}

void AnswerMap(const Call& call) {
  call.OnPool([call] {
    call.Respond(HttpResponse::Json(
        call.api->map().Page(call.pass == nullptr ? nullptr : call.pass->experts().get())));
  });
}

}  // namespace coterie::gateway::http
