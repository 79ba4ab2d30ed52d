// bench_gpu's view of a GPU: all its calls of the CUDA runtime. On an emulated one it says figures of a CPU.
#include "tests/bench/bench_device.h"

#include <cuda_runtime.h>

#include <algorithm>
#include <random>

#include "kernels/cuda/cuda_backend.h"
#include "kernels/cuda/memory.h"
#include "kernels/cuda/vendor_product.h"

namespace coterie::bench {
namespace {

using cuda::CopyToDevice;
using cuda::DeviceMemory;
using cuda::PinnedMemory;
using cuda::ToStatus;

double MedianOf(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + std::ssize(values) / 2, values.end());
  return values[values.size() / 2];
}

class CudaDevice final : public BenchDevice {
 public:
  static StatusOr<std::unique_ptr<BenchDevice>> Open(int index) {
    auto device = std::unique_ptr<CudaDevice>(new CudaDevice(index));
    RETURN_IF_ERROR(ToStatus(cudaSetDevice(index), absl::StrCat("choosing cuda:", index)));
    RETURN_IF_ERROR(ToStatus(cudaStreamCreateWithFlags(&device->stream_, cudaStreamNonBlocking), "a stream"));
    for (cudaEvent_t* event : {&device->begin_, &device->end_}) {
      RETURN_IF_ERROR(ToStatus(cudaEventCreateWithFlags(event, 0), "an event"));
    }
    return device;
  }
  ~CudaDevice() override {
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
    for (cudaEvent_t event : {begin_, end_}) {
      if (event != nullptr) cudaEventDestroy(event);
    }
    for (cudaEvent_t event : marks_) cudaEventDestroy(event);
  }

  std::string Facts() override {
    cudaDeviceProp facts = {};
    int driver = 0, runtime = 0;
    size_t free = 0, total = 0;
    cudaGetDeviceProperties(&facts, index_);
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    cudaMemGetInfo(&free, &total);
    return absl::StrCat("\"device\": \"", facts.name, "\", \"compute_capability\": \"", facts.major, ".",
                        facts.minor, "\", \"processors\": ", facts.multiProcessorCount,
                        ", \"memory_bytes\": ", total, ", \"free_bytes\": ", free,
                        ", \"l2_bytes\": ", facts.l2CacheSize, ", \"driver_cuda\": ", driver,
                        ", \"runtime_cuda\": ", runtime);
  }

  StatusOr<double> CopyBytesPerSecond(size_t bytes, int runs) override {
    ASSIGN_OR_RETURN(const DeviceMemory from, DeviceMemory::Allocate(bytes, "the source of a copy"));
    ASSIGN_OR_RETURN(const DeviceMemory to, DeviceMemory::Allocate(bytes, "the target of a copy"));
    RETURN_IF_ERROR(FillRandom(from.As<uint16_t>(), bytes / 2));
    ASSIGN_OR_RETURN(const double seconds, MedianSeconds(runs, [&] {
                       return ToStatus(
                           cudaMemcpyAsync(to.data(), from.data(), bytes, cudaMemcpyDeviceToDevice, stream_),
                           "a copy");
                     }));
    return 2.0 * static_cast<double>(bytes) / seconds;
  }

  StatusOr<double> UploadBytesPerSecond(size_t bytes, int runs) override {
    ASSIGN_OR_RETURN(const PinnedMemory from, PinnedMemory::Allocate(bytes, "the source of an upload"));
    ASSIGN_OR_RETURN(const DeviceMemory to, DeviceMemory::Allocate(bytes, "the target of an upload"));
    std::fill_n(from.As<uint8_t>(), bytes, uint8_t{0x5a});
    ASSIGN_OR_RETURN(const double seconds, MedianSeconds(runs, [&] {
                       return ToStatus(
                           cudaMemcpyAsync(to.data(), from.data(), bytes, cudaMemcpyHostToDevice, stream_),
                           "an upload");
                     }));
    return static_cast<double>(bytes) / seconds;
  }

