#include "common/status.h"

namespace coterie {

Status Annotate(const Status& status, std::string_view context) {
  if (status.ok()) return status;
  Status annotated(status.code(), absl::StrCat(ToAbsl(context), ": ", status.message()));
  // What stands beside the message (a retry delay, which adapter it was) is as true as before.
  status.ForEachPayload(
      [&](absl::string_view type, const absl::Cord& payload) { annotated.SetPayload(type, payload); });
  return annotated;
}

}  // namespace coterie
