#include "gateway/core/request.h"

#include "common/quoted.h"
#include "common/refused_field.h"
#include "model/grammar/constraint_grammar.h"

namespace coterie::gateway {
namespace {

template <typename... Words>
Status Refuse(std::string_view field, const Words&... words) {
  return OfField(absl::InvalidArgumentError(absl::StrCat(words...)), field);
}

Status CheckLabel(std::string_view field, const std::string& value, size_t limit) {
  if (value.size() <= limit) return absl::OkStatus();
  return Refuse(field, ToAbsl(field), " has ", value.size(), " bytes, at most ", limit, " are allowed");
}

Status CheckCount(std::string_view field, size_t count, size_t limit) {
  if (count <= limit) return absl::OkStatus();
  return Refuse(field, ToAbsl(field), " has ", count, " entries, at most ", limit, " are allowed");
}

// What a collaboration decides, nothing else of the request may.
Status ApplyCollaboration(AnswerRequest* request) {
  const CollaborationAsk& ask = request->routing.collaboration;
  if (ask.mode == CollaborationMode::kNone) return absl::OkStatus();
  if (request->expert.kind != ExpertSelector::Kind::kAuto) {
    return Refuse("expert", "expert is ", Quoted(ToString(request->expert)),
                  " beside a collaboration, which names its own; leave one of the two out");
  }
  if (!request->routing.policy.empty()) {
    return Refuse(
        "routing.policy", "routing.policy is ", Quoted(request->routing.policy),
        " beside a collaboration, which says itself how experts are chosen; leave one of the two out");
  }
  if (!ask.members.empty()) request->expert.kind = ExpertSelector::Kind::kMembers;
  return absl::OkStatus();
}

}  // namespace

Status ValidateInput(const TextInput& input, const RequestLimits& limits) {
  if (input.empty()) return absl::InvalidArgumentError("the request has neither a prompt nor chat messages");
  RETURN_IF_ERROR(CheckCount("chat.messages", input.chat.size(), limits.max_messages));
  size_t n_bytes = input.prompt ? input.prompt->size() : 0;
  for (size_t i = 0; i < input.chat.size(); ++i) {
    const ChatMessage& message = input.chat[i];
    if (message.role.empty()) {
      const std::string role = absl::StrCat("chat.messages[", i, "].role");
      return Refuse(role, role, " is empty");
    }
    RETURN_IF_ERROR(
        CheckLabel(absl::StrCat("chat.messages[", i, "].role"), message.role, limits.max_label_bytes));
    n_bytes += message.content.size();
  }
  if (n_bytes > limits.max_input_bytes) {
    return Refuse(input.prompt ? "prompt" : "chat.messages", "the input has ", n_bytes, " bytes, at most ",
                  limits.max_input_bytes, " are allowed");
  }
  return absl::OkStatus();
}

Status ValidateContext(const RequestContext& context, const RequestLimits& limits) {
  RETURN_IF_ERROR(CheckLabel("context.tenant", context.tenant, limits.max_label_bytes));
  RETURN_IF_ERROR(CheckLabel("context.trace_id", context.trace_id, limits.max_label_bytes));
  RETURN_IF_ERROR(CheckLabel("context.cache_salt", context.cache_salt, limits.max_label_bytes));
  if (context.priority < -kMaxPriority || context.priority > kMaxPriority) {
    return Refuse("context.priority", "context.priority is ", context.priority, ", must lie in [",
                  -kMaxPriority, ", ", kMaxPriority, "]");
  }
  return absl::OkStatus();
}

Status ValidateRouting(const RoutingAsk& routing, const RequestLimits& limits) {
  RETURN_IF_ERROR(CheckCount("routing.tags", routing.tags.size(), limits.max_tags));
  for (const std::string& tag : routing.tags) {
    RETURN_IF_ERROR(CheckLabel("routing.tags", tag, limits.max_label_bytes));
  }
  RETURN_IF_ERROR(
      CheckCount("routing.allowed_experts", routing.allowed_experts.size(), limits.max_allowed_experts));
  for (const std::string& name : routing.allowed_experts) {
    RETURN_IF_ERROR(OfField(ValidateExpertName(name), "routing.allowed_experts"));
  }
  return CheckLabel("routing.policy", routing.policy, limits.max_label_bytes);
}

Status CompleteRequest(AnswerRequest* request, const RequestLimits& limits, uint32_t vocab_size) {
  RETURN_IF_ERROR(ValidateInput(request->input, limits));
  RETURN_IF_ERROR(ValidateSamplingParams(request->sampling, vocab_size));
  RETURN_IF_ERROR(ValidateRouting(request->routing, limits));
  RETURN_IF_ERROR(ApplyCollaboration(request));
  RETURN_IF_ERROR(CompleteContext(&request->context, limits));
  request->routing.canary_key = request->context.trace_id;
  return absl::OkStatus();
}

Status CheckConstraint(const Constraint& constraint, std::string_view field) {
  if (!constraint) return absl::OkStatus();
  const Status status = grammar::ConstraintGrammar(constraint).status();
  return status.ok() ? status : OfField(Annotate(status, field), field);
}

Status CompleteContext(RequestContext* context, const RequestLimits& limits) {
  if (context->trace_id.empty()) context->trace_id = DrawTraceId();
  return ValidateContext(*context, limits);
}

std::string DrawTraceId() { return TraceId::Draw().ToHex(); }

}  // namespace coterie::gateway