  StatusOr<double> ProductSeconds(int64_t m, int64_t n, int64_t k, int runs) override {
    if (vendor_ == nullptr) {
      StatusOr<std::unique_ptr<cuda::VendorHandle>> opened = cuda::VendorHandle::Open();
      if (!opened.ok()) return absl::UnimplementedError(opened.status().message());
      vendor_ = *std::move(opened);
    }
    constexpr size_t kWorkspaceBytes = size_t{64} << 20;
    cuda::VendorProduct::Shape shape;
    shape.n = shape.y_pitch = n;
    shape.k = shape.w_pitch = shape.x_pitch = k;
    ASSIGN_OR_RETURN(const std::unique_ptr<cuda::VendorProduct> product,
                     cuda::VendorProduct::Create(vendor_.get(), shape));
    cuda::VendorProduct::Terms terms;
    terms.m = m;
    terms.workspace_bytes = kWorkspaceBytes;
    ASSIGN_OR_RETURN(const std::vector<cuda::VendorLibrary::Proposal> algorithms, product->Propose(terms));
    if (algorithms.empty()) {
      return absl::UnimplementedError(absl::StrCat("cuBLASLt has no algorithm for ", m, " x ", n, " x ", k));
    }
    const auto values = [](int64_t a, int64_t b) { return static_cast<size_t>(a) * static_cast<size_t>(b); };
    ASSIGN_OR_RETURN(const DeviceMemory x, DeviceMemory::Allocate(2 * values(m, k), "x"));
    ASSIGN_OR_RETURN(const DeviceMemory w, DeviceMemory::Allocate(2 * values(n, k), "w"));
    ASSIGN_OR_RETURN(const DeviceMemory y, DeviceMemory::Allocate(2 * values(m, n), "y"));
    ASSIGN_OR_RETURN(const DeviceMemory workspace, DeviceMemory::Allocate(kWorkspaceBytes, "a workspace"));
    RETURN_IF_ERROR(FillRandom(x.As<uint16_t>(), values(m, k)));
    RETURN_IF_ERROR(FillRandom(w.As<uint16_t>(), values(n, k)));
    double best = 0;
    for (const cuda::VendorLibrary::Proposal& algorithm : algorithms) {
      ASSIGN_OR_RETURN(const double seconds, MedianSeconds(runs, [&] {
                         return product->Run(algorithm, m, x.data(), w.data(), false, y.data(),
                                             workspace.data(), kWorkspaceBytes, stream_);
                       }));
      if (best == 0 || seconds < best) best = seconds;
    }
    return best;
  }

  StatusOr<std::unique_ptr<DecoderOps>> MakeOps(const CudaBackendOptions& options) override {
    CudaBackendOptions here = options;
    here.device = index_;
    return CreateCudaDecoderOps(here);
  }

  Status Mark(DecoderOps* ops) override {
    auto* const backend = dynamic_cast<cuda::CudaBackend*>(ops);
    if (backend == nullptr) return absl::UnimplementedError("these ops are no GPU's");
    cudaEvent_t event = nullptr;
    RETURN_IF_ERROR(ToStatus(cudaEventCreateWithFlags(&event, 0), "an event"));
    marks_.push_back(event);
    return ToStatus(cudaEventRecord(event, backend->stream()), "marking a step");
  }

  StatusOr<std::vector<double>> TakeMarks() override {
    std::vector<double> seconds;
    Status status;
    for (size_t i = 0; i < marks_.size(); ++i) {
      status.Update(ToStatus(cudaEventSynchronize(marks_[i]), "waiting for a mark"));
      float milliseconds = 0;
      if (i == 0 || !status.ok()) continue;
      status.Update(
          ToStatus(cudaEventElapsedTime(&milliseconds, marks_[i - 1], marks_[i]), "reading a mark"));
      seconds.push_back(milliseconds * 1e-3);
    }
    for (cudaEvent_t event : marks_) cudaEventDestroy(event);
    marks_.clear();
    RETURN_IF_ERROR(status);
    return seconds;
  }

  bool LastMarkIsAhead() override {
    if (marks_.empty() || cudaEventQuery(marks_.back()) != cudaErrorNotReady) return false;
    cudaGetLastError();
    return true;
  }

 private:
  explicit CudaDevice(int index) : index_(index) {}

  // Of `runs` runs by the device's own clock, after two that do not count.
  template <class Body>
  StatusOr<double> MedianSeconds(int runs, const Body& body) {
    std::vector<double> seconds;
    for (int i = -2; i < runs; ++i) {
      RETURN_IF_ERROR(ToStatus(cudaEventRecord(begin_, stream_), "an event"));
      RETURN_IF_ERROR(body());
      RETURN_IF_ERROR(ToStatus(cudaEventRecord(end_, stream_), "an event"));
      RETURN_IF_ERROR(ToStatus(cudaEventSynchronize(end_), "waiting"));
      float milliseconds = 0;
      RETURN_IF_ERROR(ToStatus(cudaEventElapsedTime(&milliseconds, begin_, end_), "a time"));
      if (i >= 0) seconds.push_back(milliseconds * 1e-3);
    }
    return MedianOf(seconds);
  }

  // bfloat16 of about ±1: zeros would be faster than what people compute.
  Status FillRandom(uint16_t* to, size_t n) {
    constexpr size_t kPiece = size_t{1} << 20;
    std::vector<uint16_t> values(std::min(n, kPiece));
    std::mt19937 random(7);
    for (uint16_t& v : values) v = static_cast<uint16_t>(0x3f00 | (random() & 0x80ff));
    for (size_t at = 0; at < n; at += kPiece) {
      RETURN_IF_ERROR(CopyToDevice(to + at, values.data(), 2 * std::min(kPiece, n - at), "random values"));
    }
    return absl::OkStatus();
  }

  const int index_;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
  std::vector<cudaEvent_t> marks_;
  std::unique_ptr<cuda::VendorHandle> vendor_;
};

}  // namespace

StatusOr<std::unique_ptr<BenchDevice>> OpenCudaDevice(int device) { return CudaDevice::Open(device); }

}  // namespace coterie::bench
