#ifndef COTERIE_TOOLS_COTERIE_EXPERT_VIEW_H_
#define COTERIE_TOOLS_COTERIE_EXPERT_VIEW_H_

#include <nlohmann/json_fwd.hpp>

namespace coterie::v1 {
class ExpertInfo;
class PublishExpertResponse;
}  // namespace coterie::v1

namespace coterie::command {

// An expert as --json shows it.
nlohmann::json InfoToJson(const v1::ExpertInfo& info);

// A line about what was published.
void PrintPublished(const v1::PublishExpertResponse& response, bool json);

}  // namespace coterie::command

#endif  // COTERIE_TOOLS_COTERIE_EXPERT_VIEW_H_
