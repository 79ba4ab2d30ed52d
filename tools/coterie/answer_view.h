#ifndef COTERIE_TOOLS_COTERIE_ANSWER_VIEW_H_
#define COTERIE_TOOLS_COTERIE_ANSWER_VIEW_H_

#include <nlohmann/json.hpp>
#include <string>

#include "coterie/v1/generation.pb.h"
#include "tools/coterie/terminal.h"

namespace coterie::command {

// "postgres  score 0.62  margin 0.21  on cpu-0: nearest: postgres 0.62, …"; of an expert that is made of
// others "rowing = 0.59 postgres + 0.41 python  mixture …".
std::string DescribeRoute(const v1::RouteDecision& route, const Terminal& terminal);
// The experts' names with their weights where there are several; "base" without any.
std::string ExpertNames(const v1::RouteDecision& route);
// "mixture"; empty where nobody answers together.
std::string ModeName(v1::CollaborationMode mode);
double TokensPerSecond(const v1::Finish& finish);

nlohmann::json ToJson(const v1::RouteDecision& route);
nlohmann::json ToJson(const v1::Finish& finish);
// One object a message: {"route": …}, {"text": …}, {"notice": …}, {"finish": …}.
nlohmann::json ToJson(const v1::GenerateResponse& event);
// Text of a model may be cut anywhere; what is not UTF-8 becomes U+FFFD.
std::string Dump(const nlohmann::json& json);

// "stop", "length", …
std::string FinishName(v1::FinishReason reason);

}  // namespace coterie::command

#endif  // COTERIE_TOOLS_COTERIE_ANSWER_VIEW_H_
