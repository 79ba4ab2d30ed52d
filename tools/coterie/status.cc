#include <cstdio>

#include "absl/strings/ascii.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "tools/coterie/answer_view.h"
#include "tools/coterie/command.h"

namespace coterie::command {
namespace {

std::string HealthName(v1::WorkerHealth health) {
  return absl::AsciiStrToLower(absl::StripPrefix(v1::WorkerHealth_Name(health), "WORKER_HEALTH_"));
}

// "cpu", "cuda:0 NVIDIA H200".
std::string DeviceWords(const v1::WorkerStatus& worker) {
  if (worker.device_name().empty() || worker.device() == "cpu") return worker.device();
  return absl::StrCat(worker.device(), " ", worker.device_name());
}

nlohmann::json ToJson(const google::protobuf::RepeatedPtrField<v1::EndToken>& ends) {
  nlohmann::json list = nlohmann::json::array();
  for (const v1::EndToken& end : ends) {
    nlohmann::json one = {{"id", end.id()}, {"text", end.text()}};
    if (!end.source().empty()) one["source"] = end.source();
    list.push_back(std::move(one));
  }
  return list;
}

nlohmann::json ToJson(const v1::StatusResponse& status) {
  nlohmann::json workers = nlohmann::json::array();
  for (const v1::WorkerStatus& w : status.workers()) {
    workers.push_back({{"address", w.address()},
                       {"worker_id", w.worker_id()},
                       {"health", HealthName(w.health())},
                       {"message", w.message()},
                       {"device", w.device()},
                       {"device_name", w.device_name()},
                       {"batch_invariant", w.batch_invariant()},
                       {"numerics_class", w.numerics_class()},
                       {"running", w.running()},
                       {"waiting", w.waiting()},
                       {"kv_blocks_used", w.kv_blocks_used()},
                       {"kv_blocks_total", w.kv_blocks_total()},
                       {"adapters_resident", w.adapters_resident()},
                       {"adapter_slots", w.adapter_slots()},
                       {"tokens_per_second", w.tokens_per_second()},
                       {"prefill_tokens_per_second", w.prefill_tokens_per_second()},
                       {"adapter_load_bytes_per_second", w.adapter_load_bytes_per_second()},
                       {"answer_tokens", w.answer_tokens()},
                       {"bytes_between_workers", w.bytes_between_workers()},
                       {"ejected_seconds", w.ejected_seconds()},
                       {"ejections", w.ejections()},
                       {"end_tokens", ToJson(w.end_tokens())}});
  }
  return {{"gateway_id", status.gateway_id()},
          {"version", status.version()},
          {"base_model", status.base_model()},
          {"base_digest", status.base_digest()},
          {"tokenizer_digest", status.tokenizer_digest()},
          {"embedder_digest", status.embedder_digest()},
          {"catalogue_generation", status.catalogue_generation()},
          {"experts", status.experts()},
          {"requests_running", status.requests_running()},
          {"requests_waiting", status.requests_waiting()},
          {"router_policy", status.router_policy()},
          {"uptime_seconds", status.uptime_seconds()},
          {"end_tokens", ToJson(status.end_tokens())},
          {"findings", std::vector<std::string>(status.findings().begin(), status.findings().end())},
          {"workers", workers}};
}

void Print(const v1::StatusResponse& status) {
  std::printf("%s  base %s (%.12s)  %d experts, catalogue generation %d  router %s  up %s\n",
              Printable(status.gateway_id()).c_str(), Printable(status.base_model()).c_str(),
              Printable(status.base_digest()).c_str(), static_cast<int>(status.experts()),
              static_cast<int>(status.catalogue_generation()), status.router_policy().c_str(),
              FormatSeconds(status.uptime_seconds()).c_str());
  std::printf("requests: %d running, %d waiting\n", static_cast<int>(status.requests_running()),
              static_cast<int>(status.requests_waiting()));
  std::string ends;
  for (const v1::EndToken& end : status.end_tokens())
    absl::StrAppend(&ends, ends.empty() ? "" : ", ", end.id(), " ", Printable(end.text()));
  std::printf("answers end at: %s\n\n", ends.empty() ? "no token (max_tokens only)" : ends.c_str());
  std::vector<std::vector<std::string>> rows = {
      {"worker", "address", "health", "device", "class", "running", "waiting", "KV", "experts", "tokens/s"}};
  for (const v1::WorkerStatus& w : status.workers()) {
    rows.push_back({w.worker_id(), w.address(), HealthName(w.health()), DeviceWords(w), w.numerics_class(),
                    absl::StrCat(w.running()), absl::StrCat(w.waiting()),
                    absl::StrCat(w.kv_blocks_used(), "/", w.kv_blocks_total()),
                    absl::StrCat(w.adapters_resident(), "/", w.adapter_slots()),
                    absl::StrFormat("%.1f", w.tokens_per_second())});
  }
  std::printf("%s", FormatTable(rows).c_str());
  for (const v1::WorkerStatus& w : status.workers()) {
    if (!w.message().empty())
      std::printf("%s: %s\n", Printable(w.address()).c_str(), Printable(w.message()).c_str());
  }
  if (!status.findings().empty()) std::printf("\n");
  for (const std::string& finding : status.findings()) std::printf("%s\n", Printable(finding).c_str());
}

}  // namespace

int RunStatus(std::span<const std::string> args) {
  Connection connection;
  FlagSet flags("coterie status", "Shows the gateway and its workers.");
  AddConnectionFlags(&flags, &connection);
  int exit_code = kDone;
  if (!ParseOrExplain(&flags, args, &exit_code)) return exit_code;
  connection.options.cancellation = InterruptCancellation();

  client::Client client(connection.options);
  const StatusOr<v1::StatusResponse> status = client.ClusterStatus();
  if (!status.ok()) return Fail(status.status(), connection.json);
  if (connection.json) {
    std::printf("%s\n", Dump(ToJson(*status)).c_str());
  } else {
    Print(*status);
  }
  return kDone;
}

}  // namespace coterie::command
