#ifndef COTERIE_KERNELS_COMM_DEVICE_STAGING_H_
#define COTERIE_KERNELS_COMM_DEVICE_STAGING_H_

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/clock.h"
#include "kernels/comm/abort_flag.h"
#include "kernels/comm/driver_calls.h"
#include "kernels/comm/loss.h"

namespace coterie {

// Pinned memory of the host through which device memory travels between members that reach each other over
// the host. One thread at a time.
class DeviceStaging {
 public:
  struct Wait {
    void* stream = nullptr;
    absl::Duration timeout;  // for messages
    MonotonicTime deadline;
  };

  // `rank` is this member's.
  DeviceStaging(const DriverCalls& calls, std::shared_ptr<AbortFlag> abort, int rank,
                std::vector<std::string> members)
      : calls_(calls), abort_(std::move(abort)), rank_(rank), members_(std::move(members)) {}
  ~DeviceStaging();
  DeviceStaging(const DeviceStaging&) = delete;
  DeviceStaging& operator=(const DeviceStaging&) = delete;

  // Room for so many bytes in data(); kept from call to call. A loss where the driver gives none.
  std::optional<Loss> Reserve(size_t n_bytes);
  std::byte* data() const { return data_; }

  // Copies behind what stands in the stream, and returns when it is done.
  std::optional<Loss> ToHost(std::byte* host, const void* device, size_t n_bytes, const Wait& wait);
  std::optional<Loss> ToDevice(void* device, const std::byte* host, size_t n_bytes, const Wait& wait);

  // After a loss: until the device has let go of every buffer, for a bounded time.
  void LetGo();

 private:
  Loss Failed(int error) const { return LossFromDevice(error, rank_, members_); }
  std::optional<Loss> WaitFor(int begun, const Wait& wait);
  void Free();

  const DriverCalls calls_;
  const std::shared_ptr<AbortFlag> abort_;
  const int rank_;
  const std::vector<std::string> members_;
  void* event_ = nullptr;
  bool under_way_ = false;  // a copy, behind which the event stands
  std::byte* data_ = nullptr;
  size_t n_bytes_ = 0;
};

}  // namespace coterie

#endif  // COTERIE_KERNELS_COMM_DEVICE_STAGING_H_
