#include "gateway/upstream/convert_worker.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "common/adapter_failure.h"
#include "common/clock.h"
#include "common/lost_worker.h"
#include "common/worker_protocol.h"

namespace coterie::gateway {
namespace {

StatusOr<Digest> DigestField(std::string_view field, const std::string& raw) {
  StatusOr<Digest> digest = Digest::FromBytes(raw);
  if (!digest.ok()) return Annotate(digest.status(), field);
  return digest;
}

// Milliseconds left, at least 1: 0 means "none" on the wire.
uint32_t MillisecondsLeft(MonotonicTime deadline, MonotonicTime now) {
  if (deadline == MonotonicTime::InfiniteFuture()) return 0;
  const int64_t left = absl::ToInt64Milliseconds(deadline - now);
  return static_cast<uint32_t>(std::clamp<int64_t>(left, 1, std::numeric_limits<uint32_t>::max()));
}

v1::Gang GangToProto(const GangPlan& plan) {
  v1::Gang gang;
  gang.set_group(plan.group);
  gang.set_token(plan.token);
  gang.set_rank(plan.rank);
  for (const GangWorker& worker : plan.workers) {
    v1::Gang::Worker* out = gang.add_workers();
    out->set_name(worker.name);
    out->set_address(worker.address);
    out->mutable_members()->Assign(worker.members.begin(), worker.members.end());
  }
  gang.mutable_weights()->Assign(plan.weights.begin(), plan.weights.end());
  gang.set_top_tokens(plan.top_tokens);
  return gang;
}

}  // namespace

v1::GatewayHello HelloToProto(const WorkerLinkOptions& options) {
  v1::GatewayHello hello;
  hello.set_protocol_version(kWorkerProtocolVersion);
  hello.set_gateway_id(options.gateway_id);
  hello.set_stream_key(options.stream_key);
  hello.set_base_digest(options.base.ToBytes());
  hello.set_tokenizer_digest(options.tokenizer.ToBytes());
  hello.set_heartbeat_interval_ms(
      static_cast<uint32_t>(absl::ToInt64Milliseconds(options.heartbeat_interval)));
  hello.set_silence_timeout_ms(static_cast<uint32_t>(absl::ToInt64Milliseconds(options.silence_timeout)));
  return hello;
}

StatusOr<WorkerIdentity> HelloFromProto(const v1::WorkerHello& proto) {
  WorkerIdentity identity;
  identity.protocol_version = proto.protocol_version();
  identity.worker_id = proto.worker_id();
  identity.incarnation = proto.incarnation();
  ASSIGN_OR_RETURN(identity.base, DigestField("hello.base_digest", proto.base_digest()));
  ASSIGN_OR_RETURN(identity.tokenizer, DigestField("hello.tokenizer_digest", proto.tokenizer_digest()));
  identity.numerics_class = proto.numerics_class();
  identity.batch_invariant = !proto.has_batch_invariant() || proto.batch_invariant();
  identity.device = proto.device();
  identity.device_name = proto.device_name();
  identity.max_sequence_tokens = proto.max_sequence_tokens();
  identity.kv_block_tokens = proto.kv_block_tokens();
  identity.kv_blocks = proto.kv_blocks();
  identity.adapter_slots = proto.adapter_slots();
  identity.max_mixture_members = proto.max_mixture_members();
  identity.max_gangs = proto.max_gangs();
  identity.takes_constraints = proto.takes_constraints();
  for (const int kind : proto.gates()) {
    if (kind > 0 && kind <= UINT8_MAX) identity.gates.Add(static_cast<GateKind>(kind));
  }
  identity.max_waiting = proto.max_waiting();
  identity.max_running = proto.max_running();
  identity.reattach_grace_ms = proto.reattach_grace_ms();
  identity.serves.assign(proto.serves().begin(), proto.serves().end());
  identity.end_token_ids.assign(proto.end_token_ids().begin(), proto.end_token_ids().end());
  return identity;
}

StatusOr<WorkerStateUpdate> StateFromProto(const v1::WorkerState& proto) {
  WorkerStateUpdate update;
  update.running = proto.running();
  update.waiting = proto.waiting();
  update.kv_blocks_used = proto.kv_blocks_used();
  update.draining = proto.draining();
  update.device_lost = proto.device_lost();
  for (const std::string& raw : proto.resident_added()) {
    ASSIGN_OR_RETURN(Digest digest, DigestField("state.resident_added", raw));
    update.resident_added.push_back(digest);
  }
  for (const std::string& raw : proto.resident_removed()) {
    ASSIGN_OR_RETURN(Digest digest, DigestField("state.resident_removed", raw));
    update.resident_removed.push_back(digest);
  }
  update.prefixes_added.assign(proto.prefixes_added().begin(), proto.prefixes_added().end());
  update.prefixes_removed.assign(proto.prefixes_removed().begin(), proto.prefixes_removed().end());
  update.prefixes_reset = proto.prefixes_reset();
  update.tokens_per_second = proto.tokens_per_second();
  update.prefill_tokens_per_second = proto.prefill_tokens_per_second();
  update.load_bytes_per_second = proto.adapter_load_bytes_per_second();
  update.answer_tokens = proto.answer_tokens();
  update.bytes_between_workers = proto.bytes_between_workers();
  update.adapters_resident = proto.adapters_resident();
  update.preemptions = proto.preemptions();
  update.places = proto.places();
  return update;
}

v1::Submit SubmitToProto(uint64_t sequence_id, const SequenceRequest& request, MonotonicTime now) {
  v1::Submit submit;
  submit.set_sequence_id(sequence_id);
  submit.mutable_prompt_ids()->Assign(request.prompt_ids.begin(), request.prompt_ids.end());
  submit.mutable_resume_ids()->Assign(request.resume_ids.begin(), request.resume_ids.end());
  *submit.mutable_sampling() = SamplingToProto(request.sampling);
  for (const AdapterUse& adapter : request.adapters) {
    v1::AdapterUse* use = submit.add_adapters();
    use->set_digest(adapter.digest.ToBytes());
    use->set_weight(adapter.weight);
    use->set_name(adapter.name);
  }
  for (const MixtureMember& member : request.mixture) {
    v1::MixtureMember* out = submit.add_mixture();
    out->set_adapters(member.n_adapters);
    out->set_weight(member.weight);
  }
  if (request.gate.kind != GateKind::kNone) {
    submit.mutable_gate()->set_kind(static_cast<v1::GateKind>(request.gate.kind));
    submit.mutable_gate()->set_top_k(static_cast<uint32_t>(request.gate.top_k));
    submit.mutable_gate()->set_seed(request.gate.seed);
  }
  if (request.gang) *submit.mutable_gang() = GangToProto(*request.gang);
  submit.set_tenant(request.tenant);
  submit.set_priority(request.priority);
  submit.set_trace_id(request.trace_id);
  if (request.trace_context) {
    submit.set_traceparent(request.trace_context.ToTraceParent());
    submit.set_tracestate(request.trace_context.state);
  }
  submit.set_cache_salt(request.cache_salt);
  submit.set_deadline_ms(MillisecondsLeft(request.deadline, now));
  submit.set_initial_credit(request.initial_credit);
  if (request.prompt_logprobs_from) submit.set_prompt_logprobs_from(*request.prompt_logprobs_from);
  submit.set_score_only(request.score_only);
  return submit;
}

SequenceOutput OutputFromProto(v1::SequenceOutput&& proto) {
  SequenceOutput output;
  output.sequence_id = proto.sequence_id();
  output.position = proto.position();
  output.token_ids.assign(proto.token_ids().begin(), proto.token_ids().end());
  for (const auto& logprobs : proto.logprobs()) output.logprobs.push_back(LogprobsFromProto(logprobs));
  for (const auto& logprobs : proto.prompt_logprobs()) {
    output.prompt_logprobs.push_back(LogprobsFromProto(logprobs));
  }
  switch (proto.finish()) {
    case v1::FINISH_REASON_UNSPECIFIED:
      break;
    case v1::FINISH_REASON_STOP:
      output.finish = FinishReason::kStop;
      break;
    case v1::FINISH_REASON_LENGTH:
      output.finish = FinishReason::kLength;
      break;
    case v1::FINISH_REASON_CANCELLED:
      output.finish = FinishReason::kCancelled;
      break;
    case v1::FINISH_REASON_DEADLINE:
      output.finish = FinishReason::kDeadline;
      break;
    default:
      output.finish = FinishReason::kError;
      const int code =
          proto.error_code() == 0 || proto.error_code() > 16 ? 13 : static_cast<int>(proto.error_code());
      output.error = Status(static_cast<absl::StatusCode>(code), ToAbsl(proto.error_message()));
      if (const StatusOr<Digest> adapter = Digest::FromBytes(proto.failed_adapter()); adapter.ok()) {
        output.error = MarkAdapterFailure(std::move(output.error), *adapter);
      }
      output.error = MarkLostWorker(std::move(output.error), proto.lost_worker());
      break;
  }
  if (proto.has_stop_token_id()) output.stop_token_id = static_cast<int32_t>(proto.stop_token_id());
  output.cached_prompt_tokens = proto.cached_prompt_tokens();
  output.queued = absl::Milliseconds(proto.queued_ms());
  return output;
}

v1::SamplingParams SamplingToProto(const SamplingParams& params) {
  v1::SamplingParams proto;
  proto.set_max_tokens(params.max_tokens);
  proto.set_temperature(params.temperature);
  proto.set_top_k(params.top_k);
  proto.set_top_p(params.top_p);
  proto.set_min_p(params.min_p);
  proto.set_repetition_penalty(params.repetition_penalty);
  proto.set_presence_penalty(params.presence_penalty);
  proto.set_frequency_penalty(params.frequency_penalty);
  for (const auto& [token, bias] : params.logit_bias) (*proto.mutable_logit_bias())[token] = bias;
  proto.set_seed(params.seed.value_or(0));
  proto.mutable_stop_token_ids()->Assign(params.stop_token_ids.begin(), params.stop_token_ids.end());
  proto.set_ignore_eos(params.ignore_eos);
  if (params.logprobs) proto.set_logprobs(*params.logprobs);
  const Constraint& constraint = params.constraint;
  switch (constraint.kind) {
    case Constraint::Kind::kNone:
      break;
    case Constraint::Kind::kJsonSchema:
      proto.mutable_constraint()->set_json_schema(constraint.text);
      break;
    case Constraint::Kind::kRegex:
      proto.mutable_constraint()->set_regex(constraint.text);
      break;
    case Constraint::Kind::kChoice:
      proto.mutable_constraint()->mutable_choice()->mutable_texts()->Assign(constraint.choices.begin(),
                                                                            constraint.choices.end());
      break;
  }
  return proto;
}

v1::PositionLogprobs LogprobsToProto(const PositionLogprobs& logprobs) {
  v1::PositionLogprobs proto;
  proto.mutable_chosen()->set_token_id(static_cast<uint32_t>(logprobs.chosen.token));
  proto.mutable_chosen()->set_logprob(logprobs.chosen.logprob);
  for (const TokenLogprob& top : logprobs.top) {
    v1::TokenLogprob* added = proto.add_top();
    added->set_token_id(static_cast<uint32_t>(top.token));
    added->set_logprob(top.logprob);
  }
  return proto;
}

PositionLogprobs LogprobsFromProto(const v1::PositionLogprobs& proto) {
  PositionLogprobs logprobs;
  logprobs.chosen = {static_cast<int32_t>(proto.chosen().token_id()), proto.chosen().logprob()};
  for (const v1::TokenLogprob& top : proto.top())
    logprobs.top.push_back({static_cast<int32_t>(top.token_id()), top.logprob()});
  return logprobs;
}

}  // namespace coterie::gateway
