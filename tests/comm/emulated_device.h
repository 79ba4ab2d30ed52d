#ifndef COTERIE_TESTS_COMM_EMULATED_DEVICE_H_
#define COTERIE_TESTS_COMM_EMULATED_DEVICE_H_

#include "kernels/comm/driver_calls.h"

namespace coterie::comm_testing {

// The emulated GPU's functions, where the build has one.
DriverCalls EmulatedDriver();

}  // namespace coterie::comm_testing

#endif  // COTERIE_TESTS_COMM_EMULATED_DEVICE_H_
