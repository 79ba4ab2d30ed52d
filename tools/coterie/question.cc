#include "tools/coterie/question.h"

#include "absl/strings/ascii.h"
#include "common/constraint.h"
#include "common/file.h"
#include "common/member_list.h"
#include "common/quoted.h"

namespace coterie::command {
namespace {

bool IsCollaboration(const QuestionOptions& options) {
  return !options.experts.empty() || !options.mode.empty() || options.k > 0 || !options.gate.empty() ||
         options.gate_top_k > 0;
}

// A gate alone says that the mode is gated.
StatusOr<v1::CollaborationMode> ParseMode(const QuestionOptions& options) {
  const std::string& mode = options.mode;
  if (mode.empty())
    return options.gate.empty() ? v1::COLLABORATION_MODE_MIXTURE : v1::COLLABORATION_MODE_GATED;
  v1::CollaborationMode parsed;
  if (v1::CollaborationMode_Parse(absl::StrCat("COLLABORATION_MODE_", absl::AsciiStrToUpper(mode)),
                                  &parsed) &&
      parsed != v1::COLLABORATION_MODE_UNSPECIFIED) {
    return parsed;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--mode is ", Quoted(mode), "; give mixture, blend or gated"));
}

StatusOr<v1::GateKind> ParseGate(const std::string& gate) {
  if (gate.empty()) return v1::GATE_KIND_UNSPECIFIED;
  v1::GateKind parsed;
  if (v1::GateKind_Parse(absl::StrCat("GATE_KIND_", absl::AsciiStrToUpper(gate)), &parsed) &&
      parsed != v1::GATE_KIND_UNSPECIFIED) {
    return parsed;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--gate is ", Quoted(gate), "; give gateless, noisy or arrow"));
}

// What only the gateway can judge is left to it.
StatusOr<v1::Collaboration> ParseCollaboration(const QuestionOptions& options) {
  v1::Collaboration collaboration;
  ASSIGN_OR_RETURN(const v1::CollaborationMode mode, ParseMode(options));
  ASSIGN_OR_RETURN(const v1::GateKind gate, ParseGate(options.gate));
  collaboration.set_mode(mode);
  collaboration.set_gate(gate);
  if (options.gate_top_k > 0) collaboration.set_top_k(static_cast<uint32_t>(options.gate_top_k));
  collaboration.set_k(static_cast<uint32_t>(options.k));
  if (options.experts.empty()) return collaboration;
  const StatusOr<std::vector<RequestedMember>> members = ParseMemberList(options.experts);
  if (!members.ok()) return Annotate(members.status(), "--experts");
  for (const RequestedMember& requested : *members) {
    v1::CollaborationMember* member = collaboration.add_members();
    member->set_expert(requested.expert);
    if (requested.weight) member->set_weight(*requested.weight);
  }
  return collaboration;
}

// GenerateRequest and RouteRequest name these fields alike.
template <typename Request>
void FillQuestion(const QuestionOptions& options, const std::string& question, Request* request) {
  if (options.raw) {
    request->set_prompt(question);
  } else {
    if (!options.system.empty()) {
      v1::ChatMessage* message = request->mutable_chat()->add_messages();
      message->set_role("system");
      message->set_content(options.system);
    }
    v1::ChatMessage* message = request->mutable_chat()->add_messages();
    message->set_role("user");
    message->set_content(question);
  }
  request->set_expert(options.expert);
  for (const std::string& tag : options.tags) request->mutable_routing()->add_tags(tag);
  for (const std::string& name : options.allowed) request->mutable_routing()->add_allowed_experts(name);
  request->mutable_routing()->set_policy(options.policy);
  if (IsCollaboration(options)) *request->mutable_collaboration() = ParseCollaboration(options).value();
  request->mutable_context()->set_tenant(options.tenant);
  request->mutable_context()->set_priority(options.priority);
  request->mutable_context()->set_no_shadow(!options.shadow);
}

}  // namespace

void AddRoutingFlags(FlagSet* flags, QuestionOptions* options) {
  flags->Section("Who answers");
  flags->String("expert", &options->expert, "NAME", "auto, base, a name, or name@digest");
  flags->Strings("tag", &options->tags, "TAG",
                 "a declared field of the question, tried against the rules first");
  flags->Strings("allow", &options->allowed, "NAME", "experts that may answer; none given: all");
  flags->String("policy", &options->policy, "NAME",
                "nearest, top_k, mixture, adaptive_k, classifier; empty: the gateway's");
  flags->String("system", &options->system, "TEXT", "system message; empty: the model's own default");
  flags->Bool("raw", &options->raw, "send the text as it is, without the chat template");
  flags->String("tenant", &options->tenant, "NAME", "on whose account");
  flags->Int("priority", &options->priority, -100, 100, "N", "higher is served first");
  flags->Bool("shadow", &options->shadow,
              "the gateway may keep the prompt until it has been scored under other experts; --no-shadow: it "
              "must not");
}

void AddCollaborationFlags(FlagSet* flags, QuestionOptions* options) {
  flags->Section("Several experts");
  flags->String("experts", &options->experts, "A:W,B:W",
                "these together, with weights that sum to 1, or A,B");
  flags->String("mode", &options->mode, "MODE",
                "mixture: their distributions (as without this flag); blend: their weights; gated: their "
                "weights, of each token and module anew");
  flags->Int("k", &options->k, 0, 16, "K", "instead of --experts: the K best by the router; 0: none");
  flags->String("gate", &options->gate, "GATE",
                "what weighs gated experts: gateless (as without this flag), noisy, arrow");
  flags->Int("gate-top-k", &options->gate_top_k, 0, 16, "K", "experts that a gate uses at a time; 0: all");
}

Status CheckCollaboration(const QuestionOptions& options) {
  return IsCollaboration(options) ? ParseCollaboration(options).status() : absl::OkStatus();
}

void AddSamplingFlags(FlagSet* flags, QuestionOptions* options) {
  flags->Section("Sampling");
  flags->Int("max-tokens", &options->max_tokens, 1, 1 << 20, "N", "longest answer");
  flags->Double("temperature", &options->temperature, 0, 100, "T", "0: the most probable token");
  flags->Int("top-k", &options->top_k, 0, 1 << 20, "K", "draw from the K most probable; 0: all");
  flags->Double("top-p", &options->top_p, 0, 1, "P", "draw from the smallest set of this mass; 1: from all");
  flags->Double("min-p", &options->min_p, 0, 1, "P",
                "drop what is less probable than P times the best; 0: nothing");
  flags->Double("repetition-penalty", &options->repetition_penalty, 0.01, 10, "R", "1: none");
  flags->Int("seed", &options->seed, -1, INT64_MAX, "N", "-1: drawn by the gateway");
  flags->Strings("stop", &options->stop, "TEXT", "end the answer before this text");
}

void AddConstraintFlags(FlagSet* flags, QuestionOptions* options) {
  flags->Section("What the answer must be (docs/http.md)");
  flags->String("json-schema", &options->json_schema, "FILE", "JSON that is valid against this JSON schema");
  flags->String("regex", &options->regex, "REGEX", "text that matches as a whole");
  flags->Strings("choice", &options->choices, "TEXT", "one of these texts");
}

Status ReadConstraint(QuestionOptions* options) {
  const int n_kinds = (options->json_schema.empty() ? 0 : 1) + (options->regex.empty() ? 0 : 1) +
                      (options->choices.empty() ? 0 : 1);
  if (n_kinds > 1) return absl::InvalidArgumentError("give one of --json-schema, --regex and --choice");
  if (options->json_schema.empty()) return absl::OkStatus();
  ASSIGN_OR_RETURN(options->json_schema, ReadFile(options->json_schema, kMaxConstraintBytes));
  return absl::OkStatus();
}

v1::GenerateRequest MakeGenerateRequest(const QuestionOptions& options, const std::string& question) {
  v1::GenerateRequest request;
  FillQuestion(options, question, &request);
  v1::SamplingParams* sampling = request.mutable_sampling();
  sampling->set_max_tokens(static_cast<uint32_t>(options.max_tokens));
  sampling->set_temperature(static_cast<float>(options.temperature));
  sampling->set_top_k(static_cast<uint32_t>(options.top_k));
  sampling->set_top_p(static_cast<float>(options.top_p));
  sampling->set_min_p(static_cast<float>(options.min_p));
  sampling->set_repetition_penalty(static_cast<float>(options.repetition_penalty));
  if (options.seed >= 0) sampling->set_seed(static_cast<uint64_t>(options.seed));
  for (const std::string& stop : options.stop) sampling->add_stop(stop);
  if (!options.json_schema.empty()) sampling->mutable_constraint()->set_json_schema(options.json_schema);
  if (!options.regex.empty()) sampling->mutable_constraint()->set_regex(options.regex);
  for (const std::string& choice : options.choices) {
    sampling->mutable_constraint()->mutable_choice()->add_texts(choice);
  }
  return request;
}

v1::RouteRequest MakeRouteRequest(const QuestionOptions& options, const std::string& question) {
  v1::RouteRequest request;
  FillQuestion(options, question, &request);
  return request;
}

}  // namespace coterie::command
