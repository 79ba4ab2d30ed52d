#ifndef COTERIE_TESTS_COMM_SCRIPT_H_
#define COTERIE_TESTS_COMM_SCRIPT_H_

#include "kernels/comm/communicator.h"
#include "tests/comm/buffer.h"

namespace coterie::comm_testing {

// Every call once, long messages and short ones, and one at the end in which everybody hears from everybody.
// OK when all calls were and what came is right; Internal when it is not.
Status RunScript(Communicator* member, const CallOptions& call, const Allocator& allocate);

}  // namespace coterie::comm_testing

#endif  // COTERIE_TESTS_COMM_SCRIPT_H_
