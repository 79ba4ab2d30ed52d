#include "kernels/comm/driver_calls.h"

#include "kernels/comm/shared_library.h"

namespace coterie {

StatusOr<DriverCalls> LoadDriver() {
  Status status;
  DriverCalls calls;
  SharedLibrary cuda("libcuda.so.1", "communicators on device memory", &status);
  cuda.Find("cuEventCreate", &calls.event_create);
  cuda.Find("cuEventRecord", &calls.event_record);
  cuda.Find("cuEventQuery", &calls.event_query);
  cuda.Find("cuEventDestroy_v2", &calls.event_destroy);
  cuda.Find("cuMemcpyDtoHAsync_v2", &calls.copy_to_host);
  cuda.Find("cuMemcpyHtoDAsync_v2", &calls.copy_to_device);
  cuda.Find("cuMemAllocHost_v2", &calls.allocate_host);
  cuda.Find("cuMemFreeHost", &calls.free_host);
  if (!status.ok()) return status;
  return calls;
}

}  // namespace coterie
