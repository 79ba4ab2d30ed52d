#ifndef COTERIE_TESTS_KERNELS_DEVICES_STAND_IN_OPTIONS_H_
#define COTERIE_TESTS_KERNELS_DEVICES_STAND_IN_OPTIONS_H_

#include "kernels/devices/inventory.h"
#include "tests/gpu/drivers/stand_in_driver.h"

namespace coterie::devices {

inline InventoryOptions OptionsOf(const StandInDriver& driver) {
  InventoryOptions options;
  options.driver_folder = driver.folder();
  options.sysfs = driver.sysfs();
  return options;
}

}  // namespace coterie::devices

#endif  // COTERIE_TESTS_KERNELS_DEVICES_STAND_IN_OPTIONS_H_
