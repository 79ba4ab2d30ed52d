#include "gateway/core/request.h"

namespace coterie::gateway {
namespace {

Status CheckLabel(std::string_view field, const std::string& value, size_t limit) {
  if (value.size() <= limit) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(ToAbsl(field), " has ", value.size(), " bytes, at most ", limit, " are allowed"));
}

Status CheckCount(std::string_view field, size_t count, size_t limit) {
  if (count <= limit) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(ToAbsl(field), " has ", count, " entries, at most ", limit, " are allowed"));
}

}  // namespace

Status ValidateInput(const TextInput& input, const RequestLimits& limits) {
  if (input.empty()) return absl::InvalidArgumentError("the request has neither a prompt nor chat messages");
  RETURN_IF_ERROR(CheckCount("chat.messages", input.chat.size(), limits.max_messages));
  size_t n_bytes = input.prompt ? input.prompt->size() : 0;
  for (size_t i = 0; i < input.chat.size(); ++i) {
    const ChatMessage& message = input.chat[i];
    if (message.role.empty()) {
      return absl::InvalidArgumentError(absl::StrCat("chat.messages[", i, "].role is empty"));
    }
    RETURN_IF_ERROR(
        CheckLabel(absl::StrCat("chat.messages[", i, "].role"), message.role, limits.max_label_bytes));
    n_bytes += message.content.size();
  }
  if (n_bytes > limits.max_input_bytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("the input has ", n_bytes, " bytes, at most ", limits.max_input_bytes, " are allowed"));
  }
  return absl::OkStatus();
}

Status ValidateContext(const RequestContext& context, const RequestLimits& limits) {
  RETURN_IF_ERROR(CheckLabel("context.tenant", context.tenant, limits.max_label_bytes));
  RETURN_IF_ERROR(CheckLabel("context.trace_id", context.trace_id, limits.max_label_bytes));
  RETURN_IF_ERROR(CheckLabel("context.cache_salt", context.cache_salt, limits.max_label_bytes));
  if (context.priority < -kMaxPriority || context.priority > kMaxPriority) {
    return absl::InvalidArgumentError(absl::StrCat(
        "context.priority is ", context.priority, ", must lie in [", -kMaxPriority, ", ", kMaxPriority, "]"));
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
  for (const std::string& name : routing.allowed_experts) RETURN_IF_ERROR(ValidateExpertName(name));
  return CheckLabel("routing.policy", routing.policy, limits.max_label_bytes);
}

}  // namespace coterie::gateway
