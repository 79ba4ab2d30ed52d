#ifndef COTERIE_TESTS_COMM_SCRIPT_H_
#define COTERIE_TESTS_COMM_SCRIPT_H_

#include <functional>
#include <memory>

#include "kernels/comm/communicator.h"

namespace coterie::comm_testing {

using Allocator = std::function<std::shared_ptr<std::byte>(size_t n_bytes)>;

// Every call once, long messages and short ones, and one at the end in which everybody hears from everybody.
// OK when all calls were and what came is right; Internal when it is not.
Status RunScript(Communicator* member, const CallOptions& call, const Allocator& allocate);

}  // namespace coterie::comm_testing

#endif  // COTERIE_TESTS_COMM_SCRIPT_H_
