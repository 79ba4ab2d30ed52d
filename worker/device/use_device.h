#ifndef COTERIE_WORKER_DEVICE_USE_DEVICE_H_
#define COTERIE_WORKER_DEVICE_USE_DEVICE_H_

#include <string>

#include "common/status.h"
#include "kernels/devices/choose_device.h"
#include "worker/options.h"

namespace coterie::worker {

// Chooses what --device asks for, says so in the log, and moves this process near it: before the first thread
// that computes is started. An error names --device, what is wrong with it, and what to do.
StatusOr<devices::ChosenDevice> UseDevice(const WorkerOptions& options,
                                          const devices::InventoryOptions& inventory_options);

// What --list-devices prints: a line for each device (common/device_listing.h).
std::string ListDevices(const WorkerOptions& options, const devices::InventoryOptions& inventory_options);

}  // namespace coterie::worker

#endif  // COTERIE_WORKER_DEVICE_USE_DEVICE_H_
