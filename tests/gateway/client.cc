#include "tests/gateway/client.h"

#include <chrono>

#include "net/grpc_time.h"

namespace coterie::gateway::testing {

Answer Ask(v1::GenerationService::Stub* stub, const v1::GenerateRequest& request,
           const std::function<void(const Answer&)>& each, grpc::ClientContext* context) {
  grpc::ClientContext own;
  if (context == nullptr) {
    context = &own;
    // No test waits longer, whatever breaks.
    context->set_deadline(net::GrpcDeadline(absl::Seconds(60)));
  }
  Answer answer;
  const auto reader = stub->Generate(context, request);
  v1::GenerateResponse response;
  while (reader->Read(&response)) {
    if (answer.n_messages++ == 0) answer.route_came_first = response.has_route();
    answer.finish_came_last = response.has_finish();
    switch (response.event_case()) {
      case v1::GenerateResponse::kRoute:
        answer.route = response.route();
        break;
      case v1::GenerateResponse::kDelta:
        answer.text += response.delta().text();
        answer.token_ids.insert(answer.token_ids.end(), response.delta().token_ids().begin(),
                                response.delta().token_ids().end());
        break;
      case v1::GenerateResponse::kNotice:
        answer.notices.push_back(response.notice());
        break;
      case v1::GenerateResponse::kFinish:
        answer.finish = response.finish();
        break;
      case v1::GenerateResponse::EVENT_NOT_SET:
        break;
    }
    if (each) each(answer);
  }
  answer.status = reader->Finish();
  return answer;
}

}  // namespace coterie::gateway::testing
