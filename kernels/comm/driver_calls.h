#ifndef COTERIE_KERNELS_COMM_DRIVER_CALLS_H_
#define COTERIE_KERNELS_COMM_DRIVER_CALLS_H_

#include <cstddef>

#include "common/status.h"

namespace coterie {

// What communicators use of the CUDA driver, as a table of functions: declared here and not taken from its
// header, so that every build has it and tests can put a device of their own under it. Results are CUresults.
// Every function is called by a thread whose current device is that of the stream.
struct DriverCalls {
  using Stream = void*;
  using Event = void*;

  int (*event_create)(Event* event, unsigned int flags) = nullptr;
  int (*event_record)(Event event, Stream stream) = nullptr;
  int (*event_query)(Event event) = nullptr;
  int (*event_destroy)(Event event) = nullptr;
  // Addresses of the device are as wide as pointers.
  int (*copy_to_host)(void* host, const void* device, size_t n_bytes, Stream stream) = nullptr;
  int (*copy_to_device)(void* device, const void* host, size_t n_bytes, Stream stream) = nullptr;
  int (*allocate_host)(void** host, size_t n_bytes) = nullptr;  // pinned
  int (*free_host)(void* host) = nullptr;
};
inline constexpr int kDriverSuccess = 0;
inline constexpr int kDriverOutOfMemory = 2;
inline constexpr int kDriverNotReady = 600;  // the others are errors
inline constexpr unsigned int kEventDisableTiming = 2;

// From libcuda.so.1, which stays loaded. Unavailable, naming the library or the function, where one is
// missing.
StatusOr<DriverCalls> LoadDriver();

}  // namespace coterie

#endif  // COTERIE_KERNELS_COMM_DRIVER_CALLS_H_
