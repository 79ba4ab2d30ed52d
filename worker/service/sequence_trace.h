#ifndef COTERIE_WORKER_SERVICE_SEQUENCE_TRACE_H_
#define COTERIE_WORKER_SERVICE_SEQUENCE_TRACE_H_

#include <string>

#include "worker/engine/sequence.h"

namespace coterie::worker {

// The experts' names as logs and traces have them, "base" for none.
std::string ExpertsOf(const SequenceRequest& request);

// Writes what the engine noted of a sequence that has left it into the sequence's trace: how long it waited,
// for a cold adapter too, and how long its prompt and its answer took. Nothing where it is not traced.
void WriteSequenceSpans(const Sequence& sequence);

}  // namespace coterie::worker

#endif  // COTERIE_WORKER_SERVICE_SEQUENCE_TRACE_H_
