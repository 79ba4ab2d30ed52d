#ifndef COTERIE_COMMON_REFUSED_FIELD_H_
#define COTERIE_COMMON_REFUSED_FIELD_H_

#include <optional>
#include <string>
#include <string_view>

#include "common/status.h"

namespace coterie {

// `status`, which is about this field of a request: "temperature", "messages[2].role". The words of the
// message name it too; this is for protocols that have a place for it.
Status OfField(Status status, std::string_view field);
// Nothing where no field was named.
std::optional<std::string> FieldOf(const Status& status);

}  // namespace coterie

#endif  // COTERIE_COMMON_REFUSED_FIELD_H_
