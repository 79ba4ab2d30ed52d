#ifndef COTERIE_COMMON_ADAPTER_FAILURE_H_
#define COTERIE_COMMON_ADAPTER_FAILURE_H_

#include <optional>

#include "common/digest.h"
#include "common/status.h"

namespace coterie {

// An error that came from loading an adapter, told apart from all others whatever its code: the file may not
// be visible here yet, be damaged here, or be too large for this worker, while another worker can load it.
Status MarkAdapterFailure(Status status, const Digest& adapter);
// Which adapter it was; nothing for any other error.
std::optional<Digest> FailedAdapter(const Status& status);

}  // namespace coterie

#endif  // COTERIE_COMMON_ADAPTER_FAILURE_H_
