#ifndef COTERIE_WORKER_ENGINE_CHECK_REQUEST_H_
#define COTERIE_WORKER_ENGINE_CHECK_REQUEST_H_

#include <span>

#include "common/sequence.h"
#include "common/status.h"

namespace coterie {

struct RequestLimits {
  int vocab_size = 0;
  int max_sequence_tokens = 0;  // with so many members as the request has
  int n_adapter_slots = 0;
  int max_mixture_members = 1;
  bool takes_constraints = false;
  std::span<const GateKind> gates;  // that the model has
};

// InvalidArgument naming the field, its value and the limit, where a request cannot be served as it stands.
Status CheckRequest(const SequenceRequest& request, const RequestLimits& limits);

}  // namespace coterie

#endif  // COTERIE_WORKER_ENGINE_CHECK_REQUEST_H_
