#ifndef COTERIE_TOOLS_COTERIE_QUESTION_H_
#define COTERIE_TOOLS_COTERIE_QUESTION_H_

#include <optional>
#include <string>
#include <vector>

#include "common/flags.h"
#include "common/status.h"
#include "coterie/v1/generation.pb.h"

namespace coterie::command {

// What `ask`, `chat`, `route` and `bench` let a person say about a question.
struct QuestionOptions {
  std::string expert = "auto";
  std::string system;
  std::vector<std::string> tags;
  std::vector<std::string> allowed;
  std::string policy;
  std::string experts;  // "a:0.6,b:0.4" or "a,b"
  std::string mode;     // empty: mixture, where experts or k are given
  int k = 0;
  std::string gate;    // of --mode=gated; empty: gateless
  int gate_top_k = 0;  // 0: all members
  std::string tenant;
  int priority = 0;
  bool shadow = true;
  bool raw = false;

  int max_tokens = 256;
  double temperature = 0;
  int top_k = 0;
  double top_p = 1;
  double min_p = 0;
  double repetition_penalty = 1;
  int64_t seed = -1;
  std::vector<std::string> stop;

  std::string json_schema;  // a file, until ReadConstraint
  std::string regex;
  std::vector<std::string> choices;
};

void AddRoutingFlags(FlagSet* flags, QuestionOptions* options);
// Several experts on one question.
void AddCollaborationFlags(FlagSet* flags, QuestionOptions* options);
void AddSamplingFlags(FlagSet* flags, QuestionOptions* options);

// What the answer's text must be.
void AddConstraintFlags(FlagSet* flags, QuestionOptions* options);
// Puts the file's text into json_schema. InvalidArgument where more than one kind was given; else the file's
// own error.
Status ReadConstraint(QuestionOptions* options);

// InvalidArgument, in the words of the flags, where --experts, --mode and --gate cannot be understood.
Status CheckCollaboration(const QuestionOptions& options);

// Both of options that CheckCollaboration accepts.
v1::GenerateRequest MakeGenerateRequest(const QuestionOptions& options, const std::string& question);
v1::RouteRequest MakeRouteRequest(const QuestionOptions& options, const std::string& question);

}  // namespace coterie::command

#endif  // COTERIE_TOOLS_COTERIE_QUESTION_H_
