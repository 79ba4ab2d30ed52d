#ifndef COTERIE_GATEWAY_UPSTREAM_LINK_ERRORS_H_
#define COTERIE_GATEWAY_UPSTREAM_LINK_ERRORS_H_

#include "common/status.h"

namespace grpc {
class Status;
}

namespace coterie::gateway {

// Whether a connection failed because nobody listens: the process that did is gone, and with it its
// sequences.
bool PortIsClosed(const grpc::Status& status);

// The other side cannot do what was asked, or will not do it for us: asking again soon changes nothing.
bool IsRefusal(const grpc::Status& status);

// The error of a sequence that is the worker's fault, such as a lost device.
bool IsWorkersFault(const Status& error);

}  // namespace coterie::gateway

#endif  // COTERIE_GATEWAY_UPSTREAM_LINK_ERRORS_H_
