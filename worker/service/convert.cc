#include "worker/service/convert.h"

#include <algorithm>
#include <cstdint>

#include "common/clock.h"
#include "common/quoted.h"
#include "common/utf8.h"

namespace coterie::worker {
namespace {

Constraint ConstraintFromProto(const v1::Constraint& proto) {
  Constraint constraint;
  switch (proto.kind_case()) {
    case v1::Constraint::kJsonSchema:
      return {Constraint::Kind::kJsonSchema, proto.json_schema(), {}};
    case v1::Constraint::kRegex:
      return {Constraint::Kind::kRegex, proto.regex(), {}};
    case v1::Constraint::kChoice:
      constraint.kind = Constraint::Kind::kChoice;
      constraint.choices.assign(proto.choice().texts().begin(), proto.choice().texts().end());
      return constraint;
    case v1::Constraint::KIND_NOT_SET:
      return constraint;
  }
  return constraint;
}

}  // namespace

StatusOr<SamplingParams> SamplingFromProto(const v1::SamplingParams& proto) {
  SamplingParams p;
  if (proto.has_max_tokens()) p.max_tokens = proto.max_tokens();
  if (proto.has_temperature()) p.temperature = proto.temperature();
  if (proto.has_top_k()) p.top_k = proto.top_k();
  if (proto.has_top_p()) p.top_p = proto.top_p();
  if (proto.has_min_p()) p.min_p = proto.min_p();
  if (proto.has_repetition_penalty()) p.repetition_penalty = proto.repetition_penalty();
  if (proto.has_presence_penalty()) p.presence_penalty = proto.presence_penalty();
  if (proto.has_frequency_penalty()) p.frequency_penalty = proto.frequency_penalty();
  if (proto.has_seed()) p.seed = proto.seed();
  if (proto.has_ignore_eos()) p.ignore_eos = proto.ignore_eos();
  if (proto.has_logprobs()) p.logprobs = proto.logprobs();
  p.logit_bias.assign(proto.logit_bias().begin(), proto.logit_bias().end());
  p.stop_token_ids.assign(proto.stop_token_ids().begin(), proto.stop_token_ids().end());
  p.constraint = ConstraintFromProto(proto.constraint());
  if (proto.stop_size() > 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("sampling.stop has ", proto.stop_size(),
                     " strings; a worker sees token ids only, stop strings are the gateway's to match"));
  }
  return p;
}

namespace {

// A kind that this version does not know is refused with those that the model lacks.
Gate GateFromProto(const v1::SequenceGate& proto) {
  const bool in_range = proto.kind() >= 0 && proto.kind() <= UINT8_MAX;
  return {static_cast<GateKind>(in_range ? proto.kind() : UINT8_MAX),
          static_cast<int32_t>(std::min<uint32_t>(proto.top_k(), INT32_MAX)), proto.seed()};
}

GangPlan GangFromProto(const v1::Gang& proto) {
  GangPlan plan{.group = proto.group(), .token = proto.token(), .rank = proto.rank()};
  for (const v1::Gang::Worker& worker : proto.workers()) {
    plan.workers.push_back(
        {worker.name(), worker.address(), {worker.members().begin(), worker.members().end()}});
  }
  plan.weights.assign(proto.weights().begin(), proto.weights().end());
  plan.top_tokens = proto.top_tokens();
  return plan;
}

}  // namespace

StatusOr<SequenceRequest> RequestFromProto(const v1::Submit& submit, MonotonicTime now) {
  SequenceRequest request;
  // Ids above int32 become negative and are refused with the rest of those outside the vocabulary.
  request.prompt_ids.assign(submit.prompt_ids().begin(), submit.prompt_ids().end());
  request.resume_ids.assign(submit.resume_ids().begin(), submit.resume_ids().end());
  ASSIGN_OR_RETURN(request.sampling, SamplingFromProto(submit.sampling()));
  for (const v1::AdapterUse& use : submit.adapters()) {
    StatusOr<Digest> digest = Digest::FromBytes(use.digest());
    if (!digest.ok()) return Annotate(digest.status(), absl::StrCat("adapter ", Quoted(use.name())).c_str());
    request.adapters.push_back({*digest, use.weight(), use.name()});
  }
  for (const v1::MixtureMember& member : submit.mixture()) {
    request.mixture.push_back({member.adapters(), member.weight()});
  }
  if (submit.has_gate()) request.gate = GateFromProto(submit.gate());
  if (submit.has_gang()) request.gang = GangFromProto(submit.gang());
  request.cache_salt = submit.cache_salt();
  request.priority = submit.priority();
  request.tenant = submit.tenant();
  request.trace_id = CutUtf8(submit.trace_id(), kMaxLabelBytes);
  request.trace_context = ReadTraceContext(submit.traceparent(), submit.tracestate());
  if (submit.deadline_ms() > 0) request.deadline = now + absl::Milliseconds(submit.deadline_ms());
  request.initial_credit = submit.initial_credit();
  if (submit.has_prompt_logprobs_from()) request.prompt_logprobs_from = submit.prompt_logprobs_from();
  request.score_only = submit.score_only();
  return request;
}

void LogprobsToProto(std::span<const TokenLogprob> scored, v1::PositionLogprobs* proto) {
  for (size_t i = 0; i < scored.size(); ++i) {
    v1::TokenLogprob* out = i == 0 ? proto->mutable_chosen() : proto->add_top();
    out->set_token_id(static_cast<uint32_t>(scored[i].token));
    out->set_logprob(scored[i].logprob);
  }
}

v1::FinishReason FinishToProto(FinishReason reason) {
  switch (reason) {
    case FinishReason::kNone:
      return v1::FINISH_REASON_UNSPECIFIED;
    case FinishReason::kStop:
      return v1::FINISH_REASON_STOP;
    case FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    case FinishReason::kCancelled:
      return v1::FINISH_REASON_CANCELLED;
    case FinishReason::kDeadline:
      return v1::FINISH_REASON_DEADLINE;
    case FinishReason::kError:
      return v1::FINISH_REASON_ERROR;
  }
  return v1::FINISH_REASON_ERROR;
}

grpc::Status ToGrpc(const Status& status) {
  return grpc::Status(static_cast<grpc::StatusCode>(status.code()), Printable(ToStd(status.message())));
}

}  // namespace coterie::worker
