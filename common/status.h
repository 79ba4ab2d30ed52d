#ifndef COTERIE_COMMON_STATUS_H_
#define COTERIE_COMMON_STATUS_H_

#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"

namespace coterie {

using absl::Status;
using absl::StatusOr;

// absl::string_view of this Debian is not std::string_view; all our APIs speak std and cross the seam here.
inline absl::string_view ToAbsl(std::string_view s) { return {s.data(), s.size()}; }
inline std::string_view ToStd(absl::string_view s) { return {s.data(), s.size()}; }

// The same code, with `context` (the thing: a file, a field, an expert) before the message.
Status Annotate(const Status& status, std::string_view context);

}  // namespace coterie

#define COTERIE_CONCAT_INNER(a, b) a##b
#define COTERIE_CONCAT(a, b) COTERIE_CONCAT_INNER(a, b)

#define RETURN_IF_ERROR(expression)                                           \
  do {                                                                        \
    if (::absl::Status status_ = (expression); !status_.ok()) return status_; \
  } while (false)

#define ASSIGN_OR_RETURN(lhs, expression) \
  ASSIGN_OR_RETURN_INNER(COTERIE_CONCAT(status_or_, __LINE__), lhs, expression)
#define ASSIGN_OR_RETURN_INNER(tmp, lhs, expression) \
  auto tmp = (expression);                           \
  if (!tmp.ok()) return std::move(tmp).status();     \
  lhs = std::move(tmp).value()

#endif  // COTERIE_COMMON_STATUS_H_
