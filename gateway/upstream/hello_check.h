#ifndef COTERIE_GATEWAY_UPSTREAM_HELLO_CHECK_H_
#define COTERIE_GATEWAY_UPSTREAM_HELLO_CHECK_H_

#include <string>

#include "gateway/upstream/worker_info.h"
#include "gateway/upstream/worker_link.h"

namespace coterie::gateway {

// FailedPrecondition, naming both sides' values, for a worker that this gateway cannot work with.
Status CheckHello(const WorkerIdentity& hello, const WorkerLinkOptions& options, const std::string& address);

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_UPSTREAM_HELLO_CHECK_H_
