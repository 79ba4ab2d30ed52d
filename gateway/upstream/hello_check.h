#ifndef COTERIE_GATEWAY_UPSTREAM_HELLO_CHECK_H_
#define COTERIE_GATEWAY_UPSTREAM_HELLO_CHECK_H_

#include <string>

#include "gateway/upstream/worker_info.h"
#include "gateway/upstream/worker_link.h"

namespace coterie::gateway {

// FailedPrecondition, naming both sides' values, for a worker that this gateway cannot work with, or naming
// the field for one that says more of itself than common/worker_protocol.h allows.
Status CheckHello(const WorkerIdentity& hello, const WorkerLinkOptions& options, const std::string& address);

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_UPSTREAM_HELLO_CHECK_H_
