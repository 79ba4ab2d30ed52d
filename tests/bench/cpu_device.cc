#include <cstring>

#include "tests/bench/bench_device.h"
#include "tests/bench/harness.h"

namespace coterie::bench {
namespace {

class CpuDevice final : public BenchDevice {
 public:
  std::string Facts() override { return "\"device\": \"cpu\""; }

  StatusOr<double> CopyBytesPerSecond(size_t bytes, int runs) override {
    const cpu::AlignedBuffer from(bytes), to(bytes);
    std::memset(from.data(), 1, bytes);
    std::vector<double> rates;
    for (int i = 0; i < runs; ++i) {
      rates.push_back(2.0 * static_cast<double>(bytes) /
                      (1e-6 * MicrosecondsOf([&] { std::memcpy(to.data(), from.data(), bytes); })));
    }
    return Median(rates);
  }
  StatusOr<double> UploadBytesPerSecond(size_t bytes, int runs) override {
    ASSIGN_OR_RETURN(const double copy, CopyBytesPerSecond(bytes, runs));
    return copy / 2;  // each byte counts once
  }
  StatusOr<double> ProductSeconds(int64_t, int64_t, int64_t, int) override {
    return absl::UnimplementedError("the CPU has no such library");
  }
  StatusOr<std::unique_ptr<DecoderOps>> MakeOps(const CudaBackendOptions&) override {
    return CreateCpuDecoderOps({});
  }
  Status Mark(DecoderOps*) override { return absl::UnimplementedError("steps are computed in the call"); }
  StatusOr<std::vector<double>> TakeMarks() override { return std::vector<double>(); }
  bool LastMarkIsAhead() override { return false; }
};

}  // namespace

std::unique_ptr<BenchDevice> MakeCpuDevice() { return std::make_unique<CpuDevice>(); }

}  // namespace coterie::bench
