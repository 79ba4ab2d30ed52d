#ifndef COTERIE_GATEWAY_UPSTREAM_CONVERT_WORKER_H_
#define COTERIE_GATEWAY_UPSTREAM_CONVERT_WORKER_H_

#include "common/clock.h"
#include "coterie/v1/worker.pb.h"
#include "gateway/upstream/sequence.h"
#include "gateway/upstream/worker_info.h"
#include "gateway/upstream/worker_link.h"

// Wire <-> plain for what travels between gateway and worker.
namespace coterie::gateway {

v1::GatewayHello HelloToProto(const WorkerLinkOptions& options);
// InvalidArgument naming the field that is malformed.
StatusOr<WorkerIdentity> HelloFromProto(const v1::WorkerHello& proto);
StatusOr<WorkerStateUpdate> StateFromProto(const v1::WorkerState& proto);

v1::Submit SubmitToProto(uint64_t sequence_id, const SequenceRequest& request, MonotonicTime now);
SequenceOutput OutputFromProto(v1::SequenceOutput&& proto);

v1::SamplingParams SamplingToProto(const SamplingParams& params);
v1::PositionLogprobs LogprobsToProto(const PositionLogprobs& logprobs);
PositionLogprobs LogprobsFromProto(const v1::PositionLogprobs& proto);

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_UPSTREAM_CONVERT_WORKER_H_
