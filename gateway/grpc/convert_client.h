#ifndef COTERIE_GATEWAY_GRPC_CONVERT_CLIENT_H_
#define COTERIE_GATEWAY_GRPC_CONVERT_CLIENT_H_

#include "coterie/v1/cluster.pb.h"
#include "coterie/v1/expert.pb.h"
#include "coterie/v1/generation.pb.h"
#include "gateway/answer/events.h"
#include "gateway/answer/scoring.h"
#include "gateway/core/request.h"
#include "gateway/upstream/worker_info.h"
#include "model/store/catalogue.h"
#include "router/drift.h"
#include "router/regret.h"

// Wire <-> plain for what travels between client and gateway. From the wire means validated: InvalidArgument
// names the field, its value and the limit.
namespace coterie::gateway {

// Fills the deadline in from the call's own.
StatusOr<AnswerRequest> FromProto(const v1::GenerateRequest& proto, const RequestLimits& limits,
                                  uint32_t vocab_size);
StatusOr<ScoreRequest> FromProto(const v1::ScoreRequest& proto, const RequestLimits& limits);
// A RouteRequest is an AnswerRequest that generates nothing.
StatusOr<AnswerRequest> FromProto(const v1::RouteRequest& proto, const RequestLimits& limits);
StatusOr<RequestContext> FromProto(const v1::RequestContext& proto, const RequestLimits& limits);

v1::RouteDecision ToProto(const RouteEvent& event);
v1::GenerateResponse ToProto(AnswerEvent event);
v1::ScoreResponse ToProto(const ScoreResult& result);
v1::EndToken ToProto(const EndToken& end);
// `text` names the tokens.
v1::WorkerStatus ToProto(const WorkerReport& report, const TextModel& text);
v1::ExpertInfo ToProto(const CatalogueEntry& entry);
// How it is made of others, of another version than the live one.
void FillMembers(const ExpertVersion& version, v1::ExpertInfo* info);
v1::ShadowReport ToProto(const ExpertRegret& regret);
v1::DriftReport ToProto(const Drift& drift, const RoutingReference& reference);

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_GRPC_CONVERT_CLIENT_H_
