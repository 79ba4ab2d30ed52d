#ifndef COTERIE_GATEWAY_HTTP_API_COLLABORATION_FIELDS_H_
#define COTERIE_GATEWAY_HTTP_API_COLLABORATION_FIELDS_H_

#include <string>

#include "common/ids.h"
#include "common/status.h"
#include "gateway/http/api/json_object.h"
#include "gateway/routing/collaboration.h"

namespace coterie::gateway::http {

// Who shall answer: one of both says something, or neither ("auto").
struct ModelAsk {
  ExpertSelector expert;
  CollaborationAsk several;
};

// `model`: "auto" (and where it is absent), "base", an expert, or several of them as
// "mixture:a:0.6,b:0.4" or "blend:a,b". NotFound for what cannot be one of these, InvalidArgument for members
// or weights that cannot be, Unimplemented for a mode that is not built.
StatusOr<ModelAsk> ReadModel(const JsonObject& body);

// {"mode": "mixture", "members": ["a", {"expert": "b", "weight": 0.4}]} or {"mode": "mixture", "k": 2}, under
// `coterie.collaboration`.
StatusOr<CollaborationAsk> ReadCollaboration(const nlohmann::json& value, std::string path);

}  // namespace coterie::gateway::http

#endif  // COTERIE_GATEWAY_HTTP_API_COLLABORATION_FIELDS_H_
