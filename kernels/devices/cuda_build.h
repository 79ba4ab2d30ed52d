#ifndef COTERIE_KERNELS_DEVICES_CUDA_BUILD_H_
#define COTERIE_KERNELS_DEVICES_CUDA_BUILD_H_

#include <string>
#include <vector>

namespace coterie::devices {

// What of CUDA a build has.
struct CudaBuild {
  enum class Mode {
    kNone,      // built without nvcc
    kDevices,   // for the GPUs of `architectures`
    kEmulated,  // "cuda:N" is an emulation on the CPU (tests/gpu/emulation)
    kAny,       // needs no code of ours on the device: any GPU that a driver shows will do (--fake)
  };
  Mode mode = Mode::kNone;
  int toolkit_version = 0;                 // 1000 * major + 10 * minor
  std::vector<std::string> architectures;  // compute capabilities with code for them: "80", "90a"

  // Whether there is code for a GPU of this compute capability. "80" runs on 8.0 and later ones of 8.x, "90a"
  // on 9.0 alone.
  bool HasCodeFor(int major, int minor) const;
};

CudaBuild ThisCudaBuild();

// "13.0" of 13000.
std::string CudaVersionText(int version);

}  // namespace coterie::devices

#endif  // COTERIE_KERNELS_DEVICES_CUDA_BUILD_H_
