#ifndef COTERIE_TESTS_COMM_FILE_RENDEZVOUS_H_
#define COTERIE_TESTS_COMM_FILE_RENDEZVOUS_H_

#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>

#include "kernels/comm/rendezvous.h"

namespace coterie::comm_testing {

// For processes of one machine that must not need gRPC (tests/gpu/pack carries their libraries): a folder
// with a file for each text.
class FileRendezvous : public Rendezvous {
 public:
  explicit FileRendezvous(std::filesystem::path folder) : folder_(std::move(folder)) {}

  Status Publish(const RendezvousKey& key, const std::string& text, MonotonicTime,
                 const AbortFlag&) override {
    const std::filesystem::path path = Path(key), unfinished = path.string() + ".unfinished";
    std::ofstream(unfinished, std::ios::binary) << text;
    std::error_code error;
    std::filesystem::create_hard_link(unfinished, path, error);
    std::filesystem::remove(unfinished);
    return error ? absl::AlreadyExistsError(path.string()) : absl::OkStatus();
  }

  StatusOr<std::string> Await(const RendezvousKey& key, MonotonicTime deadline,
                              const AbortFlag& abort) override {
    for (;;) {
      if (std::ifstream file(Path(key), std::ios::binary); file) {
        return std::string(std::istreambuf_iterator<char>(file), {});
      }
      if (abort.raised()) return absl::CancelledError("aborted");
      if (MonotonicNow() >= deadline) return absl::DeadlineExceededError("no such file");
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }

 private:
  std::filesystem::path Path(const RendezvousKey& key) const {
    return folder_ / absl::StrCat(key.group, "-", key.epoch, "-", key.rank, "-", key.topic);
  }
  const std::filesystem::path folder_;
};

}  // namespace coterie::comm_testing

#endif  // COTERIE_TESTS_COMM_FILE_RENDEZVOUS_H_
