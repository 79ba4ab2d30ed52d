#include "kernels/comm/device_staging.h"

#include <algorithm>
#include <bit>

#include "absl/strings/str_cat.h"
#include "kernels/comm/turns.h"

namespace coterie {
namespace {

constexpr size_t kLeastBytes = 1 << 20;
// What a device may take to let go, beyond a deadline.
constexpr absl::Duration kLetGoTime = absl::Seconds(2);

}  // namespace

DeviceStaging::~DeviceStaging() {
  LetGo();
  // A device that holds on to it may still write there: it is never anybody else's.
  if (under_way_) return;
  Free();
  if (event_ != nullptr) calls_.event_destroy(event_);
}

void DeviceStaging::Free() {
  if (data_ != nullptr) calls_.free_host(data_);
  data_ = nullptr;
  n_bytes_ = 0;
}

std::optional<Loss> DeviceStaging::Reserve(size_t n_bytes) {
  if (event_ == nullptr) {
    if (const int error = calls_.event_create(&event_, kEventDisableTiming); error != kDriverSuccess) {
      event_ = nullptr;
      return Failed(error);
    }
  }
  if (n_bytes <= n_bytes_) return std::nullopt;
  Free();
  void* memory = nullptr;
  const size_t n_rounded = std::bit_ceil(std::max(n_bytes, kLeastBytes));
  if (const int error = calls_.allocate_host(&memory, n_rounded); error != kDriverSuccess) {
    Loss loss = Failed(error);
    absl::StrAppend(&loss.reason, ": no ", n_rounded, " bytes of pinned memory");
    return loss;
  }
  data_ = static_cast<std::byte*>(memory);
  n_bytes_ = n_rounded;
  return std::nullopt;
}

std::optional<Loss> DeviceStaging::WaitFor(int begun, const Wait& wait) {
  if (begun != kDriverSuccess) return Failed(begun);
  if (const int error = calls_.event_record(event_, wait.stream); error != kDriverSuccess)
    return Failed(error);
  under_way_ = true;
  Turns turns;
  for (;;) {
    const int event = calls_.event_query(event_);
    if (event != kDriverNotReady) under_way_ = false;
    if (event == kDriverSuccess) return std::nullopt;
    if (event != kDriverNotReady) return Failed(event);
    if (abort_->raised()) return LossFromAbort(rank_, members_);
    if (MonotonicNow() >= wait.deadline) {
      return Loss{absl::StatusCode::kDeadlineExceeded, rank_,
                  absl::StrCat("what stands in the stream of ", MemberName(rank_, members_),
                               " was not done within ", absl::FormatDuration(wait.timeout))};
    }
    turns.Wait();
  }
}

std::optional<Loss> DeviceStaging::ToHost(std::byte* host, const void* device, size_t n_bytes,
                                          const Wait& wait) {
  if (n_bytes == 0) return std::nullopt;
  return WaitFor(calls_.copy_to_host(host, device, n_bytes, wait.stream), wait);
}

std::optional<Loss> DeviceStaging::ToDevice(void* device, const std::byte* host, size_t n_bytes,
                                            const Wait& wait) {
  if (n_bytes == 0) return std::nullopt;
  return WaitFor(calls_.copy_to_device(device, host, n_bytes, wait.stream), wait);
}

void DeviceStaging::LetGo() {
  const MonotonicTime deadline = MonotonicNow() + kLetGoTime;
  Turns turns;
  while (under_way_ && MonotonicNow() < deadline) {
    under_way_ = calls_.event_query(event_) == kDriverNotReady;
    if (under_way_) turns.Wait();
  }
}

}  // namespace coterie
