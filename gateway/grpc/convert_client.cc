#include "gateway/grpc/convert_client.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/strip.h"
#include "common/utf8.h"
#include "gateway/upstream/convert_worker.h"

namespace coterie::gateway {
namespace {

template <typename Proto>
TextInput InputFromProto(const Proto& proto) {
  TextInput input;
  if (proto.input_case() == Proto::kPrompt) input.prompt = proto.prompt();
  if (proto.input_case() == Proto::kChat) {
    for (const v1::ChatMessage& message : proto.chat().messages()) {
      input.chat.push_back({message.role(), message.content()});
    }
  }
  return input;
}

RoutingAsk AskFromProto(const v1::RoutingOptions& proto) {
  return {{proto.tags().begin(), proto.tags().end()},
          {proto.allowed_experts().begin(), proto.allowed_experts().end()},
          proto.policy(),
          /*canary_key=*/"",
          /*without=*/{},
          /*collaboration=*/{}};
}

RequestContext ContextFromProto(const v1::RequestContext& proto) {
  RequestContext context;
  if (!proto.tenant().empty()) context.tenant = proto.tenant();
  context.priority = proto.priority();
  context.trace_id = proto.trace_id();
  context.cache_salt = proto.cache_salt();
  context.no_shadow = proto.no_shadow();
  return context;
}

// "gated" of COLLABORATION_MODE_GATED; empty for the one that says nothing, the number of one that we do not
// know.
template <typename Enum>
std::string NameFromProto(Enum value, const std::string& name, const char* prefix) {
  if (value == 0) return "";
  return name.empty() ? absl::StrCat(static_cast<int>(value))
                      : absl::AsciiStrToLower(absl::StripPrefix(name, prefix));
}

RequestedCollaboration CollaborationFromProto(const v1::Collaboration& proto) {
  RequestedCollaboration requested;
  requested.mode =
      NameFromProto(proto.mode(), v1::CollaborationMode_Name(proto.mode()), "COLLABORATION_MODE_");
  requested.gate = NameFromProto(proto.gate(), v1::GateKind_Name(proto.gate()), "GATE_KIND_");
  if (proto.has_top_k()) requested.top_k = proto.top_k();
  for (const v1::CollaborationMember& member : proto.members()) {
    requested.members.push_back({member.expert(), std::nullopt});
    if (member.has_weight()) requested.members.back().weight = member.weight();
  }
  requested.k = proto.k();
  return requested;
}

v1::CollaborationMode ModeToProto(CollaborationMode mode) {
  switch (mode) {
    case CollaborationMode::kBlend:
      return v1::COLLABORATION_MODE_BLEND;
    case CollaborationMode::kMixture:
      return v1::COLLABORATION_MODE_MIXTURE;
    case CollaborationMode::kGated:
      return v1::COLLABORATION_MODE_GATED;
    case CollaborationMode::kNone:
      break;
  }
  return v1::COLLABORATION_MODE_UNSPECIFIED;
}

// What Generate and Route both ask.
template <typename Proto>
StatusOr<AnswerRequest> AnswerFromProto(const Proto& proto) {
  AnswerRequest request;
  request.input = InputFromProto(proto);
  ASSIGN_OR_RETURN(request.expert, ParseExpertSelector(proto.expert()));
  request.routing = AskFromProto(proto.routing());
  if (proto.has_collaboration()) {
    ASSIGN_OR_RETURN(request.routing.collaboration,
                     CompleteCollaboration(CollaborationFromProto(proto.collaboration())));
  }
  request.context = ContextFromProto(proto.context());
  return request;
}

Constraint ConstraintOf(const v1::Constraint& proto) {
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

SamplingParams SamplingFromProto(const v1::SamplingParams& proto) {
  SamplingParams params;
  if (proto.has_max_tokens()) params.max_tokens = proto.max_tokens();
  if (proto.has_temperature()) params.temperature = proto.temperature();
  if (proto.has_top_k()) params.top_k = proto.top_k();
  if (proto.has_top_p()) params.top_p = proto.top_p();
  if (proto.has_min_p()) params.min_p = proto.min_p();
  if (proto.has_repetition_penalty()) params.repetition_penalty = proto.repetition_penalty();
  if (proto.has_presence_penalty()) params.presence_penalty = proto.presence_penalty();
  if (proto.has_frequency_penalty()) params.frequency_penalty = proto.frequency_penalty();
  params.logit_bias.assign(proto.logit_bias().begin(), proto.logit_bias().end());
  std::sort(params.logit_bias.begin(), params.logit_bias.end());
  if (proto.has_seed()) params.seed = proto.seed();
  params.stop.assign(proto.stop().begin(), proto.stop().end());
  params.stop_token_ids.assign(proto.stop_token_ids().begin(), proto.stop_token_ids().end());
  params.ignore_eos = proto.ignore_eos();
  if (proto.has_logprobs()) params.logprobs = proto.logprobs();
  params.constraint = ConstraintOf(proto.constraint());
  return params;
}

v1::PositionLogprobs LogprobsWithText(const TextLogprobs& logprobs) {
  v1::PositionLogprobs proto = LogprobsToProto(logprobs.values);
  const auto describe = [](const DescribedToken& token, v1::TokenLogprob* out) {
    out->set_text(token.bytes);
    out->set_control(token.control);
  };
  describe(logprobs.chosen, proto.mutable_chosen());
  for (size_t i = 0; i < logprobs.top.size(); ++i)
    describe(logprobs.top[i], proto.mutable_top(static_cast<int>(i)));
  return proto;
}

v1::Usage UsageToProto(const UsageCount& usage) {
  v1::Usage proto;
  proto.set_prompt_tokens(usage.prompt_tokens);
  proto.set_cached_prompt_tokens(usage.cached_prompt_tokens);
  proto.set_completion_tokens(usage.completion_tokens);
  return proto;
}

struct EventToProto {
  v1::GenerateResponse operator()(RouteEvent& event) const {
    v1::GenerateResponse response;
    *response.mutable_route() = ToProto(event);
    return response;
  }
  v1::GenerateResponse operator()(const PromptEvent&) const {
    return {};
  }  // Generate does not ask; Score does
  v1::GenerateResponse operator()(TextEvent& event) const {
    v1::GenerateResponse response;
    v1::TextDelta* delta = response.mutable_delta();
    delta->set_text(std::move(event.text));
    delta->mutable_token_ids()->Assign(event.token_ids.begin(), event.token_ids.end());
    for (const TextLogprobs& logprobs : event.logprobs) *delta->add_logprobs() = LogprobsWithText(logprobs);
    return response;
  }
  v1::GenerateResponse operator()(NoticeEvent& event) const {
    v1::GenerateResponse response;
    v1::Notice* notice = response.mutable_notice();
    switch (event.placement.kind) {
      case SessionPlacement::Kind::kFirst:
        break;
      case SessionPlacement::Kind::kResumed:
        notice->set_kind(v1::Notice::KIND_RESUMED);
        break;
      case SessionPlacement::Kind::kResumedOtherNumerics:
        notice->set_kind(v1::Notice::KIND_RESUMED_OTHER_NUMERICS);
        break;
      case SessionPlacement::Kind::kReattached:
        notice->set_kind(v1::Notice::KIND_REATTACHED);
        break;
      case SessionPlacement::Kind::kMembersLost:
        notice->set_kind(v1::Notice::KIND_MEMBERS_LOST);
        break;
    }
    notice->set_message(Printable(event.placement.reason));  // may quote what a broken connection said
    notice->set_worker(event.placement.worker);
    return response;
  }
  v1::GenerateResponse operator()(FinishEvent& event) const {
    v1::GenerateResponse response;
    v1::Finish* finish = response.mutable_finish();
    finish->set_reason(static_cast<v1::FinishReason>(event.reason));
    finish->set_stop(event.stop);
    *finish->mutable_usage() = UsageToProto(event.usage);
    finish->mutable_timings()->set_routed_seconds(absl::ToDoubleSeconds(event.routed));
    finish->mutable_timings()->set_queued_seconds(absl::ToDoubleSeconds(event.queued));
    finish->mutable_timings()->set_first_token_seconds(absl::ToDoubleSeconds(event.first_token));
    finish->mutable_timings()->set_total_seconds(absl::ToDoubleSeconds(event.total));
    finish->set_seed(event.seed);
    finish->set_worker(event.worker);
    finish->set_numerics_class(event.numerics_class);
    return response;
  }
};

}  // namespace

StatusOr<RequestContext> FromProto(const v1::RequestContext& proto, const RequestLimits& limits) {
  RequestContext context = ContextFromProto(proto);
  RETURN_IF_ERROR(CompleteContext(&context, limits));
  return context;
}

StatusOr<AnswerRequest> FromProto(const v1::GenerateRequest& proto, const RequestLimits& limits,
                                  uint32_t vocab_size) {
  ASSIGN_OR_RETURN(AnswerRequest request, AnswerFromProto(proto));
  request.sampling = SamplingFromProto(proto.sampling());
  RETURN_IF_ERROR(CheckConstraint(request.sampling.constraint, "sampling.constraint"));
  RETURN_IF_ERROR(CompleteRequest(&request, limits, vocab_size));
  return request;
}

StatusOr<AnswerRequest> FromProto(const v1::RouteRequest& proto, const RequestLimits& limits) {
  ASSIGN_OR_RETURN(AnswerRequest request, AnswerFromProto(proto));
  RETURN_IF_ERROR(CompleteRequest(&request, limits, /*vocab_size=*/0));
  return request;
}

StatusOr<ScoreRequest> FromProto(const v1::ScoreRequest& proto, const RequestLimits& limits) {
  ScoreRequest request;
  request.input = InputFromProto(proto);
  if (!request.input.empty()) RETURN_IF_ERROR(ValidateInput(request.input, limits));
  if (proto.completion().empty())
    return absl::InvalidArgumentError("completion is empty: there is nothing to score");
  if (proto.completion().size() > limits.max_input_bytes) {
    return absl::InvalidArgumentError(absl::StrCat("completion has ", proto.completion().size(),
                                                   " bytes, at most ", limits.max_input_bytes,
                                                   " are allowed"));
  }
  request.completion = proto.completion();
  ASSIGN_OR_RETURN(request.expert, ParseExpertSelector(proto.expert()));
  request.routing = AskFromProto(proto.routing());
  RETURN_IF_ERROR(ValidateRouting(request.routing, limits));
  ASSIGN_OR_RETURN(request.context, FromProto(proto.context(), limits));
  if (proto.top_logprobs() > kMaxLogprobs) {
    return absl::InvalidArgumentError(
        absl::StrCat("top_logprobs is ", proto.top_logprobs(), ", at most ", kMaxLogprobs, " are reported"));
  }
  request.top_logprobs = proto.top_logprobs();
  request.include_input = proto.include_input();
  return request;
}

namespace {

void Fill(const PlannedExpert& expert, v1::ExpertScore* score) {
  score->set_name(expert.name);
  score->set_digest(expert.adapter.ToHex());
  score->set_score(expert.score);
  score->set_weight(expert.weight);
  score->set_canary(expert.canary);
}

}  // namespace

v1::RouteDecision ToProto(const RouteEvent& event) {
  v1::RouteDecision proto;
  const RoutePlan& plan = event.decision.plan;
  for (const PlannedExpert& expert : plan.experts) Fill(expert, proto.add_experts());
  if (plan.composite) Fill(*plan.composite, proto.mutable_composite());
  for (const Decision::Weighed& candidate : event.decision.candidates) {
    v1::ExpertScore* score = proto.add_candidates();
    score->set_name(candidate.name);
    score->set_digest(candidate.digest.ToHex());
    score->set_score(candidate.score);
    for (const PlannedExpert& expert : plan.named()) {
      if (expert.name != candidate.name) continue;
      score->set_digest(expert.adapter.ToHex());
      score->set_weight(expert.weight);
      score->set_canary(expert.canary);
    }
  }
  proto.set_mode(ModeToProto(plan.mode));
  proto.set_gate(static_cast<v1::GateKind>(plan.gate.kind));
  proto.set_top_k(static_cast<uint32_t>(plan.gate.top_k));
  proto.set_margin(plan.margin);
  proto.set_policy(plan.policy);
  proto.set_reason(plan.reason);
  proto.set_worker(event.worker);
  proto.set_placement_reason(Printable(event.placement_reason));
  proto.set_catalogue_generation(plan.catalogue_generation);
  proto.set_embed_seconds(event.decision.embed_seconds);
  proto.set_search_seconds(event.decision.search_seconds);
  return proto;
}

v1::GenerateResponse ToProto(AnswerEvent event) { return std::visit(EventToProto(), event); }

v1::ScoreResponse ToProto(const ScoreResult& result) {
  v1::ScoreResponse proto;
  *proto.mutable_route() = ToProto(result.route);
  for (const TextLogprobs& token : result.tokens) *proto.add_tokens() = LogprobsWithText(token);
  proto.set_total_logprob(result.total_logprob);
  *proto.mutable_usage() = UsageToProto(result.usage);
  proto.set_numerics_class(result.numerics_class);
  return proto;
}

v1::EndToken ToProto(const EndToken& end) {
  v1::EndToken proto;
  proto.set_id(static_cast<uint32_t>(end.id));
  proto.set_text(Printable(end.text));
  proto.set_source(end.source);
  return proto;
}

v1::WorkerStatus ToProto(const WorkerReport& report, const TextModel& text) {
  v1::WorkerStatus proto;
  proto.set_address(report.address);
  proto.set_worker_id(report.identity.worker_id);
  proto.set_health(static_cast<v1::WorkerHealth>(report.health));
  proto.set_message(Printable(report.message));
  proto.set_device(report.identity.device);
  proto.set_device_name(Printable(report.identity.device_name));
  proto.set_numerics_class(report.identity.numerics_class);
  proto.set_batch_invariant(report.identity.batch_invariant);
  proto.set_running(report.state.running);
  proto.set_waiting(report.state.waiting);
  proto.set_kv_blocks_used(report.state.kv_blocks_used);
  proto.set_kv_blocks_total(report.identity.kv_blocks);
  proto.set_adapters_resident(report.state.adapters_resident);
  proto.set_adapter_slots(report.identity.adapter_slots);
  proto.set_tokens_per_second(report.state.tokens_per_second);
  proto.set_prefill_tokens_per_second(report.state.prefill_tokens_per_second);
  proto.set_adapter_load_bytes_per_second(report.state.load_bytes_per_second);
  proto.set_answer_tokens(report.state.answer_tokens);
  proto.set_bytes_between_workers(report.state.bytes_between_workers);
  proto.set_ejected_seconds(absl::ToDoubleSeconds(report.ejected_for));
  proto.set_ejections(report.ejections);
  for (const int32_t id : report.identity.end_token_ids) {
    *proto.add_end_tokens() = ToProto(EndToken{id, text.TokenText(id), /*source=*/""});
  }
  return proto;
}

namespace {

template <typename Info>
void SetMembers(const ExpertVersion& version, Info* info) {
  info->set_mode(ModeToProto(version.mode));
  info->clear_members();
  for (const ExpertMember& member : version.members) {
    v1::ExpertMember* to = info->add_members();
    to->set_name(member.name);
    to->set_digest(member.adapter.ToHex());
    to->set_weight(member.weight);
  }
}

}  // namespace

void FillMembers(const ExpertVersion& version, v1::ExpertInfo* info) { SetMembers(version, info); }

v1::ExpertInfo ToProto(const CatalogueEntry& entry) {
  v1::ExpertInfo proto;
  proto.set_name(entry.name);
  proto.set_digest(entry.live.adapter.ToHex());
  proto.set_revision(entry.live.revision.ToHex());
  proto.set_version(entry.live.version);
  proto.set_description(entry.description);
  for (const std::string& tag : entry.tags) proto.add_tags(tag);
  proto.set_licence(entry.licence);
  proto.set_prototypes(entry.n_prototypes);
  proto.set_adapter_bytes(entry.live.adapter_bytes);
  SetMembers(entry.live, &proto);
  for (const ExpertVersion& version : entry.history) proto.add_previous_digests(version.adapter.ToHex());
  if (entry.canary.has_value()) {
    v1::CanaryInfo* canary = proto.mutable_canary();
    canary->set_digest(entry.canary->version.adapter.ToHex());
    canary->set_revision(entry.canary->version.revision.ToHex());
    canary->set_version(entry.canary->version.version);
    canary->set_adapter_bytes(entry.canary->version.adapter_bytes);
    canary->set_share(entry.canary->share);
    SetMembers(entry.canary->version, canary);
  }
  return proto;
}

v1::ShadowReport ToProto(const ExpertRegret& regret) {
  v1::ShadowReport proto;
  proto.set_prompts(regret.n());
  proto.set_chosen_loss(regret.chosen().mean());
  proto.set_base_loss(regret.base().mean());
  proto.set_runner_up_loss(regret.runner_up().mean());
  proto.set_runner_up_prompts(regret.runner_up().n());
  proto.set_regret(regret.regret().mean());
  proto.set_regret_standard_error(regret.regret().standard_error());
  proto.set_canary_prompts(regret.canary_minus_chosen().n());
  proto.set_canary_difference(regret.canary_minus_chosen().mean());
  proto.set_canary_standard_error(regret.canary_minus_chosen().standard_error());
  return proto;
}

v1::DriftReport ToProto(const Drift& drift, const RoutingReference& reference) {
  v1::DriftReport proto;
  proto.set_questions(drift.n);
  proto.set_mean_score(drift.mean_score);
  proto.set_shift(drift.shift);
  proto.set_shift_standard_error(drift.standard_error);
  proto.set_significant(drift.significant);
  proto.set_reference_mean(reference.mean_score);
  proto.set_reference_std(reference.std_score);
  proto.set_reference_n(reference.n);
  return proto;
}

}  // namespace coterie::gateway
