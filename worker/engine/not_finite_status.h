#ifndef COTERIE_WORKER_ENGINE_NOT_FINITE_STATUS_H_
#define COTERIE_WORKER_ENGINE_NOT_FINITE_STATUS_H_

#include <string>

#include "common/sequence.h"
#include "common/status.h"

namespace coterie {

// What ends a sequence whose logits at `place` hold NaN or an infinity. With adapters FailedPrecondition,
// which names them: they are what is wrong, on every worker; with the base alone Internal.
Status NotFiniteStatus(const SequenceRequest& request, const std::string& place);

}  // namespace coterie

#endif  // COTERIE_WORKER_ENGINE_NOT_FINITE_STATUS_H_
