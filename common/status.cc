#include "common/status.h"

namespace coterie {

Status Annotate(const Status& status, std::string_view context) {
  if (status.ok()) return status;
  return Status(status.code(), absl::StrCat(ToAbsl(context), ": ", status.message()));
}

}  // namespace coterie
