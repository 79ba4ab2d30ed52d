#ifndef COTERIE_WORKER_SERVICE_CONVERT_H_
#define COTERIE_WORKER_SERVICE_CONVERT_H_

#include <span>

#include "common/clock.h"
#include "common/sequence.h"
#include "common/status.h"
#include "coterie/v1/worker.pb.h"
#include "grpcpp/support/status.h"

// Wire <-> plain for what travels between gateway and worker.
namespace coterie::worker {

// Everything but the engine's id. InvalidArgument naming the field that is malformed; bounds are the engine's
// to check.
StatusOr<SequenceRequest> RequestFromProto(const v1::Submit& submit, MonotonicTime now);
StatusOr<SamplingParams> SamplingFromProto(const v1::SamplingParams& proto);

// `scored` holds the token itself and then the most probable ones.
void LogprobsToProto(std::span<const TokenLogprob> scored, v1::PositionLogprobs* proto);
v1::FinishReason FinishToProto(FinishReason reason);
// gRPC's codes and absl's are the same numbers. The message is made printable UTF-8.
grpc::Status ToGrpc(const Status& status);

}  // namespace coterie::worker

#endif  // COTERIE_WORKER_SERVICE_CONVERT_H_
