#ifndef COTERIE_TESTS_GATEWAY_CLIENT_H_
#define COTERIE_TESTS_GATEWAY_CLIENT_H_

#include <grpcpp/grpcpp.h>

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "coterie/v1/generation.grpc.pb.h"

namespace coterie::gateway::testing {

// What a client saw of one answer.
struct Answer {
  grpc::Status status;
  v1::RouteDecision route;
  std::string text;
  std::vector<uint32_t> token_ids;
  std::vector<v1::Notice> notices;
  v1::Finish finish;
  int n_messages = 0;
  bool route_came_first = false;
  bool finish_came_last = false;
};

inline std::unique_ptr<v1::GenerationService::Stub> ConnectTo(int port) {
  grpc::ChannelArguments args;
  args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // A client that does not read must be felt soon: no window beyond HTTP/2's own 64 KiB.
  args.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  return v1::GenerationService::NewStub(grpc::CreateCustomChannel("127.0.0.1:" + std::to_string(port),
                                                                  grpc::InsecureChannelCredentials(), args));
}

// A prompt for the base with this seed and length.
inline v1::GenerateRequest BaseRequest(uint64_t seed, uint32_t max_tokens) {
  v1::GenerateRequest request;
  request.set_prompt("tell me");
  request.set_expert("base");
  request.mutable_sampling()->set_seed(seed);
  request.mutable_sampling()->set_max_tokens(max_tokens);
  return request;
}

// Reads the whole answer; `each` sees it grow (tokens so far) and may break things.
Answer Ask(v1::GenerationService::Stub* stub, const v1::GenerateRequest& request,
           const std::function<void(const Answer&)>& each = nullptr, grpc::ClientContext* context = nullptr);

}  // namespace coterie::gateway::testing

#endif  // COTERIE_TESTS_GATEWAY_CLIENT_H_
